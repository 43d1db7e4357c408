"""Files are told by their content, whatever they are called."""

from __future__ import annotations

import io

import h5py
import pytest
import safetensors.torch
import torch
from PIL import Image

from limbnet.encryption import seal
from limbnet.errors import ModelFileError
from limbnet.models.checkpoint import save_model
from limbnet.models.filekinds import FileKind, read_model_file, recognise
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18


def written(path, content: bytes):
    path.write_bytes(content)
    return path


def torch_file(legacy: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save({"weight": torch.ones(3)}, buffer, _use_new_zipfile_serialization=not legacy)
    return buffer.getvalue()


def hdf5_file() -> bytes:
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        file.attrs["layer_names"] = [b"conv1"]
    return buffer.getvalue()


def onnx_file() -> bytes:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value],
                                   [onnx.helper.make_tensor_value_info("y", 1, [1])])  # fmt: skip
    return onnx.helper.make_model(graph).SerializeToString()


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "JPEG")
    return buffer.getvalue()


KINDS = [
    (FileKind.TORCH, lambda: torch_file(legacy=False)),
    (FileKind.TORCH, lambda: torch_file(legacy=True)),
    (FileKind.KERAS, hdf5_file),
    (FileKind.ONNX, onnx_file),
    (FileKind.ENCRYPTED, lambda: seal(b"anything", "key")),
    (FileKind.SAFETENSORS, lambda: safetensors.torch.save({"a": torch.ones(2)})),
    (FileKind.SAFETENSORS, lambda: safetensors.torch.save({"a": torch.ones(2)}, {"format": "pt"})),
    (FileKind.OPENVINO, lambda: b'<?xml version="1.0"?>\n<net name="Model" version="11">\n<layers/></net>'),
    (FileKind.ENGINE, lambda: b"ftrt" + bytes(40)),
    (FileKind.PICTURE, picture),
    (FileKind.TEXT, "a: 1\n# Schlüssel\n".encode),
    (FileKind.TEXT, ("a" * 1023 + "ü" * 40).encode),
    (FileKind.EMPTY, bytes),
    (FileKind.UNKNOWN, lambda: bytes(range(128, 256)) * 20),
]


@pytest.mark.parametrize(("kind", "content"), KINDS, ids=[f"{kind}-{number}" for number, (kind, _) in enumerate(KINDS)])
def test_kinds_under_a_misleading_name(kind, content, tmp_path):
    assert recognise(written(tmp_path / "model.tlt", content())) is kind
    assert kind.described


def test_limbnet_files_and_what_is_within_encrypted_ones(tmp_path, small):
    save_model(tmp_path / "plain.onnx", small, ModelInfo(BODY_18))
    assert recognise(tmp_path / "plain.onnx") is FileKind.LIMBNET
    save_model(tmp_path / "sealed.hdf5", small, ModelInfo(BODY_18), key="key")
    assert recognise(tmp_path / "sealed.hdf5") is FileKind.ENCRYPTED
    kind, content = read_model_file(tmp_path / "sealed.hdf5", "key")
    assert (kind, content) == (FileKind.LIMBNET, (tmp_path / "plain.onnx").read_bytes())


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(ModelFileError, match="no file"):
        recognise(tmp_path / "missing.tlt")
    with pytest.raises(ModelFileError, match="is a folder"):
        recognise(tmp_path)


def test_torch_archive_whose_pickle_lies_late(tmp_path):
    """Other tools pack the archive in another order, so that the first thousand bytes do not name the pickle."""
    import zipfile

    buffer = io.BytesIO(torch_file(legacy=False))
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(tmp_path / "x.pth", "w") as target:
        target.writestr("archive/padding", bytes(3000))
        for name in reversed(source.namelist()):
            target.writestr(name, source.read(name))
    assert recognise(tmp_path / "x.pth") is FileKind.TORCH
    assert read_model_file(tmp_path / "x.pth")[0] is FileKind.TORCH
