"""Training records: TFRecord files of `tf.train.Example` messages, as BodyPoseNet's converter writes them.

A TFRecord file is a row of frames: the length of the message, a checksum of the length, the message, a checksum of the
message (tensorflow/core/lib/io/record_writer.h). TensorFlow reads what is written here and the other way round; it is
not needed for either.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from limbnet.errors import DataError
from limbnet.files import whole_file

_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_TODO = "Convert the dataset again: limbnet dataset_convert."


@dataclass(frozen=True, eq=False)
class Record:
    """One training record, in the dataset's own joints and flags, in pixels of the original picture.

    Attributes:
        image_id: id of the picture in the annotation file.
        height, width: of the picture.
        image_path, mask_path: relative to the dataset's root.
        dataset: its name, which selects the dataset spec.
        joints: (P, J, 3) float64 x, y, visibility flag; the main person first.
        scales: (P,) float64 heights of the people's boxes.
        centres: (P, 2) float64 centres of the people's boxes.
        person_idx: place of the main person among the picture's annotations.
        confidence: (P, J) float64 `keypoint_confidence`, or None; limbnet's own, written only when the dataset has it.
    """

    image_id: int
    height: int
    width: int
    image_path: str
    mask_path: str
    dataset: str
    joints: NDArray[np.float64]
    scales: NDArray[np.float64]
    centres: NDArray[np.float64]
    person_idx: int
    confidence: NDArray[np.float64] | None = None


@cache
def _example_class() -> Any:
    """Return the message class of `tf.train.Example`, described in a pool of its own."""
    kind = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="limbnet/example.proto", package="tensorflow", syntax="proto3")
    for name, element in (
        ("BytesList", kind.TYPE_BYTES),
        ("FloatList", kind.TYPE_FLOAT),
        ("Int64List", kind.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label=kind.LABEL_REPEATED, type=element)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
        type_name = ".tensorflow." + name.title().replace("_", "")
        feature.field.add(
            name=name,
            number=number,
            label=kind.LABEL_OPTIONAL,
            type=kind.TYPE_MESSAGE,
            type_name=type_name,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=kind.LABEL_OPTIONAL, type=kind.TYPE_STRING)
    entry.field.add(
        name="value", number=2, label=kind.LABEL_OPTIONAL, type=kind.TYPE_MESSAGE, type_name=".tensorflow.Feature"
    )
    features.field.add(
        name="feature",
        number=1,
        label=kind.LABEL_REPEATED,
        type=kind.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
    )
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features", number=1, label=kind.LABEL_OPTIONAL, type=kind.TYPE_MESSAGE, type_name=".tensorflow.Features"
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def encode_record(record: Record) -> bytes:
    """Return a record as a serialised `tf.train.Example`; the same record gives the same bytes."""
    numbers = {
        "frame/image_id": record.image_id,
        "frame/height": record.height,
        "frame/width": record.width,
        "person/person_idx": record.person_idx,
        "person/num_other_people": len(record.joints) - 1,
    }
    texts = {
        "frame/image_path": record.image_path.encode(),
        "frame/mask_path": record.mask_path.encode(),
        "dataset": record.dataset.encode(),
        "person/joints": _raw(record.joints),
        "person/scales": _raw(record.scales),
        "person/centers": _raw(record.centres),
    }
    if record.confidence is not None:
        texts["person/keypoint_confidence"] = _raw(record.confidence)
    example = _example_class()()
    features = example.features.feature
    for name, number in numbers.items():
        features[name].int64_list.value.append(number)
    for name, text in texts.items():
        features[name].bytes_list.value.append(text)
    return bytes(example.SerializeToString(deterministic=True))


def decode_record(message: bytes) -> Record:
    """Read a serialised `tf.train.Example` back.

    Raises:
        ValueError: it is no such message, lacks a feature, or its numbers do not fit together; the text says what.
    """
    example = _example_class()()
    try:
        example.ParseFromString(message)
    except DecodeError as error:
        raise ValueError("is no tf.train.Example") from error
    features = example.features.feature
    scales = _array(features, "person/scales")
    people = len(scales)
    joints = _array(features, "person/joints")
    centres = _array(features, "person/centers")
    if not people or len(joints) % (3 * people) or len(centres) != 2 * people:
        raise ValueError(f"has {people} scales, {len(centres)} numbers of centers and {len(joints)} of joints")
    confidence = None
    if "person/keypoint_confidence" in features:
        confidence = _array(features, "person/keypoint_confidence")
        if len(confidence) * 3 != len(joints):
            raise ValueError(f"has {len(confidence)} confidences for {len(joints) // 3} joints")
        confidence = confidence.reshape(people, -1)
    return Record(
        _whole_number(features, "frame/image_id"),
        _whole_number(features, "frame/height"),
        _whole_number(features, "frame/width"),
        _text(features, "frame/image_path").decode(),
        _text(features, "frame/mask_path").decode(),
        _text(features, "dataset").decode(),
        joints.reshape(people, -1, 3),
        scales,
        centres.reshape(people, 2),
        _whole_number(features, "person/person_idx") if "person/person_idx" in features else 0,
        confidence,
    )


def _raw(values: NDArray[np.float64]) -> bytes:
    """Return numbers as little-endian float64."""
    return values.astype("<f8").tobytes()


def _array(features: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """Read little-endian float64 numbers."""
    raw = _text(features, name)
    if len(raw) % 8:
        raise ValueError(f"has {len(raw)} bytes in '{name}', which are no float64 numbers")
    return np.frombuffer(raw, dtype="<f8").astype(np.float64)


def _text(features: Mapping[str, Any], name: str) -> bytes:
    values: Sequence[bytes] = features[name].bytes_list.value if name in features else []
    if len(values) != 1:
        raise ValueError(f"has no feature '{name}'")
    return bytes(values[0])


def _whole_number(features: Mapping[str, Any], name: str) -> int:
    values: Sequence[int] = features[name].int64_list.value if name in features else []
    if len(values) != 1:
        raise ValueError(f"has no feature '{name}'")
    return int(values[0])


def write_messages(target: Path, messages: Iterable[bytes]) -> int:
    """Write messages to a TFRecord file, whole or not at all, and return how many there were."""
    count = 0
    with whole_file(target) as partial, partial.open("wb") as file:
        for message in messages:
            length = _LENGTH.pack(len(message))
            file.write(length + _CHECKSUM.pack(_checksum(length)) + message + _CHECKSUM.pack(_checksum(message)))
            count += 1
    return count


def read_messages(path: Path | str) -> Iterator[bytes]:
    """Yield the messages of a TFRecord file and check every checksum.

    Raises:
        DataError: the file is missing, cut short, damaged, or no TFRecord file; says at which record.
    """
    try:
        with Path(path).open("rb") as file:
            yield from _frames(file, path)
    except OSError as error:
        raise DataError(
            f"The records '{path}' cannot be read: {error.strerror or error}.",
            "Check train_records_folder_path and train_records_path in the train spec.",
        ) from error


def _frames(file: BinaryIO, path: Path | str) -> Iterator[bytes]:
    number = 0
    while head := file.read(_LENGTH.size + _CHECKSUM.size):
        where = f"record {number} of '{path}'"
        length = head[: _LENGTH.size]
        if len(head) == _LENGTH.size + _CHECKSUM.size:
            if _CHECKSUM.unpack(head[_LENGTH.size :])[0] != _checksum(length):
                what = f"'{path}' is no TFRecord file." if not number else f"The length of {where} is damaged."
                raise DataError(what, _TODO)
            size = _LENGTH.unpack(length)[0]
            message, tail = file.read(size), file.read(_CHECKSUM.size)
            if len(message) == size and len(tail) == _CHECKSUM.size:
                if _CHECKSUM.unpack(tail)[0] != _checksum(message):
                    raise DataError(f"The checksum of {where} does not match: the file is damaged.", _TODO)
                yield message
                number += 1
                continue
        raise DataError(f"'{path}' is cut short in record {number}.", _TODO)


def read_records(path: Path | str) -> Iterator[Record]:
    """Yield the records of a TFRecord file.

    Raises:
        DataError: see `read_messages`; or a message is no training record.
    """
    for number, message in enumerate(read_messages(path)):
        try:
            yield decode_record(message)
        except ValueError as error:
            raise DataError(f"Record {number} of '{path}' {error}.", _TODO) from error


def _checksum(content: bytes) -> int:
    """Return TensorFlow's masked CRC-32C."""
    crc = int(google_crc32c.value(content))
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
