"""What a model file is, told by its content; suffixes are never looked at."""

from __future__ import annotations

import io
import zipfile
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

from limbnet.encryption import is_sealed, open_sealed
from limbnet.errors import ModelFileError
from limbnet.models.shipped import shipped_models, trainable_file

#: How many first bytes decide.
_LOOK = 1024

#: Tags of the fields that may follow `ir_version` in an ONNX file (protobuf ModelProto).
_ONNX_TAGS = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42\x72")


class FileKind(StrEnum):
    """Kinds of model files, and of files that are mistaken for one."""

    LIMBNET = "limbnet"
    ENCRYPTED = "encrypted"
    SAFETENSORS = "safetensors"
    KERAS = "keras"
    TORCH = "torch"
    ONNX = "onnx"
    OPENVINO = "openvino"
    ENGINE = "engine"
    PICTURE = "picture"
    TEXT = "text"
    EMPTY = "empty"
    UNKNOWN = "unknown"

    @property
    def described(self) -> str:
        """The kind in words, to stand after "the file is"."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    FileKind.LIMBNET: "a limbnet model",
    FileKind.ENCRYPTED: "an encrypted limbnet file",
    FileKind.SAFETENSORS: "a safetensors file that limbnet did not write",
    FileKind.KERAS: "an HDF5 file (Keras weights or model)",
    FileKind.TORCH: "a PyTorch file (torch.save)",
    FileKind.ONNX: "an ONNX model",
    FileKind.OPENVINO: "an OpenVINO model (XML)",
    FileKind.ENGINE: "a TensorRT engine",
    FileKind.PICTURE: "a picture",
    FileKind.TEXT: "a text file",
    FileKind.EMPTY: "empty",
    FileKind.UNKNOWN: "of no kind that limbnet knows",
}


def recognise(path: Path | str) -> FileKind:
    """Tell what the file at `path` is from its first bytes.

    Raises:
        ModelFileError: it is missing, a folder, or may not be read.
    """
    path = Path(path)
    with _opened(path) as file:
        kind = recognise_bytes(file.read(_LOOK))
        return FileKind.TORCH if kind is FileKind.UNKNOWN and _is_torch_zip(file) else kind


def recognise_bytes(start: bytes) -> FileKind:
    """Tell what a file is whose first bytes (a thousand are enough) are `start`."""
    if not start:
        return FileKind.EMPTY
    if is_sealed(start):
        return FileKind.ENCRYPTED
    if start[8:9] == b"{":  # safetensors: the header's length in 8 bytes, then JSON that begins with its metadata
        return FileKind.LIMBNET if b'"limbnet":' in start[8:64] else FileKind.SAFETENSORS
    for magic, kind in (
        (b"\x89HDF\r\n\x1a\n", FileKind.KERAS),
        (b"\x80\x02", FileKind.TORCH),  # the pickle stream of torch.save before version 1.6
        (b"ftrt", FileKind.ENGINE),
        (b"ptrt", FileKind.ENGINE),
        (b"vtrt", FileKind.ENGINE),  # TensorRT-RTX
        (b"LIMBTRT1", FileKind.ENGINE),  # either, behind limbnet's header
        (b"\x89PNG", FileKind.PICTURE),
        (b"\xff\xd8\xff", FileKind.PICTURE),
    ):
        if start.startswith(magic):
            return kind
    if start[:1] == b"\x08" and len(start) > 2 and start[1] < 0x20 and start[2] in _ONNX_TAGS:
        return FileKind.ONNX
    if start.lstrip()[:1] == b"<" and b"<net" in start:
        return FileKind.OPENVINO
    if start[:2] == b"PK" and b"data.pkl" in start:
        return FileKind.TORCH
    return FileKind.TEXT if _is_text(start) else FileKind.UNKNOWN


def read_model_file(path: Path | str, key: str | None = None) -> tuple[FileKind, bytes]:
    """Read a whole file, decrypt it if it is encrypted, and tell what it, or what was in it, is.

    Raises:
        ModelFileError: as `recognise` and `open_sealed`.
    """
    with _opened(Path(path)) as file:
        content = file.read()
    if is_sealed(content):
        content = open_sealed(content, key, f"'{path}'")
    kind = recognise_bytes(content[:_LOOK])
    if kind is FileKind.UNKNOWN and _is_torch_zip(io.BytesIO(content)):
        kind = FileKind.TORCH
    return kind, content


def _opened(path: Path) -> io.BufferedReader:
    try:
        return trainable_file(path).open("rb")
    except FileNotFoundError:
        raise ModelFileError(
            f"There is no file '{path}'.", f"Check the path. With limbnet come: {', '.join(shipped_models())}."
        ) from None
    except IsADirectoryError:
        raise ModelFileError(f"'{path}' is a folder, not a model file.", "Name a file in it.") from None
    except OSError as error:
        raise ModelFileError(f"Cannot read '{path}': {error.strerror or error}.") from error


def _is_torch_zip(file: BinaryIO) -> bool:
    """Tell whether a ZIP archive holds the pickle of torch.save, wherever in the archive that lies."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("data.pkl") for name in archive.namelist())


def _is_text(start: bytes) -> bool:
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 3:  # not merely a character that was cut in two
            return False
        text = start[: error.start].decode()
    return all(character.isprintable() or character.isspace() for character in text)
