"""ONNX files as limbnet reads them: its own with everything in their metadata, and TAO's, which say nothing.

A file of limbnet's carries two metadata entries of JSON: `limbnet.info` (skeleton, stride, input rule, decoder
settings) and `limbnet.signature` (which tensor is what). In any other file the input and the two outputs are told apart
by their shapes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from limbnet.errors import ModelFileError, SpecError, missing_package
from limbnet.models.filekinds import FileKind, read_model_file
from limbnet.models.info import ModelInfo
from limbnet.runtime.signature import DataFormat, Signature

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

INFO_KEY, SIGNATURE_KEY, MODEL_HASH_KEY = "limbnet.info", "limbnet.signature", "limbnet.model_hash"

#: What is known about a file that says nothing about itself; asked for only then.
Fallback = Callable[[], ModelInfo]

#: What to do about a file that says nothing about itself.
NEEDS_SPEC = (
    "Give an inference spec whose train_spec names the pose config and the normalisation it was trained with, "
    "or export the model with limbnet."
)


@dataclass(frozen=True)
class OnnxNetwork:
    """An ONNX file, read.

    Attributes:
        path: where it came from.
        model: its content.
        info: what it says about itself, or what the caller knows about it.
        signature: its tensors.
        digest: SHA-256 of the plain ONNX content; engines built from it carry it.
        model_hash: of the float network it was exported from, "" when unknown.
    """

    path: Path
    model: ModelProto
    info: ModelInfo
    signature: Signature
    digest: str
    model_hash: str = ""


def read_onnx(path: Path | str, key: str | None = None, fallback: Fallback | None = None) -> OnnxNetwork:
    """Read an ONNX file, encrypted or not.

    Args:
        path: the file.
        key: opens an encrypted file.
        fallback: returns skeleton, normalisation and so on of a file that carries none; called for such files only.

    Raises:
        ModelFileError: there is no such file, it is no ONNX file, it needs another key, it is no pose network, or it
            says nothing about itself and there is no `fallback`.
    """
    path = Path(path)
    kind, content = read_model_file(path, key)
    if kind is not FileKind.ONNX:
        raise ModelFileError(
            f"'{path}' is {kind.described}, not an ONNX file.", "Give a file that limbnet export wrote."
        )
    return network_of(parse_onnx(content, path), path, fallback, hashlib.sha256(content).hexdigest())


def network_of(
    model: ModelProto, path: Path, fallback: Fallback | None = None, digest: str | None = None
) -> OnnxNetwork:
    """Find out what an ONNX model in memory is; see `read_onnx`. Its digest is computed unless it is known."""
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    if INFO_KEY in metadata:
        info = ModelInfo.from_dict(json.loads(metadata[INFO_KEY]))
        signature = Signature.from_dict(json.loads(metadata[SIGNATURE_KEY]))
    else:
        _check_pictures(_single_input(model, path), path)
        if fallback is None:
            raise ModelFileError(f"'{path}' says nothing about its skeleton and its input.", NEEDS_SPEC)
        info = fallback()
        signature = guess_signature(model, info, path)
    height, width, batch = _fixed_shape(model, signature)
    signature = replace(signature, fixed_size=(height, width) if height and width else None, fixed_batch=batch)
    if digest is None:
        digest = hashlib.sha256(model.SerializeToString()).hexdigest()
    return OnnxNetwork(path, model, info, signature, digest, metadata.get(MODEL_HASH_KEY, ""))


def parse_onnx(content: bytes, path: Path) -> ModelProto:
    """Parse ONNX content; a `ModelFileError` says that `path` is none."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise missing_package("onnx", "Reading an ONNX file") from None
    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ModelFileError(f"'{path}' is a damaged ONNX file: {error}.") from error
    if not model.graph.node:
        raise ModelFileError(f"'{path}' is a damaged ONNX file: there is no graph in it.")
    return model


def guess_signature(model: ModelProto, info: ModelInfo, path: Path) -> Signature:
    """Tell the tensors of an ONNX file without metadata apart by their shapes, and by name where shapes are equal."""
    given = _single_input(model, path)
    _check_pictures(given, path)
    layout: DataFormat = "channels_last" if _shape(given)[3] == 3 else "channels_first"
    axis = 3 if layout == "channels_last" else 1
    channels = {out.name: _shape(out)[axis] if len(_shape(out)) == 4 else None for out in model.graph.output}
    heat = [name for name, count in channels.items() if count == info.skeleton.heat_channels]
    paf = [name for name, count in channels.items() if count == info.skeleton.paf_channels]
    if info.skeleton.heat_channels == info.skeleton.paf_channels:
        paf = [name for name in paf if "paf" in name.lower()] or heat[1:]
        heat = [name for name in heat if name not in paf]
    if len(heat) != 1 or len(paf) != 1:
        found = ", ".join(f"{name} ({count} channels)" for name, count in channels.items()) or "none"
        raise _no_pose_network(
            path,
            f"the skeleton '{info.skeleton.name}' needs one output of {info.skeleton.heat_channels} heatmaps and one "
            f"of {info.skeleton.paf_channels} part affinity fields; its outputs are {found}",
        )
    element = given.type.tensor_type.elem_type
    if element not in (1, 2):  # FLOAT, UINT8
        raise _no_pose_network(path, f"its input '{given.name}' is neither float32 nor uint8")
    return Signature(
        input_name=given.name,
        heatmap_name=heat[0],
        paf_name=paf[0],
        input_type="float32" if element == 1 else "uint8",
        data_format=layout,
    )


def _single_input(model: ModelProto, path: Path) -> ValueInfoProto:
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [given for given in model.graph.input if given.name not in constants]
    if len(inputs) != 1:
        raise _no_pose_network(path, f"it has {len(inputs)} inputs, not one")
    return inputs[0]


def _check_pictures(given: ValueInfoProto, path: Path) -> None:
    shape = _shape(given)
    if len(shape) != 4 or 3 not in (shape[1], shape[3]):
        raise _no_pose_network(path, f"its input '{given.name}' has the shape {shape}, not pictures of 3 channels")


def _no_pose_network(path: Path, why: str) -> ModelFileError:
    return ModelFileError(f"'{path}' is no pose network that limbnet knows: {why}.", NEEDS_SPEC)


def _shape(value: ValueInfoProto) -> list[int | None]:
    """Return the sides of a tensor, None where they are open."""
    return [dim.dim_value if dim.dim_value > 0 else None for dim in value.type.tensor_type.shape.dim]


def _fixed_shape(model: ModelProto, signature: Signature) -> tuple[int | None, int | None, int | None]:
    """Return (height, width, batch) of the graph's input, None where they are open."""
    shape = next(_shape(given) for given in model.graph.input if given.name == signature.input_name)
    rows, columns = (1, 2) if signature.data_format == "channels_last" else (2, 3)
    return shape[rows], shape[columns], shape[0]


def refuse_stage(output_stage: int | None, path: Path) -> None:
    """Raise a `SpecError` when a stage of an exported file was asked for."""
    if output_stage is not None:
        raise SpecError(
            f"output_stage_to_use is {output_stage}, but the exported file '{path}' holds the last stage's maps only.",
            "Set it to null, or give the checkpoint.",
        )
