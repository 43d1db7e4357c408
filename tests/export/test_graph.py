"""The exported graph says what torch says, in a tidy form."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lively import lively_model

from limbnet.export.graph import build_graph, model_hash
from limbnet.export.half import to_half
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import INFO_KEY, OnnxNetwork, network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.openvino_engine import from_network
from limbnet.runtime.signature import Signature
from limbnet.runtime.torch_engine import TorchEngine


def run(graph, info, signature, pictures):
    return OnnxRuntimeEngine(OnnxNetwork("memory", graph, info, signature, ""), threads=1).run(pictures)


@pytest.fixture
def graph(network):
    return network.model


def test_maps_equal_torch_for_any_batch_and_size(graph, model: BodyPoseNet, info: ModelInfo, pictures) -> None:
    torch_engine = TorchEngine(lively_model(), info)
    for part in (pictures[:1], pictures, pictures[:2, :48, :64], pictures[:1, :, :88]):
        expected, found = torch_engine.run(part), run(graph, info, Signature(), part)
        assert np.ptp(expected.heatmaps) > 0.5  # maps that say something
        np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=1e-4 * np.ptp(expected.heatmaps))
        np.testing.assert_allclose(found.pafs, expected.pafs, atol=1e-4 * np.ptp(expected.pafs))


def test_graph_is_tidy(graph, model: BodyPoseNet, info: ModelInfo) -> None:
    kinds = {node.op_type for node in graph.graph.node}
    assert kinds == {"Cast", "Div", "Sub", "Transpose", "Conv", "Relu", "Concat"}  # no batch norm, no padding
    convs = [node.name for node in graph.graph.node if node.op_type == "Conv"]
    assert sorted(name.removesuffix("/conv") for name in convs) == sorted(model.conv_layers())
    assert [value.name for value in graph.graph.output] == ["heatmap_out", "paf_out"]
    sides = [dim.dim_param or dim.dim_value for dim in graph.graph.input[0].type.tensor_type.shape.dim]
    assert sides == ["batch", "height", "width", 3]
    metadata = {entry.key: entry.value for entry in graph.metadata_props}
    assert ModelInfo.from_dict(json.loads(metadata[INFO_KEY])) == info


def test_same_network_gives_same_bytes(graph, model: BodyPoseNet, info: ModelInfo) -> None:
    assert build_graph(model, info, Signature()).SerializeToString() == graph.SerializeToString()


@pytest.mark.parametrize(
    "signature",
    [
        Signature(input_type="float32", data_format="channels_first"),
        Signature(precision="fp16", fixed_size=(64, 96), fixed_batch=4),
        Signature(paf_upsampling=4, heatmap_name="heatmap_out/BiasAdd:0", paf_name="conv2d_transpose_1/BiasAdd:0"),
    ],
    ids=["float32-channels_first", "fp16-fixed", "sdk"],
)
def test_every_signature_gives_the_same_maps(signature: Signature, pictures) -> None:
    model = lively_model(1)
    info = ModelInfo(model.skeleton, colour_order="bgr", image_scale=(58.0, 57.0, 57.5), image_offset=(2.1, 2.0, 1.8))
    expected = TorchEngine(lively_model(1), info).run(pictures)
    graph = build_graph(model, info, signature)
    graph = to_half(graph) if signature.precision == "fp16" else graph
    found = run(graph, info, signature, pictures)
    tolerance = 2e-2 if signature.precision == "fp16" else 1e-4
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=tolerance * np.ptp(expected.heatmaps))
    np.testing.assert_allclose(found.pafs, expected.pafs, atol=tolerance * np.ptp(expected.pafs))
    if signature.paf_upsampling == 4:  # every cell is repeated, nothing is interpolated
        engine = OnnxRuntimeEngine(OnnxNetwork("memory", graph, info, signature, ""), threads=1)
        raw = engine._session.run([signature.paf_name], {"input_1:0": pictures})[0]
        assert raw.shape == (4, 32, 48, 6)
        np.testing.assert_array_equal(raw, raw[:, ::4, ::4].repeat(4, 1).repeat(4, 2))


@pytest.mark.parametrize("opened", [OnnxRuntimeEngine, from_network])
def test_a_fixed_batch_takes_fewer_pictures(opened, model: BodyPoseNet, info: ModelInfo, pictures) -> None:
    expected = TorchEngine(lively_model(), info).run(pictures[:3])
    for mode in ({"data_format": "channels_first"}, {"input_type": "float32"}):
        network = network_of(build_graph(model, info, Signature(fixed_batch=2, **mode)), Path("two.onnx"))
        engine = opened(network, threads=1)
        assert (engine.max_batch, engine.preferred_batch) == (2, 2)
        answers = [engine.run(pictures[:2]), engine.run(pictures[2:3])]
        assert [len(answer) for answer in answers] == [2, 1]
        found = np.concatenate([answer.heatmaps for answer in answers])
        np.testing.assert_allclose(found, expected.heatmaps, atol=1e-4 * np.ptp(expected.heatmaps))


def test_hash_follows_weights_and_normalisation(info: ModelInfo) -> None:
    first = model_hash(lively_model(), info)
    assert first == model_hash(lively_model(), info)
    assert first != model_hash(lively_model(3), info)
    assert first != model_hash(lively_model(), replace(info, image_scale=(255.0, 255.0, 255.0)))
