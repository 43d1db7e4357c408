"""Engine files: a TensorRT plan behind a header that says what it was built from, for what, and by what.

    8 bytes magic | 8 bytes length of the header, little-endian | header, JSON | plan

A plan runs only on the GPU architecture and with the library version it was built for, and TensorRT's own message about
that is hard to read. The header lets limbnet say it, with the command that builds the engine anew. It also tells when
the file that it was built from has been exported anew since.
"""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from limbnet.encryption import seal
from limbnet.errors import DeviceError, LimbnetError, ModelFileError
from limbnet.files import write_bytes
from limbnet.models.filekinds import FileKind, read_model_file
from limbnet.models.info import ModelInfo
from limbnet.runtime.signature import Signature

MAGIC = b"LIMBTRT1"

Flavour = Literal["tensorrt", "tensorrt_rtx"]


@dataclass(frozen=True)
class EngineHeader:
    """What an engine file says about itself.

    Attributes:
        info: of the model.
        signature: of the network.
        flavour: the Python module that built the plan and runs it.
        library_version: of that module.
        architectures: GPU architectures the plan runs on, such as `sm86`.
        shapes: smallest, best and largest input shape.
        source_digest: SHA-256 of the ONNX content it was built from.
        source: name of the file it was built from, for the command that rebuilds it.
        model_hash: of the float network, "" when unknown.
    """

    info: ModelInfo
    signature: Signature
    flavour: Flavour
    library_version: str
    architectures: tuple[str, ...]
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    source_digest: str
    source: str
    model_hash: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        content = asdict(self)
        return content | {"info": self.info.to_dict(), "signature": self.signature.to_dict()}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> EngineHeader:
        """Rebuild from `to_dict`."""
        smallest, best, largest = (tuple(int(side) for side in shape) for shape in content["shapes"])
        return cls(
            info=ModelInfo.from_dict(content["info"]),
            signature=Signature.from_dict(content["signature"]),
            flavour=content["flavour"],
            library_version=str(content["library_version"]),
            architectures=tuple(str(name) for name in content["architectures"]),
            shapes=(smallest, best, largest),
            source_digest=str(content["source_digest"]),
            source=str(content["source"]),
            model_hash=str(content["model_hash"]),
        )

    def rebuild_command(self, path: Path, architecture: str = "") -> str:
        """Return the command that builds the engine anew."""
        profile = ",".join([self.signature.input_name, *("x".join(map(str, shape)) for shape in self.shapes)])
        gpu = f" --gpu_arch {architecture}" if architecture else ""
        return f"limbnet convert {self.source} -e {path} -t {self.signature.precision} -p {profile}{gpu} --overwrite"


def write_engine(path: Path | str, header: EngineHeader, plan: bytes, key: str | None = None) -> None:
    """Write an engine file, whole or not at all, encrypted with a key."""
    said = json.dumps(header.to_dict()).encode()
    content = b"".join((MAGIC, struct.pack("<Q", len(said)), said, plan))
    write_bytes(path, seal(content, key) if key is not None else content)


def read_engine(path: Path | str, key: str | None = None) -> tuple[EngineHeader, bytes]:
    """Read an engine file: its header and its plan.

    Raises:
        ModelFileError: it is missing, damaged, of another kind, or a plan that limbnet did not write.
    """
    kind, content = read_model_file(path, key)
    if kind is not FileKind.ENGINE:
        raise ModelFileError(f"'{path}' is {kind.described}, not a TensorRT engine.")
    if not content.startswith(MAGIC):
        raise ModelFileError(
            f"'{path}' is a TensorRT engine that says nothing about its skeleton and its input.",
            "Build it with: limbnet convert MODEL.onnx -e ENGINE",
        )
    try:
        (length,) = struct.unpack_from("<Q", content, len(MAGIC))
        begin = len(MAGIC) + 8
        header = EngineHeader.from_dict(json.loads(content[begin : begin + length]))
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise ModelFileError(f"The engine file '{path}' is damaged.", "Build it anew with limbnet convert.") from error
    return header, content[begin + length :]


def check_source(header: EngineHeader, path: Path, key: str | None = None) -> None:
    """Raise a `ModelFileError` that names the rebuilding command when the file it was built from holds another network.

    A file that is gone, or that this key does not open, says nothing about that.
    """
    from limbnet.runtime.onnx_file import read_onnx

    try:
        found = read_onnx(header.source, key).model_hash
    except LimbnetError:
        return
    if found and header.model_hash and found != header.model_hash:
        raise ModelFileError(
            f"The engine '{path}' was built from another network ({header.model_hash[:12]}) than '{header.source}' "
            f"holds now ({found[:12]}).",
            f"Build it anew: {header.rebuild_command(path, ' '.join(header.architectures))}",
        )


def check_runs_here(header: EngineHeader, path: Path, version: str, architecture: str) -> None:
    """Raise a `DeviceError` that names the rebuilding command unless library version and GPU are the engine's."""
    problems = []
    if version != header.library_version:
        problems.append(f"it was built by {header.flavour} {header.library_version}, installed is {version}")
    if architecture not in header.architectures:
        problems.append(f"it was built for {', '.join(header.architectures)}, this GPU is {architecture}")
    if problems:
        raise DeviceError(
            f"The engine '{path}' does not run here: {'; '.join(problems)}.",
            f"Build it anew: {header.rebuild_command(path, architecture)}",
        )
