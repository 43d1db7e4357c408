"""The Caffe reader against files written by Google's Protocol Buffers, and against broken ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from zoo_caffe import TYPES, caffemodel

from limbnet.errors import ModelFileError
from limbnet.models.zoo import CATALOGUE, create_model
from limbnet.models.zoo.caffe import read_caffemodel
from limbnet.models.zoo.weights import load_weights

RANDOM = np.random.default_rng(0)
LAYERS = {
    "conv1": [RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32), RANDOM.normal(size=4).astype(np.float32)],
    "relu1": [],
    "prelu1": [RANDOM.normal(size=4).astype(np.float32)],
}


def written(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("old_layers", [False, True])
@pytest.mark.parametrize("old_shapes", [False, True])
def test_blobs_come_back(tmp_path: Path, old_layers: bool, old_shapes: bool) -> None:
    state = read_caffemodel(written(tmp_path, caffemodel(LAYERS, old_layers, old_shapes)))
    assert list(state) == ["conv1.weight", "conv1.bias", "prelu1.weight"]
    weight, bias = LAYERS["conv1"]
    assert np.array_equal(state["conv1.weight"].numpy(), weight)
    assert np.array_equal(state["conv1.bias"].numpy().ravel(), bias)
    assert state["conv1.bias"].shape == ((1, 1, 1, 4) if old_shapes else (4,))


def test_unpacked_values_and_doubles(tmp_path: Path) -> None:
    net = TYPES["NetParameter"]()
    loose = TYPES["LooseBlobProto"](data=[1.5, -2.0, 3.0])
    loose.shape.dim.extend([3])
    net.layer.add(name="a", blobs=[TYPES["BlobProto"].FromString(loose.SerializeToString())])
    double = TYPES["BlobProto"](double_data=[0.25, 4.0])
    double.shape.dim.extend([2, 1])
    net.layer.add(name="b", blobs=[double])
    # The library packs what it parsed, so the unpacked bytes are put in by hand.
    packed = net.layer[0].blobs[0].SerializeToString()
    content = net.SerializeToString()
    raw = loose.SerializeToString()
    layer = net.layer[0].SerializeToString()
    loose_layer = layer.replace(bytes([len(packed)]) + packed, bytes([len(raw)]) + raw)
    content = content.replace(bytes([len(layer)]) + layer, bytes([len(loose_layer)]) + loose_layer)
    assert raw in content
    assert packed not in content

    state = read_caffemodel(written(tmp_path, content))
    assert state["a.weight"].tolist() == [1.5, -2.0, 3.0]
    assert state["b.weight"].tolist() == [[0.25], [4.0]]
    assert state["b.weight"].dtype == torch.float32


def test_file_by_hand(tmp_path: Path) -> None:
    blob = b"\x2a\x08" + np.array([1, 2], "<f4").tobytes() + b"\x3a\x04\x0a\x02\x02\x01"  # data, then shape 2 x 1
    layer = b"\x0a\x01c" + b"\x3a" + bytes([len(blob)]) + blob
    content = b"\x0a\x03net" + b"\xa2\x06" + bytes([len(layer)]) + layer  # field 100
    state = read_caffemodel(written(tmp_path, content))
    assert {name: tensor.tolist() for name, tensor in state.items()} == {"c.weight": [[1.0], [2.0]]}


def test_every_cut_of_a_file_is_an_error_or_a_shorter_file(tmp_path: Path) -> None:
    content = caffemodel(LAYERS)
    path = tmp_path / "cut.caffemodel"
    readable = []
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            readable.append(len(read_caffemodel(path)))
        except ModelFileError:
            continue
    assert readable == [2, 2]  # behind the first layer, and behind the second, which has no blobs


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_files_never_end_in_another_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(caffemodel({"c": [np.ones((2, 2), np.float32)], "p": [np.ones(3, np.float32)]}))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged.caffemodel"
    path.write_bytes(content)
    try:
        state = read_caffemodel(path)
    except ModelFileError:
        return
    assert state


@pytest.mark.parametrize("old", [False, True])
def test_openpose_loads_from_a_caffe_file(tmp_path: Path, old: bool) -> None:
    name = "openpose_body25"
    state = create_model(name, seed=5).state_dict()
    layers: dict[str, list[np.ndarray]] = {"image": [], "net_output": []}
    for key, tensor in state.items():
        layers.setdefault(key.rpartition(".")[0], []).append(tensor.numpy())
    path = written(tmp_path, caffemodel(layers, old_layers=old, old_shapes=old))
    network = create_model(name, seed=6)
    report = load_weights(network, CATALOGUE[name], path)
    assert (report.kind, report.tensors, report.fits) == ("Caffe", 327, True)
    assert all(torch.equal(tensor, state[key]) for key, tensor in network.state_dict().items())


def test_layers_of_another_network_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, caffemodel(LAYERS))
    with pytest.raises(ModelFileError) as caught:
        load_weights(create_model("openpose_coco", device="meta"), CATALOGUE["openpose_coco"], path)
    text = str(caught.value)
    assert "184 missing: conv1_1.weight, conv1_1.bias" in text
    assert "3 unexpected: conv1.weight, conv1.bias, prelu1.weight" in text
    assert "pose_iter_440000.caffemodel" in text
