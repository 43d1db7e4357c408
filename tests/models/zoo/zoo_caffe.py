"""Writes Caffe model files with Google's Protocol Buffers, from message types declared here."""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from numpy.typing import NDArray

F = descriptor_pb2.FieldDescriptorProto

#: Message: fields (name, number, type, repeated, packed). Numbers as in Caffe's caffe.proto.
MESSAGES: dict[str, list[tuple[str, int, int | str, bool, bool]]] = {
    "BlobShape": [("dim", 1, F.TYPE_INT64, True, True)],
    "BlobProto": [
        ("num", 1, F.TYPE_INT32, False, False),
        ("channels", 2, F.TYPE_INT32, False, False),
        ("height", 3, F.TYPE_INT32, False, False),
        ("width", 4, F.TYPE_INT32, False, False),
        ("data", 5, F.TYPE_FLOAT, True, True),
        ("diff", 6, F.TYPE_FLOAT, True, True),
        ("shape", 7, "BlobShape", False, False),
        ("double_data", 8, F.TYPE_DOUBLE, True, True),
    ],
    "LooseBlobProto": [
        ("data", 5, F.TYPE_FLOAT, True, False),
        ("shape", 7, "LooseBlobShape", False, False),
    ],
    "LooseBlobShape": [("dim", 1, F.TYPE_INT64, True, False)],
    "LayerParameter": [
        ("name", 1, F.TYPE_STRING, False, False),
        ("type", 2, F.TYPE_STRING, False, False),
        ("bottom", 3, F.TYPE_STRING, True, False),
        ("top", 4, F.TYPE_STRING, True, False),
        ("loss_weight", 5, F.TYPE_FLOAT, True, False),
        ("blobs", 7, "BlobProto", True, False),
        ("phase", 10, F.TYPE_INT32, False, False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, F.TYPE_STRING, True, False),
        ("name", 4, F.TYPE_STRING, False, False),
        ("type", 5, F.TYPE_INT32, False, False),
        ("blobs", 6, "BlobProto", True, False),
    ],
    "NetParameter": [
        ("name", 1, F.TYPE_STRING, False, False),
        ("layers", 2, "V1LayerParameter", True, False),
        ("force_backward", 5, F.TYPE_BOOL, False, False),
        ("layer", 100, "LayerParameter", True, False),
    ],
}


def _build() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="caffe_for_tests.proto", package="t", syntax="proto2")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for field_name, number, kind, repeated, packed in fields:
            field = message.field.add(name=field_name, number=number)
            field.label = F.LABEL_REPEATED if repeated else F.LABEL_OPTIONAL
            if isinstance(kind, str):
                field.type, field.type_name = F.TYPE_MESSAGE, f".t.{kind}"
            else:
                field.type = kind
            if packed:
                field.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"t.{name}")) for name in MESSAGES}


TYPES = _build()


def caffemodel(
    layers: dict[str, list[NDArray[np.float32]]], old_layers: bool = False, old_shapes: bool = False
) -> bytes:
    """Return a file with one layer per name and its blobs; old layers are field 2, old shapes have four numbers."""
    net = TYPES["NetParameter"](name="net", force_backward=True)
    for name, blobs in layers.items():
        layer = (net.layers if old_layers else net.layer).add(name=name, bottom=["below"])
        if not old_layers:
            layer.type, layer.top[:], layer.loss_weight[:], layer.phase = "Convolution", [name], [0.5], 1
        for values in blobs:
            blob = layer.blobs.add()
            blob.data.extend(values.ravel().tolist())
            if old_shapes:
                blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - values.ndim) + values.shape
            else:
                blob.shape.dim.extend(values.shape)
    return bytes(net.SerializeToString())
