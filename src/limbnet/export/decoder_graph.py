"""Decoding inside an exported graph: from maps to peaks and the scores of all limb candidates.

The part is added behind a finished graph, in float32 whatever the network's precision, and can be taken off again. It
holds standard ONNX operators only and gives what `limbnet.decode.bottomup.find_candidates` gives. Grouping, which is
made of decisions one after the other, stays with the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from limbnet.export.decoder_limbs import add_limbs
from limbnet.export.decoder_peaks import MapSize, add_peaks
from limbnet.export.graph import set_signature
from limbnet.export.operators import Operators, Value
from limbnet.export.wiring import copy_model, replace_nodes
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import OnnxNetwork, network_of
from limbnet.runtime.signature import Signature
from limbnet.runtime.trimming import PREFIX

if TYPE_CHECKING:
    from onnx import ModelProto, ValueInfoProto

LARGEST = float(np.finfo(np.float32).max)


def decoding_network(network: OnnxNetwork) -> OnnxNetwork:
    """Return a network that returns maps as one that decodes them, by the settings that it carries."""
    signature = replace(network.signature, decode="peaks")
    model = with_decoding(network.model, network.info, signature)
    set_signature(model, network.info, signature, network.model_hash)
    return network_of(model, network.path)


def maps_network(network: OnnxNetwork) -> OnnxNetwork:
    """Return a network that decodes as one that returns maps."""
    model, signature = without_decoding(network.model, network.signature)
    set_signature(model, network.info, signature, network.model_hash)
    return network_of(model, network.path)


def with_decoding(model: ModelProto, info: ModelInfo, signature: Signature) -> ModelProto:
    """Return a copy of a graph that returns what `signature` says in the place of maps.

    Args:
        model: returns maps, at the network's stride and in float32, in the layout that the signature names.
        info: skeleton, stride and the decoder settings that the graph is to follow.
        signature: of the result.
    """
    from onnx import TensorProto, helper

    changed = copy_model(model)
    graph = changed.graph
    batch = next(value for value in graph.input if value.name == signature.input_name).type.tensor_type.shape.dim[0]
    op = Operators(PREFIX)
    maps = [op.given(name) for name in (signature.heatmap_name, signature.paf_name)]
    if signature.data_format == "channels_last":
        maps = [op("Transpose", one, perm=[0, 3, 1, 2]) for one in maps]
    shapes = _add_decoding(maps[0], maps[1], info, signature.output_names)
    graph.node.extend(op.nodes)
    graph.initializer.extend(op.constants)
    graph.value_info.extend(graph.output)  # from where `without_decoding` takes them back
    del graph.output[:]
    first = batch.dim_value or batch.dim_param
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [first, *shape]) for name, shape in shapes.items()
    )
    return changed


def without_decoding(model: ModelProto, signature: Signature) -> tuple[ModelProto, Signature]:
    """Return a copy that returns maps again, and its signature."""
    changed = copy_model(model)
    graph = changed.graph
    names = signature.heatmap_name, signature.paf_name
    _replace(graph.output, [_named(graph.value_info, name) for name in names])
    _replace(graph.value_info, [value for value in graph.value_info if value.name not in names])
    _replace(graph.initializer, [one for one in graph.initializer if not one.name.startswith(PREFIX)])
    replace_nodes(changed, [node for node in graph.node if not node.name.startswith(PREFIX)])
    return changed, replace(signature, decode="none")


def _named(values: Sequence[ValueInfoProto], name: str) -> ValueInfoProto:
    return next(value for value in values if value.name == name)


def _add_decoding(heatmaps: Value, pafs: Value, info: ModelInfo, names: tuple[str, ...]) -> dict[str, tuple[int, ...]]:
    """Decode heatmaps (B, K + 1, h, w) and pafs (B, 2 L, h, w); return the shapes of the outputs without the batch."""
    op, skeleton, settings = heatmaps.op, info.skeleton, info.decoder
    joints, limbs, most = len(skeleton.joints), len(skeleton.limbs), settings.max_peaks
    heatmaps, bad_heat = _finite(heatmaps.part(0, joints, 1))
    pafs, bad_pafs = _finite(pafs)
    shape = heatmaps.shape()
    size = MapSize(shape.part(2, 3, 0), shape.part(3, 4, 0))
    found = add_peaks(heatmaps.reshape(-1, 1, size.height, size.width), size, info.stride, settings)
    place, points, value = (
        one.reshape(-1, joints, found.most, sides)
        for one, sides in ((found.place, 2), (found.points, 2), (found.value, 1))
    )
    there = value > 0
    one_or_none = there.cast("float32")
    flat = one_or_none.reshape(-1, joints, found.most)
    scores = add_limbs(pafs, points, flat, skeleton, settings)
    peaks = op.where(there, op.concat(place, value, one_or_none, axis=3), 0)
    spare = op.integers(most) - found.most
    none = op.integers(0)
    outputs = (
        (op("Pad", peaks, op.concat(*[none] * 6, spare, none), op.constant(0)), (joints, most, 4)),
        (found.found.reshape(-1, joints), (joints,)),
        (op("Pad", scores, op.concat(*[none] * 6, spare, spare), op.constant(0)), (limbs, most, most)),
        (op.concat(bad_heat, bad_pafs, axis=1), (2,)),
    )
    for name, (output, _) in zip(names, outputs, strict=True):
        op.output(output, name)
    return {name: sides for name, (_, sides) in zip(names, outputs, strict=True)}


def _finite(maps: Value) -> tuple[Value, Value]:
    """Return maps (B, C, h, w) with 0 in the place of NaN and infinities, and how many there were, (B, 1)."""
    op = maps.op
    finite = op("Abs", maps) <= LARGEST  # false for NaN
    number = (~finite).cast("float32").reshape(0, -1).sum(1, keep=True)
    return op.where(finite, maps, 0), number


def _replace(field: Any, values: list[Any]) -> None:
    """Make `values`, some of the field's own, all that a repeated field holds."""
    copied = [type(value).FromString(value.SerializeToString()) for value in values]
    del field[:]
    field.extend(copied)
