"""ONNX files: limbnet's own, TAO's without metadata, and those that are no pose network."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from limbnet.encryption import seal
from limbnet.errors import ModelFileError, SpecError
from limbnet.models.info import ModelInfo
from limbnet.runtime.load import load_engine
from limbnet.runtime.onnx_file import INFO_KEY, SIGNATURE_KEY, guess_signature, read_onnx
from limbnet.runtime.signature import Signature
from limbnet.skeleton import BODY_18, Skeleton

SQUARE = Skeleton.from_names("square", ("a", "b", "c"), [("a", "b"), ("b", "c")])  # K + 1 = 2 L = 4


def tao_file(
    outputs: dict[str, int], shape: tuple = ("n", "h", "w", 3), element: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """A network as tf2onnx leaves it: NHWC outside, NCHW inside, 8x8 mean colours times random weights, no metadata."""
    rng = np.random.default_rng(0)
    nodes, constants = [], []
    source = "input_1:0"
    if element == TensorProto.UINT8:
        nodes.append(helper.make_node("Cast", [source], ["floats"], to=TensorProto.FLOAT))
        source = "floats"
    nhwc = shape[-1] == 3
    if nhwc:
        nodes.append(helper.make_node("Transpose", [source], ["nchw"], perm=[0, 3, 1, 2]))
        source = "nchw"
    nodes.append(helper.make_node("AveragePool", [source], ["mean"], kernel_shape=[8, 8], strides=[8, 8]))
    values = []
    for name, channels in outputs.items():
        constants.append(numpy_helper.from_array(rng.normal(size=(channels, 3, 1, 1)).astype(np.float32), f"{name}/w"))
        nodes.append(helper.make_node("Conv", ["mean", f"{name}/w"], [f"{name}/nchw" if nhwc else name]))
        if nhwc:
            nodes.append(helper.make_node("Transpose", [f"{name}/nchw"], [name], perm=[0, 2, 3, 1]))
        sides = ["n", "a", "b", channels] if nhwc else ["n", channels, "a", "b"]
        values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, sides))
    graph = helper.make_graph(
        nodes, "tao", [helper.make_tensor_value_info("input_1:0", element, list(shape))], values, constants
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 10)], ir_version=5)


def written(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


BODY_OUTPUTS = {"paf_out/BiasAdd:0": 38, "heatmap_out/BiasAdd:0": 19}


def test_a_file_of_taos_runs_with_what_the_caller_knows(tmp_path: Path) -> None:
    path = written(tao_file(BODY_OUTPUTS), tmp_path / "tao.onnx")
    engine = load_engine(path, fallback=lambda: ModelInfo(BODY_18), threads=1)
    pictures = np.random.default_rng(1).integers(0, 256, (2, 16, 24, 3), dtype=np.uint8)
    maps = engine.run(pictures)
    assert (maps.heatmaps.shape, maps.pafs.shape) == ((2, 19, 2, 3), (2, 38, 2, 3))
    seen = (pictures.astype(np.float64) - 128) / 256  # upstream's floats, made outside the graph
    mean = seen.reshape(2, 2, 8, 3, 8, 3).mean(axis=(2, 4))
    weight = numpy_helper.to_array(tao_file(BODY_OUTPUTS).graph.initializer[1])[:, :, 0, 0]
    np.testing.assert_allclose(maps.heatmaps, np.einsum("bhwc,kc->bkhw", mean, weight), atol=1e-5)
    openvino = load_engine(path, fallback=lambda: ModelInfo(BODY_18), threads=1, engine="openvino").run(pictures)
    np.testing.assert_allclose(openvino.pafs, maps.pafs, atol=1e-5)


def test_without_knowledge_such_a_file_is_refused_with_what_to_give(tmp_path: Path) -> None:
    path = written(tao_file(BODY_OUTPUTS), tmp_path / "tao.onnx")
    with pytest.raises(ModelFileError, match="says nothing about its skeleton") as error:
        read_onnx(path)
    assert "train_spec" in error.value.todo


@pytest.mark.parametrize("channels_first", [False, True])
@pytest.mark.parametrize("element", [TensorProto.FLOAT, TensorProto.UINT8])
def test_layout_and_type_follow_from_the_input(channels_first: bool, element: int) -> None:
    shape = ("n", 3, 288, 384) if channels_first else (1, 288, 384, 3)
    signature = guess_signature(tao_file(BODY_OUTPUTS, shape, element), ModelInfo(BODY_18), Path("x"))
    assert signature.data_format == ("channels_first" if channels_first else "channels_last")
    assert signature.input_type == ("float32" if element == TensorProto.FLOAT else "uint8")
    assert (signature.heatmap_name, signature.paf_name) == ("heatmap_out/BiasAdd:0", "paf_out/BiasAdd:0")


def test_equal_channel_counts_are_told_apart_by_name() -> None:
    named = guess_signature(tao_file({"my_pafs": 4, "other": 4}), ModelInfo(SQUARE), Path("x"))
    assert (named.heatmap_name, named.paf_name) == ("other", "my_pafs")
    plain = guess_signature(tao_file({"one": 4, "two": 4}), ModelInfo(SQUARE), Path("x"))
    assert (plain.heatmap_name, plain.paf_name) == ("one", "two")


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (tao_file({"logits": 1000}), "its outputs are logits \\(1000 channels\\)"),
        (tao_file({"heat": 18, "paf": 38}), "one output of 19 heatmaps"),
        (tao_file(BODY_OUTPUTS, ("n", "h", "w", 4)), "not pictures of 3 channels"),
    ],
)
def test_files_that_are_no_pose_network(model: onnx.ModelProto, says: str, tmp_path: Path) -> None:
    path = written(model, tmp_path / "other.onnx")
    with pytest.raises(ModelFileError, match=f"no pose network that limbnet knows: .*{says}"):
        read_onnx(path, fallback=lambda: ModelInfo(BODY_18))


def test_a_network_of_two_inputs_is_none(tmp_path: Path) -> None:
    model = tao_file(BODY_OUTPUTS)
    model.graph.input.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, [1]))
    with pytest.raises(ModelFileError, match="it has 2 inputs"):
        read_onnx(written(model, tmp_path / "two.onnx"))


def test_damaged_and_foreign_files(tmp_path: Path) -> None:
    content = tao_file(BODY_OUTPUTS).SerializeToString()
    (tmp_path / "cut.onnx").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelFileError, match="damaged"):
        read_onnx(tmp_path / "cut.onnx", fallback=lambda: ModelInfo(BODY_18))
    (tmp_path / "text.onnx").write_text("hello, this is text")
    with pytest.raises(ModelFileError, match="a text file, not an ONNX file"):
        read_onnx(tmp_path / "text.onnx")
    with pytest.raises(ModelFileError, match="no file"):
        read_onnx(tmp_path / "missing.onnx")


def test_metadata_and_fixed_sides_are_read(tmp_path: Path) -> None:
    model = tao_file({"a": 19, "b": 38}, (4, 64, 96, 3))
    info = ModelInfo(BODY_18, input_size=(64, 96), version="1")
    signature = Signature(heatmap_name="a", paf_name="b", input_type="float32", precision="fp16")
    model.metadata_props.add(key=INFO_KEY, value=json.dumps(info.to_dict()))
    model.metadata_props.add(key=SIGNATURE_KEY, value=json.dumps(signature.to_dict() | {"of_a_newer_version": 1}))
    network = read_onnx(written(model, tmp_path / "own.onnx"))
    assert network.info == info
    assert (network.signature.fixed_size, network.signature.fixed_batch) == ((64, 96), 4)
    assert network.signature.precision == "fp16"
    with pytest.raises(SpecError, match="holds the last stage's maps only"):
        load_engine(tmp_path / "own.onnx", output_stage=1)


def test_encrypted_files_need_their_key(tmp_path: Path) -> None:
    path = tmp_path / "sealed.etlt"
    path.write_bytes(seal(tao_file(BODY_OUTPUTS).SerializeToString(), "secret"))
    engine = load_engine(path, key="secret", fallback=lambda: ModelInfo(BODY_18), threads=1)
    assert engine.name == "onnxruntime fp32"
    for key in (None, "wrong"):
        with pytest.raises(ModelFileError, match=r"(?i)key"):
            load_engine(path, key=key, fallback=lambda: ModelInfo(BODY_18))
    changed = bytearray(path.read_bytes())
    changed[len(changed) // 2] ^= 1
    path.write_bytes(changed)
    with pytest.raises(ModelFileError, match=r"damaged|changed"):
        load_engine(path, key="secret", fallback=lambda: ModelInfo(BODY_18))
