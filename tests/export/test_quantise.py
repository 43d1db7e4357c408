"""The INT8 graph: its form, its arithmetic against a slow clear twin, and its meaning to every runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from lively import lively_model
from onnx import numpy_helper
from torch import nn

from limbnet.data.calibration import normalised
from limbnet.errors import SpecError
from limbnet.export.calibrate import calibrate, input_range
from limbnet.export.graph import build_graph
from limbnet.export.quantise import calibrated_tensors, head_layers, int8_weight, quantise, quantised_tensors
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import OnnxNetwork, network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.openvino_engine import from_network
from limbnet.runtime.signature import Signature
from limbnet.runtime.torch_engine import TorchEngine
from limbnet.runtime.unsigned import with_unsigned_activations
from limbnet.specs.train import BackboneAttributes

HEADS = [
    "stage1/cmap/conv4", "stage1/heat_branch/out", "stage1/paf/conv4", "stage1/paf_branch/out",
    "stage2/cmap/conv6", "heatmap_out", "stage2/paf/conv6", "paf_out",
]  # fmt: skip


def constants(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def test_heads_are_found_by_the_wiring(network: OnnxNetwork) -> None:
    assert sorted(head_layers(network.model)) == sorted(HEADS)


def test_form_is_what_tensorrt_accepts(int8_network: OnnxNetwork) -> None:
    onnx.checker.check_model(int8_network.model, full_check=True)
    stored = constants(int8_network.model)
    producers = {node.output[0]: node for node in int8_network.model.graph.node}
    convs = [node for node in int8_network.model.graph.node if node.op_type == "Conv"]
    integer = [node for node in convs if node.input[1] not in stored]
    assert {node.input[1].removesuffix(".weight") for node in convs if node.input[1] in stored} == set(HEADS)
    assert len(integer) == len(convs) - len(HEADS)
    for node in integer:
        weight = producers[node.input[1]]
        values, scale = stored[weight.input[0]], stored[weight.input[1]]
        assert values.dtype == np.int8
        assert scale.shape == (len(values),)  # one for each output channel
        assert np.abs(values.astype(int)).max() <= 127
        assert producers[node.input[0]].op_type == "DequantizeLinear"
        assert all(name in stored and stored[name].dtype == np.float32 for name in node.input[2:])  # float biases
    for node in int8_network.model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            zero = stored[node.input[2]]
            assert zero.dtype == np.int8
            assert not zero.any()


def fake_quantised(values: torch.Tensor, limit: float) -> torch.Tensor:
    scale = np.float32(limit / 127)
    return torch.clamp(torch.round(values / scale), -128, 127) * scale


def tapped(model: onnx.ModelProto, pictures: np.ndarray) -> dict[str, torch.Tensor]:
    """Every activation of a graph, computed node by node as the file says."""
    copied = onnx.ModelProto()
    copied.CopyFrom(model)
    names = [node.output[0] for node in model.graph.node if node.op_type in ("Conv", "Relu", "DequantizeLinear", "Mul")]
    del copied.graph.output[:]
    copied.graph.output.extend(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(copied.SerializeToString(), options, ["CPUExecutionProvider"])
    return {
        name: torch.from_numpy(value)
        for name, value in zip(names, session.run(names, {"input_1:0": pictures}), strict=True)
    }


def test_arithmetic_is_that_of_the_slow_twin(int8_network, ranges, pictures) -> None:
    """Each layer again by torch's own convolution, batch norm folded and values rounded by hand."""
    values = tapped(int8_network.model, pictures)
    model = lively_model()
    parts = ("channel_reduction_conv/relu", "stage1/heat_branch/out", "stage1/paf_branch/out")
    widest = max(ranges[name] for name in parts)
    factors = torch.cat(
        [torch.full((count,), widest / ranges[name]) for count, name in zip((16, 5, 6), parts, strict=True)]
    )
    checked = 0
    for node in int8_network.model.graph.node:
        name = node.input[1].removesuffix("/dequantized").removesuffix(".weight") if node.op_type == "Conv" else ""
        if not name or name in HEADS:
            continue
        conv, norm = model[name], model[name.replace("conv", "bn")] if name.startswith("block") else None
        weight, bias = conv.weight.detach(), None if conv.bias is None else conv.bias.detach()
        if norm is not None:
            factor = (norm.weight / torch.sqrt(norm.running_var + norm.eps)).detach()
            weight, bias = weight * factor[:, None, None, None], (norm.bias - norm.running_mean * factor).detach()
        if name == "stage2/conv1":
            weight = weight / factors[None, :, None, None]
            joined = torch.cat([values.get(f"{part}/dequantized", values[part]) for part in parts], dim=1)
            expected = fake_quantised(joined * factors[None, :, None, None], widest)
            torch.testing.assert_close(values[node.input[0]], expected, atol=1e-5, rtol=1e-5)
        scale = weight.abs().amax(dim=(1, 2, 3), keepdim=True) / 127
        weight = torch.round(weight / scale) * scale
        torch.testing.assert_close(values[node.input[1]], weight, atol=1e-5, rtol=1e-5)
        margins = getattr(conv, "margins", (0, 0, 0, 0))
        x = nn.functional.pad(values[node.input[0]], margins)
        y = torch.relu(nn.functional.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation))
        steps = (fake_quantised(y, ranges[f"{name}/relu"]) - values[f"{name}/relu/dequantized"]).abs() / (
            ranges[f"{name}/relu"] / 127
        )
        assert steps.max() < 1.01  # a value in the middle between two steps may be rounded either way
        assert (steps > 0.5).float().mean() < 1e-3
        checked += 1
    assert checked == 20


def test_maps_stay_near_the_float_ones(network: OnnxNetwork, int8_network: OnnxNetwork, pictures) -> None:
    expected = OnnxRuntimeEngine(network, threads=1).run(pictures)
    for engine in (OnnxRuntimeEngine(int8_network, threads=1), from_network(int8_network, threads=1)):
        found = engine.run(pictures)
        for kind in ("heatmaps", "pafs"):
            difference = np.abs(getattr(found, kind) - getattr(expected, kind)) / np.ptp(getattr(expected, kind))
            assert 1e-5 < difference.mean() < 5e-3


@pytest.mark.parametrize(
    "options",
    [
        {"class_name": "BpNetModel", "use_self_attention": True},
        {"backbone_attributes": BackboneAttributes(architecture="resnet", nlayers=18, width=0.1)},
    ],
    ids=["full-attention", "resnet"],
)
def test_every_architecture_in_every_runtime(options, info: ModelInfo, calibration_pictures, pictures) -> None:
    expected = TorchEngine(lively_model(4, **options), info).run(pictures)
    graph = build_graph(lively_model(4, **options), info, Signature())
    found = OnnxRuntimeEngine(network_of(graph, Path("float.onnx")), threads=1).run(pictures)
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=1e-4 * np.ptp(expected.heatmaps))
    np.testing.assert_allclose(found.pafs, expected.pafs, atol=1e-4 * np.ptp(expected.pafs))
    tensors = calibrated_tensors(graph)
    ranges = calibrate(graph, tensors, calibration_pictures, info, method="minmax", threads=1)
    for kept in (head_layers(graph), ()):
        quantised = network_of(quantise(graph, ranges, kept), Path("int8.onnx"))
        runtimes = (OnnxRuntimeEngine(quantised, threads=1), from_network(quantised, threads=1))
        for kind in ("heatmaps", "pafs"):
            maps = getattr(expected, kind)
            far = [np.abs(getattr(engine.run(pictures), kind) - maps).mean() / np.ptp(maps) for engine in runtimes]
            assert max(far) < 1.5e-2
            assert max(far) < 1.5 * min(far)  # a runtime that misreads the graph is ten times further off


def test_unknown_float_layers_are_named(network: OnnxNetwork, ranges) -> None:
    with pytest.raises(SpecError, match=r"no layer 'stage1/conv9'\. Did you mean 'stage1/conv") as error:
        quantise(network.model, ranges, ["stage1/conv9", "nothing"])
    assert "no layer 'nothing'" in str(error.value)
    assert "stage2/conv5" in error.value.todo


def test_keeping_everything_in_float_changes_nothing(network: OnnxNetwork, ranges, pictures) -> None:
    layers = [node.input[1].removesuffix(".weight") for node in network.model.graph.node if node.op_type == "Conv"]
    assert quantised_tensors(network.model, layers) == []
    same = network_of(quantise(network.model, ranges, layers), Path("same.onnx"))
    expected, found = (OnnxRuntimeEngine(one, threads=1).run(pictures) for one in (network, same))
    np.testing.assert_array_equal(found.heatmaps, expected.heatmaps)


def test_pixels_are_quantised_without_loss(info: ModelInfo) -> None:
    limit = input_range(info)
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 256, 1).repeat(3, axis=-1)
    seen = torch.from_numpy(normalised(pixels, info))
    assert torch.equal(fake_quantised(seen, limit), seen)
    other = ModelInfo(info.skeleton, image_scale=(58.0, 57.0, 57.0), image_offset=(2.0, 2.0, 1.8))
    assert input_range(other) == pytest.approx(255 / 57 - 1.8)


def test_weights_round_to_the_nearest_step() -> None:
    weight = np.array([[0.0, 0.0], [1.27, -0.634], [-2.54, 0.029]], np.float32).reshape(3, 2, 1, 1)
    stored, scale = int8_weight(weight)
    np.testing.assert_allclose(scale, [1, 0.01, 0.02], rtol=1e-6)
    np.testing.assert_array_equal(stored.reshape(3, 2), [[0, 0], [127, -63], [-127, 1]])


def test_unsigned_activations_hold_the_same_steps(int8_network: OnnxNetwork) -> None:
    changed = with_unsigned_activations(int8_network.model)
    before = {node.name: node for node in int8_network.model.graph.node}
    stored = constants(changed)
    rectified = {node.output[0] for node in changed.graph.node if node.op_type == "Relu"}
    turned = 0
    for node in changed.graph.node:
        if node.op_type == "QuantizeLinear":
            assert node.input[1] == before[node.name].input[1]  # the scale stays
            zero = stored[node.input[2]]
            assert zero.dtype == np.uint8
            assert zero == (0 if node.input[0] in rectified else 128)
            turned += node.input[0] in rectified
    assert turned > 15
    assert with_unsigned_activations(changed) is changed
    assert "limbnet/unsigned_zero" not in constants(int8_network.model)  # the file itself is left alone
