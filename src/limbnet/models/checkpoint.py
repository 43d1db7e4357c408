"""Model files: a safetensors container with everything a command needs, optionally encrypted, never pickled.

The tensors are the network's, under their state-dict names, and those of the training state under `training/...`. The
metadata's one entry, `limbnet`, is JSON: the SHA-256 of the whole file (with zeros in the digest's place), the format's
number, the architecture, the `ModelInfo` and the training state's plain values. Any safetensors reader can take the
weights out; a byte changed anywhere is found. The same content always gives the same bytes, unless it is encrypted.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

import limbnet
from limbnet.encryption import seal
from limbnet.errors import ModelFileError
from limbnet.files import write_bytes
from limbnet.models.bodyposenet import BodyPoseNet, build_from_architecture
from limbnet.models.filekinds import FileKind, read_model_file, recognise
from limbnet.models.info import ModelInfo
from limbnet.models.trees import join_tree, split_tree, storable

__all__ = [
    "FileKind",
    "LoadedModel",
    "load_model",
    "read_weights",
    "recognise",
    "save_model",
    "save_weights",
    "stored_info",
]

#: Number of the container's layout; a reader refuses higher ones.
FORMAT = 1

#: Key of an architecture that names a published network.
ZOO = "zoo"

_BLANK = "0" * 64


@dataclass(frozen=True)
class LoadedModel:
    """A model file's content.

    Attributes:
        model: the network with its weights, float32, in evaluation mode.
        info: skeleton, input rule, normalisation, decoder settings, spec, version.
        training: the training state that was saved with it, or None.
    """

    model: BodyPoseNet
    info: ModelInfo
    training: dict[str, Any] | None


@dataclass(frozen=True)
class StoredModel:
    """A model file's content before a network is built from it.

    Attributes:
        weights: tensors by their state-dict names.
        architecture: which network they belong to.
        info, training: as in `LoadedModel`.
    """

    weights: dict[str, Tensor]
    architecture: dict[str, Any]
    info: ModelInfo
    training: dict[str, Any] | None


def save_model(
    path: Path | str,
    model: BodyPoseNet,
    info: ModelInfo,
    *,
    key: str | None = None,
    training: dict[str, Any] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a model file, whole or not at all.

    Args:
        path: the file; an earlier one is replaced.
        model: its state dict and architecture are stored.
        info: stored with this limbnet's version.
        key: encrypts the file.
        training: nested dicts, lists and tuples of tensors and JSON values, handed back by `load_model`.
        dtype: how convolution kernels are stored (`torch.float16` halves the file); None stores them as they are.
            Everything else keeps its precision, the training state included.

    Raises:
        ModelFileError: a weight does not fit into `dtype`, or the key is empty.
        LimbnetError: the file cannot be written (disk full, no permission).
    """
    weights = {name: _converted(name, tensor, dtype) for name, tensor in model.state_dict().items()}
    save_weights(path, weights, model.architecture, info, key=key, training=training)


def save_weights(
    path: Path | str,
    weights: Mapping[str, Tensor],
    architecture: Mapping[str, Any],
    info: ModelInfo,
    *,
    key: str | None = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Write a container with the weights of any network; `architecture` says which, in plain JSON values."""
    tree, extra = split_tree(training, "training")
    content = {
        "format": FORMAT,
        "architecture": dict(architecture),
        "info": replace(info, version=limbnet.__version__).to_dict(),
        "training": tree,
    }
    packed = _pack(content, storable(dict(weights) | extra))
    write_bytes(path, seal(packed, key) if key is not None else packed)


def load_model(path: Path | str, key: str | None = None, device: torch.device | str = "cpu") -> LoadedModel:
    """Read a model file and build its network.

    Args:
        path: what `save_model` wrote, encrypted or not.
        key: opens an encrypted file; a plain one is read whether or not a key is given.
        device: where the network goes. The training state stays on the CPU.

    Raises:
        ModelFileError: the file is missing, cut short, changed, of another kind, of a newer limbnet, encrypted without
            a key or with another one, or its weights do not fit its architecture.
    """
    name = f"'{path}'"
    stored = read_weights(path, key)
    if ZOO in stored.architecture:
        raise ModelFileError(
            f"{name} holds the published network '{stored.architecture[ZOO]}', and a BodyPoseNet is needed here.",
            "Give it to `limbnet zoo check`, or as the checkpoint of a study's row.",
        )
    try:
        model = build_from_architecture(stored.architecture, stored.info.skeleton)
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{name} lacks something a model file must have: {error!r}.") from error
    try:
        model.load_state_dict(stored.weights)
    except RuntimeError as error:
        raise ModelFileError(f"The weights in {name} do not fit its architecture: {error}") from None
    return LoadedModel(model.to(device).eval(), stored.info, stored.training)


def read_weights(path: Path | str, key: str | None = None) -> StoredModel:
    """Read a container without building its network.

    Raises:
        ModelFileError: as `load_model`, but for what the architecture says.
    """
    name = f"'{path}'"
    content, tensors = _unpack(*read_model_file(path, key), name)
    extra = {tensor: tensors.pop(tensor) for tensor in list(tensors) if tensor.startswith("training/")}
    try:
        info = ModelInfo.from_dict(content["info"])
        return StoredModel(tensors, dict(content["architecture"]), info, join_tree(content["training"], extra))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelFileError(f"{name} lacks something a model file must have: {error!r}.") from error


def stored_info(path: Path | str) -> ModelInfo | None:
    """Return what a file that limbnet wrote says about itself, None for any other; the weights are not read.

    A missing file is None, too: whoever reads its weights says so.

    Raises:
        ModelFileError: limbnet wrote the file, and its header is damaged.
    """
    if not Path(path).is_file() or recognise(path) is not FileKind.LIMBNET:
        return None
    try:
        with Path(path).open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        return ModelInfo.from_dict(json.loads(header["__metadata__"]["limbnet"])["info"])
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise ModelFileError(f"'{path}' is damaged: its header cannot be read.", _RECOVER) from error


def _converted(name: str, tensor: Tensor, dtype: torch.dtype | None) -> Tensor:
    """Convert kernels to `dtype`; biases and statistics are small, and stay precise."""
    if dtype is None or tensor.ndim < 2 or not tensor.is_floating_point():
        return tensor
    converted = tensor.to(dtype)
    if not torch.equal(converted.isfinite(), tensor.isfinite()):
        raise ModelFileError(f"A weight of '{name}' is too large for {dtype}.", "Store the model in float32.")
    return converted


def _pack(content: dict[str, Any], tensors: dict[str, Tensor]) -> bytes:
    """Serialise, then write the digest of all bytes into the place kept for it."""
    metadata = json.dumps({"sha256": _BLANK, **content}, separators=(",", ":"))
    packed = safetensors.torch.save(tensors, {"limbnet": metadata})
    place = packed.index(_BLANK.encode())
    digest = hashlib.sha256(packed).hexdigest().encode()
    return b"".join((packed[:place], digest, packed[place + len(digest) :]))


def _unpack(kind: FileKind, packed: bytes, name: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Check every byte, and return the JSON content and the tensors."""
    if kind is not FileKind.LIMBNET:
        raise ModelFileError(
            f"{name} is {kind.described}, not a model that limbnet train, prune or export wrote.", _ADVICE.get(kind, "")
        )
    content = _checked_content(packed, name)
    try:
        return content, safetensors.torch.load(packed)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ModelFileError(f"{name} cannot be read: {error}.", _RECOVER) from error


_RECOVER = "Copy it again from where it came, or use an earlier checkpoint."

_EXPORTED = "Give the checkpoint that it was exported from."

_ADVICE = {
    FileKind.ONNX: _EXPORTED,
    FileKind.OPENVINO: _EXPORTED,
    FileKind.ENGINE: _EXPORTED,
    FileKind.KERAS: "Give Keras weights as pretrained_weights in a train spec.",
    FileKind.TORCH: "Give a state dict as pretrained_weights in a train spec.",
    FileKind.SAFETENSORS: "Give a state dict as pretrained_weights in a train spec.",
    FileKind.UNKNOWN: "NVIDIA's encrypted .tlt and .etlt files cannot be read: how they are encrypted is not public.",
}


def _checked_content(packed: bytes, name: str) -> dict[str, Any]:
    """Read the metadata and compare the digest, the format's number first: a newer file may be laid out differently."""
    try:
        (length,) = struct.unpack("<Q", packed[:8])
        header = packed[8 : 8 + length]
        if len(header) < length:
            raise ModelFileError(f"{name} is cut short: it ends within its header.", _RECOVER)
        content: dict[str, Any] = json.loads(json.loads(header)["__metadata__"]["limbnet"])
        digest, found = content["sha256"].encode(), int(content["format"])
    except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ModelFileError(f"{name} is damaged: its header cannot be read.", _RECOVER) from error
    if found > FORMAT:
        raise ModelFileError(
            f"{name} was written by a newer limbnet (format {found}, this one knows {FORMAT}).",
            "Upgrade: pip install --upgrade limbnet",
        )
    place = header.find(digest) + 8
    blanked = hashlib.sha256(packed[:place])
    blanked.update(_BLANK.encode())
    blanked.update(memoryview(packed)[place + len(digest) :])
    if len(digest) != len(_BLANK) or place < 8 or blanked.hexdigest().encode() != digest:
        raise ModelFileError(f"{name} is damaged or cut short: its checksum does not match.", _RECOVER)
    return content
