"""Light networks in ONNX: any size of picture, sums of strides, ReLU6 and depthwise convolutions in INT8."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lively import STICK, lively_model
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from limbnet.export.calibrate import calibrate
from limbnet.export.dequantise import dequantise
from limbnet.export.executed import share_in_onnxruntime, share_in_openvino
from limbnet.export.graph import build_graph, each_use
from limbnet.export.quantise import calibrated_tensors, head_layers, int8_weight, quantise
from limbnet.models.bodyposenet import BodyPoseNet, build_from_architecture
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.sharing import share_constants
from limbnet.runtime.signature import Signature
from limbnet.runtime.torch_engine import TorchEngine
from limbnet.runtime.unsigned import SATURATING, with_unsigned_activations
from limbnet.specs.train import BackboneAttributes

pytestmark = pytest.mark.slow  # torch takes long to trace 75 convolutions

INFO = ModelInfo(STICK, image_scale=(128.0,) * 3, image_offset=(0.9921875,) * 3)


@pytest.fixture(scope="module")
def light() -> BodyPoseNet:
    model = lively_model(
        class_name="BpNetLightModel",
        backbone_attributes=BackboneAttributes(architecture="efficientnet_lite0", width=0.25),
        stage1_kernel_sizes=(5,),
        stageT_kernel_sizes=(7,),
    )
    # Statistics of real activations: with 50 layers made-up ones would let values vanish or grow.
    model.train()
    with torch.no_grad():
        for norm in (layer for layer in model.values() if isinstance(layer, torch.nn.BatchNorm2d)):
            norm.momentum = 0.5
        for seed in range(6):
            torch.manual_seed(seed)
            model(torch.randn(4, 3, 64, 96))
    return model.eval()


@pytest.fixture(scope="module")
def graph(light: BodyPoseNet) -> ModelProto:
    return build_graph(light, INFO, Signature())


@pytest.mark.parametrize("size", [(64, 96), (72, 88), (40, 136)])
def test_the_graph_takes_any_multiple_of_eight(light: BodyPoseNet, graph: ModelProto, size: tuple[int, int]) -> None:
    operations = [node.op_type for node in graph.graph.node]
    assert operations.count("Div") == 1  # the normalisation: no arithmetic on sizes
    assert not {"BatchNormalization", "Pad", "Reshape", "Slice"} & set(operations)
    pixels = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    expected = TorchEngine(light, INFO).run(pixels)
    found = OnnxRuntimeEngine(network_of(graph, Path("light.onnx")), threads=1).run(pixels)
    for ours, theirs in ((found.heatmaps, expected.heatmaps), (found.pafs, expected.pafs)):
        np.testing.assert_allclose(ours, theirs, atol=1e-3 * np.ptp(theirs))


def test_int8_runs_as_integers_in_both_runtimes(
    light: BodyPoseNet, graph: ModelProto, pictures: NDArray[np.uint8]
) -> None:
    normalised = pictures.astype(np.float32) / 128 - np.float32(INFO.image_offset[0])
    ranges = calibrate(graph, calibrated_tensors(graph), [normalised], INFO, method="minmax", threads=1)
    assert max(limit for name, limit in ranges.items() if name.endswith("/clip")) <= 6
    quantised = quantise(graph, ranges, head_layers(graph))
    assert "Clip" not in {node.op_type for node in quantised.graph.node if "depthwise" in node.name}
    assert share_in_openvino(quantised).share > 0.85
    assert share_in_onnxruntime(quantised).share > 0.85  # in spite of residual sums, which two operations read
    scales = {t.name: numpy_helper.to_array(t).item() for t in with_unsigned_activations(quantised).graph.initializer
              if "/clip/scale" in t.name}  # fmt: skip
    finer = {name: scale for name, scale in scales.items() if name.endswith("/unsigned")}
    assert len(finer) > 20
    for name, scale in finer.items():  # 255 steps end where 127 ended: what stood for ReLU6's bound still does
        assert scale * 255 == pytest.approx(scales[name.removesuffix("/unsigned")] * 127, rel=1e-6)
    expected = TorchEngine(light, INFO).run(pictures)
    found = OnnxRuntimeEngine(network_of(quantised, Path("light.int8.onnx")), threads=1).run(pictures)
    for ours, theirs in ((found.heatmaps, expected.heatmaps), (found.pafs, expected.pafs)):
        assert np.abs(ours - theirs).mean() < 0.06 * np.ptp(theirs)


def test_relu6_is_bounded_again_when_int8_is_taken_out(graph: ModelProto) -> None:
    tensors = calibrated_tensors(graph)
    quantised = quantise(graph, dict.fromkeys(tensors, 5.0), head_layers(graph))
    assert any(node.doc_string == SATURATING for node in quantised.graph.node)
    back = dequantise(quantised)
    assert not any(node.doc_string == SATURATING for node in back.graph.node)
    count = [[node.op_type for node in one.graph.node].count("Clip") for one in (graph, back)]
    assert count[0] == count[1] > 0
    bounds = {node.input[2] for node in back.graph.node if node.op_type == "Clip" and node.input[2].endswith("highest")}
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in back.graph.initializer}
    assert bounds
    assert all(stored[name].shape == () and float(stored[name]) == pytest.approx(5.0) for name in bounds)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), dtype=np.uint8)
    maps = OnnxRuntimeEngine(network_of(back, Path("back.onnx")), threads=1).run(pixels)
    assert np.isfinite(maps.heatmaps).all()


def test_the_bias_of_a_dead_channel_fits_into_32_bits() -> None:
    """Batch norm folded over a channel of no variance leaves weights of 1e-12 beside a bias of 2."""
    weight = np.full((2, 1, 3, 3), 0.5, np.float32)
    weight[1] = 1e-12
    bias, input_scale = 2.0, 6 / 127
    _, plain = int8_weight(weight)
    assert bias / (input_scale * plain[1]) > 2**31
    stored, scale = int8_weight(weight, np.full(2, bias / (input_scale * 2**30), np.float32))
    assert scale[0] == plain[0]
    assert bias / (input_scale * scale[1]) <= 2**30 * 1.001
    assert not stored[1].any()


def test_an_image_pyramid_in_float_and_int8(light: BodyPoseNet, graph: ModelProto, pictures: NDArray[np.uint8]) -> None:
    """Each level's use of a layer has ranges of its own; weights that stayed alike are stored once."""
    model = build_from_architecture(light.architecture | {"image_pyramid_levels": 2}, light.skeleton).eval()
    model.load_state_dict(light.state_dict())
    both = build_graph(model, INFO, Signature())
    assert set(head_layers(both)) == {*head_layers(graph), *(f"level2/{name}" for name in head_layers(graph))}
    assert each_use(both, ["stem_conv"]) == ["stem_conv", "level2/stem_conv"]
    normalised = pictures.astype(np.float32) / 128 - np.float32(INFO.image_offset[0])
    ranges = calibrate(both, calibrated_tensors(both), [normalised], INFO, method="minmax", threads=1)
    quantised = quantise(both, ranges, head_layers(both))
    expected = TorchEngine(model, INFO).run(pictures)
    for made, allowed in ((both, 1e-5), (quantised, 0.06)):
        stored = made.ByteSize()
        share_constants(made)
        assert made.ByteSize() < 0.75 * stored
        found = OnnxRuntimeEngine(network_of(made, Path("pyramid.onnx")), threads=1).run(pictures)
        for ours, theirs in ((found.heatmaps, expected.heatmaps), (found.pafs, expected.pafs)):
            assert np.abs(ours - theirs).mean() < allowed * np.ptp(theirs)
    assert share_in_openvino(quantised).share > 0.85  # although weights are shared
    odd = np.ascontiguousarray(pictures[:, :40, :72])  # whose half has rounded sides
    found = OnnxRuntimeEngine(network_of(both, Path("pyramid.onnx")), threads=1).run(odd)
    assert np.abs(found.pafs - TorchEngine(model, INFO).run(odd).pafs).max() < 1e-4 * np.ptp(found.pafs)
    assert np.isfinite(
        OnnxRuntimeEngine(network_of(dequantise(quantised), Path("a.onnx")), threads=1).run(odd).pafs
    ).all()
