"""Reads the weights of a Caffe model file: Protocol Buffers' wire format, of which a few fields suffice.

Field numbers are those of Caffe's public `caffe.proto`: a NetParameter holds layers (field 100, or field 2 in files of
the first version), a layer its name and blobs, a blob its shape and little-endian floats. Nothing else is looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbnet.errors import ModelFileError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

#: Field numbers of (name, blobs) in a layer, by the field of NetParameter that holds the layer.
LAYER_FIELDS = {100: (1, 7), 2: (4, 6)}

BLOB_FLOATS, BLOB_DOUBLES, BLOB_SHAPE, SHAPE_DIM = 5, 8, 7, 1
#: num, channels, height, width of blobs written before shapes had any number of axes.
OLD_AXES = (1, 2, 3, 4)


class WireError(ValueError):
    """The bytes are not a Protocol Buffers message."""


def read_caffemodel(path: Path) -> dict[str, Tensor]:
    """Return the blobs of every layer as `layer.weight` (first blob) and `layer.bias` (second).

    Layers without blobs are left out. Shapes are the file's own: old files give a bias of N values as 1x1x1xN.

    Raises:
        ModelFileError: the file is not a Caffe model, is cut off, or has no weights.
    """
    try:
        state = {
            f"{name}.{part}": blob
            for name, blobs in _layers(memoryview(path.read_bytes()))
            for part, blob in zip(_part_names(len(blobs)), blobs, strict=True)
        }
    except WireError as error:
        raise ModelFileError(f"'{path}' is not a whole Caffe model: {error}.", "Fetch the file again.") from error
    except OSError as error:
        raise ModelFileError(f"Cannot read '{path}': {error.strerror or error}.") from error
    if not state:
        raise ModelFileError(f"'{path}' holds no layer with weights.", "Give a .caffemodel file, not a .prototxt.")
    return state


def _part_names(count: int) -> list[str]:
    return ["weight", "bias", *(f"blob{number}" for number in range(2, count))][:count]


def _layers(message: memoryview) -> Iterator[tuple[str, list[Tensor]]]:
    for number, layer in _fields(message):
        if number not in LAYER_FIELDS or isinstance(layer, int):
            continue
        name_field, blob_field = LAYER_FIELDS[number]
        name, blobs = "", []
        for inner, value in _fields(layer):
            if isinstance(value, int):
                continue
            if inner == name_field:
                name = bytes(value).decode("utf-8", "replace")
            elif inner == blob_field:
                blobs.append(_tensor(_blob(value)))
        if blobs:
            yield name, blobs


@dataclass
class _Blob:
    shape: list[int] | None = None
    old_shape: dict[int, int] = field(default_factory=dict)
    values: list[NDArray[np.floating]] = field(default_factory=list)


def _blob(message: memoryview) -> _Blob:
    blob = _Blob()
    for number, value in _fields(message):
        if isinstance(value, int):
            if number in OLD_AXES:
                blob.old_shape[number] = value
        elif number == BLOB_SHAPE:
            blob.shape = _dimensions(value)
        elif number in (BLOB_FLOATS, BLOB_DOUBLES):
            dtype = np.dtype("<f4" if number == BLOB_FLOATS else "<f8")
            if len(value) % dtype.itemsize:
                raise WireError(f"a blob has {len(value)} bytes, which is no whole number of values")
            blob.values.append(np.frombuffer(value, dtype))
    return blob


def _dimensions(message: memoryview) -> list[int]:
    """Return the repeated field `dim`, packed or not."""
    dimensions: list[int] = []
    for number, value in _fields(message):
        if number != SHAPE_DIM:
            continue
        if isinstance(value, int):
            dimensions.append(value)
            continue
        position = 0
        while position < len(value):
            dimension, position = _varint(value, position)
            dimensions.append(dimension)
    return dimensions


def _tensor(blob: _Blob) -> Tensor:
    values = np.concatenate(blob.values) if blob.values else np.empty(0, np.float32)
    shape = blob.shape if blob.shape is not None else [blob.old_shape.get(axis, 1) for axis in OLD_AXES]
    if int(np.prod(shape, dtype=object)) != values.size:
        raise WireError(f"a blob of shape {'x'.join(map(str, shape))} has {values.size} values")
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield (field number, value) of a message: an int for varints, else the value's bytes."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        kind = tag & 7
        if kind == VARINT:
            value, position = _varint(message, position)
            yield tag >> 3, value
            continue
        if kind == BYTES:
            length, position = _varint(message, position)
        elif kind in (FIXED64, FIXED32):
            length = 8 if kind == FIXED64 else 4
        else:
            raise WireError(f"byte {position} starts a field of unknown kind {kind}")
        if position + length > len(message):
            raise WireError(f"a field of {length} bytes starts {len(message) - position} bytes before its end")
        yield tag >> 3, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the number that starts at `position` and the position behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise WireError("it ends within a number")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise WireError(f"the number that ends at byte {position} is longer than ten bytes")
