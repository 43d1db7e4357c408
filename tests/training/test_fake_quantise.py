"""Quantisation-aware training against the INT8 export that it stands for."""

from __future__ import annotations

import copy
import json
import logging
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper

from limbnet.errors import ModelFileError, SpecError, UsageError
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.graph import build_graph, model_hash
from limbnet.export.int8 import Calibration, find_source
from limbnet.export.quantise import head_layers, int8_weight, quantise
from limbnet.export.stored_ranges import stored_ranges
from limbnet.models.bodyposenet import BodyPoseNet, build_model
from limbnet.models.checkpoint import load_model
from limbnet.models.info import ModelInfo
from limbnet.pruning import PruneSettings, prune
from limbnet.skeleton import BODY_18, Skeleton
from limbnet.specs.load import load_train_spec
from limbnet.specs.train import BackboneAttributes, ModelSpec, TrainSpec
from limbnet.training import fake_quantise
from limbnet.training.fake_quantise import FakeQuantised, best_range
from limbnet.training.int8_plan import Step
from limbnet.training.loop import train

from .conftest import MakeSpec
from .test_resume import outcome, train_until

STICK = Skeleton.from_names("stick", ("head", "hand", "foot"), [("head", "hand"), ("head", "foot")])

HELNET = {"architecture": "helnet", "nlayers": 6, "mtype": "s8_3rdblock", "use_batch_norm": False, "width": 0.1}

NARROW = {"backbone_attributes": HELNET, "stage1_kernel_sizes": [3], "stageT_kernel_sizes": [3]}

NETWORKS: dict[str, dict[str, Any]] = {
    "vgg with batch norm and attention": {"use_self_attention": True},
    "resnet with sums and pooling": {"architecture": "resnet", "nlayers": 18},
    "separable with ReLU6": {"class_name": "BpNetLightModel"},
    "pyramid": {"architecture": "efficientnet_lite0", "class_name": "BpNetLightModel"},
}


def network(architecture: str = "vgg", nlayers: int | None = None, **options: Any) -> BodyPoseNet:
    """Build a narrow network whose batch norms have seen something."""
    torch.manual_seed(1)
    backbone = BackboneAttributes(architecture=architecture, nlayers=nlayers, width=0.1)
    spec = ModelSpec(
        backbone_attributes=backbone, width=0.1, stages=2, stage1_kernel_sizes=(3,), stageT_kernel_sizes=(3,),
        kernel_initializer="xavier", **options,
    )  # fmt: skip
    model = build_model(spec, STICK).train()
    for _ in range(3):
        model(torch.randn(2, 3, 32, 32))
    return model


def info_of(model: BodyPoseNet) -> ModelInfo:
    return ModelInfo(model.skeleton, stride=model.stride, input_size=(32, 48))


@cache
def prepared(kind: str) -> tuple[FakeQuantised, Any]:
    """Return a fresh one in training mode, and the float graph that its plan was made from."""
    graphs = []

    def kept(*arguments: Any) -> Any:
        graphs.append(build_graph(*arguments))
        return graphs[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fake_quantise, "build_graph", kept)
        model = network(**NETWORKS[kind])
        return FakeQuantised(model, info_of(model)).train(), graphs[0]


@pytest.fixture
def quantised() -> FakeQuantised:
    return copy.deepcopy(prepared("vgg with batch norm and attention")[0])


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=pytest.mark.long if kind == "pyramid" else ()) for kind in NETWORKS]
)
def test_it_computes_what_the_exported_graph_computes(kind: str) -> None:
    quantised, graph = copy.deepcopy(prepared(kind))
    model = quantised.model
    pixels = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), np.uint8)
    images = (torch.from_numpy(pixels).float() / 256 - 0.5).permute(0, 3, 1, 2)
    first = quantised(images)  # only observed: float, with batch norm's running statistics
    with torch.no_grad():
        plain = model.eval()(images)
    for maps, expected in zip(first.heatmaps + first.pafs, plain.heatmaps + plain.pafs, strict=True):
        torch.testing.assert_close(maps.detach(), expected, rtol=1e-4, atol=1e-5)

    exported, maps_of = run_exported(graph, quantised, pixels)
    computed: dict[str, torch.Tensor] = {}
    rounded = FakeQuantised._rounded

    def compared(self: FakeQuantised, x: torch.Tensor, step: Step) -> torch.Tensor:
        """Go on from the exported graph's value, so that a single value rounded to the other side stays single."""
        computed[step.output] = rounded(self, x, step)
        return torch.from_numpy(exported[step.output])

    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(FakeQuantised, "_rounded", compared)
        maps = quantised.eval()(images)
    assert computed.keys() == exported.keys()
    for name, values in computed.items():
        step = np.abs(exported[name]).max() / 127
        assert step > 0, name
        off = np.abs(values.numpy() - exported[name]) / step
        assert off.max() < 1.1, name
        assert np.mean(off > 0.1) < 5e-3, name
    for mine, theirs in zip((maps.heatmaps[-1], maps.pafs[-1]), maps_of, strict=True):
        np.testing.assert_allclose(mine.numpy(), theirs.transpose(0, 3, 1, 2), atol=1e-4)


def run_exported(
    graph: Any, quantised: FakeQuantised, pixels: NDArray[np.uint8]
) -> tuple[dict[str, NDArray[np.float32]], list[NDArray[np.float32]]]:
    """Quantise a graph as the exporter does and run it as it is written; return all rounded tensors, and the maps."""
    int8 = quantise(graph, quantised.named_ranges(), head_layers(graph))
    constants = {tensor.name for tensor in int8.graph.initializer}
    nodes = [node for node in int8.graph.node if node.op_type == "DequantizeLinear" and node.input[0] not in constants]
    names = [node.output[0] for node in nodes]
    int8.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(int8.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values = session.run([*names, "heatmap_out", "paf_out"], {"input_1:0": pixels})
    return dict(zip(names, values, strict=False)), values[-2:]


def test_weights_take_the_exported_values_and_pass_gradients_on(quantised: FakeQuantised) -> None:
    model = quantised.model
    images = torch.randn(2, 3, 32, 32)
    quantised(images)
    seen: dict[str, torch.Tensor] = {}
    convolve = torch.nn.functional.conv2d

    def watched(x: torch.Tensor, weight: torch.Tensor, *rest: Any, **options: Any) -> torch.Tensor:
        seen[str(len(seen))] = weight
        return convolve(x, weight, *rest, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.functional, "conv2d", watched)
        maps = quantised(images)
    conv, norm = model["block_1a_conv_1"], model["block_1a_bn_1"]
    folded = conv.weight * (norm.weight / torch.sqrt(norm.running_var + norm.eps)).reshape(-1, 1, 1, 1)
    steps, scale = int8_weight(folded.detach().numpy())
    np.testing.assert_allclose(
        seen["0"].detach().numpy(), steps * scale.reshape(-1, 1, 1, 1), atol=float(scale.max()) * 1e-3
    )
    statistics = {name: buffer.clone() for name, buffer in model.named_buffers()}
    (maps.heatmaps[-1].square().sum() + maps.pafs[0].sum()).backward()
    for name in ("block_1a_conv_1.weight", "block_1a_bn_1.weight", "stage2/conv1.weight", "heatmap_out.bias"):
        gradient = model.get_parameter(name).grad
        assert gradient is not None, name
        assert gradient.abs().sum() > 0, name
    assert all(torch.equal(buffer, statistics[name]) for name, buffer in model.named_buffers())


def test_a_range_cuts_off_what_is_not_worth_its_steps() -> None:
    torch.manual_seed(0)
    even = torch.rand(4000)
    assert float(best_range(even)) == pytest.approx(float(even.max()))
    lonely = torch.cat(
        [even, torch.tensor([1.3])]
    )  # one value beyond: costs less to cut off than coarser steps for all
    shares = np.linspace(1, 0.25, 16) * 1.3
    errors = []
    for limit in shares:
        step = limit / 127
        errors.append(np.mean((np.clip(np.rint(lonely.numpy() / step), 0, 127) * step - lonely.numpy()) ** 2))
    assert float(best_range(lonely)) == pytest.approx(shares[int(np.argmin(errors))], rel=1e-6)
    assert float(best_range(-lonely)) == float(best_range(lonely))
    assert float(best_range(torch.zeros(5))) == 0


def test_ranges_follow_the_batches(quantised: FakeQuantised) -> None:
    model = quantised.model
    assert quantised.named_ranges() == {}
    images = torch.rand(1, 3, 32, 32) - 0.5
    quantised(images)
    first = quantised.named_ranges()
    with torch.no_grad():
        expected = model.eval()["block_1a_bn_1"](model["block_1a_conv_1"](images)).relu()
    assert first["block_1a_conv_1/relu"] == pytest.approx(float(best_range(expected)), rel=1e-5)
    assert first["input/transpose"] == pytest.approx(127 / 256)  # every pixel lies on a step
    quantised(images)
    second = quantised.named_ranges()
    quantised.eval()(2 * images)
    assert quantised.named_ranges() == second
    assert second["input/transpose"] == first["input/transpose"]
    quantised.train()(torch.zeros_like(images))
    third = quantised.named_ranges()["block_1a_conv_1/relu"]
    assert 0 <= third < second["block_1a_conv_1/relu"]


@pytest.fixture(scope="module")
def trained(make_spec: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network to fine-tune."""
    folder = tmp_path_factory.mktemp("trained")
    return train(make_spec(num_epoch=1, model=NARROW), folder, device="cpu").model


@pytest.fixture(scope="module")
def spec(make_spec: MakeSpec, trained: Path) -> TrainSpec:
    return make_spec(
        num_epoch=4, quantize="int8", pretrained_weights=str(trained), load_graph=True, ema_decay=0.9,
        validation_every_n_epoch=4, model=NARROW,
    )  # fmt: skip


def cache_of_graphs() -> Any:
    """Return a `build_graph` that exports once: the plan follows from the architecture, and not from the weights."""
    graphs: list[Any] = []

    def build(*arguments: Any) -> Any:
        if not graphs:
            graphs.append(build_graph(*arguments))
        return graphs[0]

    return build


def test_fine_tuning_resumes_and_its_checkpoint_exports_without_pictures(
    spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fake_quantise, "build_graph", cache_of_graphs())
    result = train(spec, tmp_path / "unbroken", device="cpu")
    assert "AP" in result.history[-1]
    train_until(2, spec, tmp_path / "broken", monkeypatch)
    train(spec, tmp_path / "broken", device="cpu")
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "unbroken")

    with caplog.at_level(logging.INFO, "limbnet"):
        network, report = export_file(
            result.model, tmp_path / "int8.onnx", ExportSettings("int8", data_format="channels_first")
        )
    assert report.calibration == {"source": "training"}
    loaded = load_model(result.model)
    info, stored = loaded.info, loaded.info.extra["int8_ranges"]["ranges"]
    constants = {tensor.name: tensor for tensor in network.model.graph.initializer}
    scale = np.frombuffer(constants["conv1/relu/scale"].raw_data, np.float32)
    assert scale == pytest.approx(stored["conv1/relu"] / 127)

    with pytest.raises(UsageError, match="needs to see which values"):  # --force_ptq
        find_source(Calibration(anew=True), (64, 64), info, model_hash(loaded.model, info))
    pruned = prune(loaded.model, PruneSettings(0.5, granularity=1, min_filters=1))
    caplog.clear()
    assert stored_ranges(info, model_hash(pruned, info)) is None
    assert "belong to other weights" in caplog.text


def test_mistakes(make_spec: MakeSpec, tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    content = json.loads(make_spec().model_dump_json(by_alias=True, exclude_unset=True))
    path.write_text(json.dumps(content | {"quantize": "int8", "mixed_precision": True, "torch_compile": True}))
    with pytest.raises(SpecError, match=r"(?s)mixed_precision.*float32") as caught:
        load_train_spec(path)
    assert "quantize: needs a trained network" in str(caught.value)
    assert "torch_compile: cannot be true beside quantize" in str(caught.value)
    path.write_text(json.dumps(content | {"quantize": "int4"}))
    with pytest.raises(SpecError, match="int8"):
        load_train_spec(path)


def test_image_pyramids_are_refused() -> None:
    backbone = BackboneAttributes(architecture="efficientnet_lite0", width=0.25)
    spec = ModelSpec(class_name="BpNetLightModel", backbone_attributes=backbone, width=0.25, image_pyramid_levels=2)
    model = build_model(spec, BODY_18)
    with pytest.raises(ModelFileError, match="does not know image pyramids"):
        FakeQuantised(model, ModelInfo(BODY_18))
