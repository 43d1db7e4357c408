"""INT8 by explicit QuantizeLinear and DequantizeLinear nodes: one file for ONNX Runtime, OpenVINO and TensorRT.

Activations are symmetric int8 with one scale for a tensor, weights symmetric int8 with one scale for each output
channel, zero points are 0 and biases stay float: the common ground of the three. Every tensor that an INT8
convolution reads or returns (behind its ReLU) is quantised, so that convolutions pass int8 on to one another.

Features, heatmaps and part affinity fields meet in a concatenation, with very different ranges; one scale for all three
would leave the maps only a few steps. So each part is multiplied by a constant that gives it the range of the widest
part, and the weights that read it are divided by the same: in exact arithmetic nothing changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import SpecError, nearest
from limbnet.export.wiring import Wiring, copy_model, layer_of, replace_nodes
from limbnet.runtime.unsigned import SATURATING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Largest int8 step used on either side of zero.
STEPS = 127

#: Runtimes store a bias as int32 steps of input scale times weight scale. A channel that training has switched off has
#: weights of almost nothing and a bias: its scale is kept large enough for the bias to fit.
LARGEST_BIAS = 2.0**30
TINY = 1e-12

#: Operations whose output has the scale of their input.
PASSING = ("MaxPool", "Pad")

#: Operations that stand between the last convolutions and the outputs.
CLOSING = ("Transpose", "Resize", "Cast")

#: And those that join the maps of an image pyramid's levels.
JOINING = ("Add", "Mul", "Slice")

#: Activations that follow a convolution and are quantised with it: ReLU, and ReLU6 as ONNX writes it.
RELUS = ("Relu", "Clip")

#: A pre-activation of these loses too much to eight bits.
DELICATE = ("Sigmoid", "Tanh")


def quantise(model: ModelProto, ranges: Mapping[str, float], float_layers: Collection[str]) -> ModelProto:
    """Return a copy of a float graph with INT8 convolutions.

    Args:
        model: as `build_graph` made it, float32.
        ranges: by tensor, the absolute value that 127 steps stand for; all of `calibrated_tensors(model)`.
        float_layers: convolutions that stay as they are.

    Raises:
        SpecError: a layer in `float_layers` does not exist.
    """
    check_names(float_layers, Wiring(model).convolutions())
    changed = copy_model(model)
    limits = dict(ranges)
    _equalise(changed, limits, float_layers)
    wiring = Wiring(changed)
    tensors = quantised_tensors(changed, float_layers)
    _share_scales(wiring, limits, tensors)
    _drop_upper_bounds(wiring, limits, tensors)
    layers = {name: node for name, node in wiring.convolutions().items() if name not in set(float_layers)}
    before = _quantise_weights(wiring, layers, limits)
    after = {tensor: _quantise_activation(wiring, tensor, limits[tensor]) for tensor in tensors}
    _rewire(wiring, before, after)
    wiring.drop_unused_constants()
    return changed


def check_names(layers: Collection[str], known: Collection[str]) -> None:
    """Raise a `SpecError` that names every layer to keep in float which is no convolution of the network."""
    wrong = [f"there is no layer '{name}'.{nearest(name, known)}" for name in layers if name not in known]
    if wrong:
        raise SpecError("Layers to keep in float:\n  " + "\n  ".join(wrong), f"Layers: {', '.join(known)}.")


def head_layers(model: ModelProto) -> list[str]:
    """List the convolutions that return maps, and the 1x1 ones (and attention masks) before them, stage by stage.

    They decide the maps' values directly, cost few multiply-adds, and stay in float unless told otherwise. They are
    found by the wiring: an output has no activation behind it and ends in a concatenation or in the graph's outputs.
    """
    wiring = Wiring(model)
    heads: set[str] = set()
    for node in wiring.convolutions().values():
        if _returns(wiring, node.output[0]):
            heads.add(layer_of(node))
            _add_before(wiring, node.input[0], heads)
    return [layer for layer in wiring.convolutions() if layer in heads]


def _returns(wiring: Wiring, tensor: str) -> bool:
    """Tell whether a tensor goes into concatenations and the graph's outputs alone, perhaps resized or transposed."""
    users = wiring.consumers.get(tensor, [])
    return (bool(users) or tensor in wiring.outputs) and all(
        user.op_type == "Concat" or (user.op_type in (*CLOSING, *JOINING) and _returns(wiring, user.output[0]))
        for user in users
    )


def _add_before(wiring: Wiring, tensor: str, heads: set[str]) -> None:
    """Add the 1x1 convolutions that make a tensor, and the mask that it was multiplied by."""
    node = wiring.producer.get(tensor)
    if node is None:
        return
    if node.op_type == "Conv":
        if wiring.constant(node.input[1]).shape[2:] == (1, 1):
            heads.add(layer_of(node))
    elif node.op_type in RELUS:
        _add_before(wiring, node.input[0], heads)
    elif node.op_type == "Mul":
        for name in node.input:
            _add_before(wiring, name, heads)
    elif node.op_type in DELICATE:
        mask = wiring.producer.get(node.input[0])
        if mask is not None and mask.op_type == "Conv":
            heads.add(layer_of(mask))


def quantised_tensors(model: ModelProto, float_layers: Collection[str] = ()) -> list[str]:
    """List the activations that get a scale when every convolution but `float_layers` is INT8, in graph order."""
    wiring = Wiring(model)
    wanted: set[str] = set()
    for name, node in wiring.convolutions().items():
        if name in float_layers:
            continue
        _add_source(wiring, node.input[0], wanted)
        result = _activated(wiring, node.output[0])
        consumers = wiring.consumers.get(result, [])
        if result not in wiring.outputs and not any(user.op_type in DELICATE for user in consumers):
            wanted.add(result)
    made = [name for node in model.graph.node for name in node.output]
    first = [value.name for value in model.graph.input]
    used = {name for name in wanted if any(user.op_type not in CLOSING for user in wiring.consumers.get(name, []))}
    return [name for name in (*first, *made) if name in used]


def calibrated_tensors(model: ModelProto) -> list[str]:
    """List the activations whose ranges must be known, whatever stays in float: `quantised_tensors`, and what they are
    made of where they are concatenations.
    """
    wiring = Wiring(model)
    wanted = dict.fromkeys(quantised_tensors(model))
    for tensor in list(wanted):
        node = wiring.producer.get(tensor)
        if node is not None and node.op_type == "Concat":
            wanted |= dict.fromkeys(node.input)
    return list(wanted)


def _add_source(wiring: Wiring, tensor: str, wanted: set[str]) -> None:
    """Add a tensor that an INT8 convolution reads, and what it was before operations that keep its range."""
    wanted.add(tensor)
    node = wiring.producer.get(tensor)
    if node is not None and node.op_type in PASSING:
        _add_source(wiring, node.input[0], wanted)


def _activated(wiring: Wiring, tensor: str) -> str:
    """Return the ReLU's output where the tensor has no other use, else the tensor."""
    consumers = wiring.consumers.get(tensor, [])
    if len(consumers) == 1 and consumers[0].op_type in RELUS and tensor not in wiring.outputs:
        return str(consumers[0].output[0])
    return tensor


def _equalise(model: ModelProto, limits: dict[str, float], float_layers: Collection[str]) -> None:
    """Multiply the parts of each concatenation that INT8 convolutions alone read, and divide the weights that read
    them.

    `limits` gets the ranges of the products.
    """
    from onnx import helper

    wiring = Wiring(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        if node.op_type != "Concat":
            continue
        readers = wiring.consumers.get(node.output[0], [])
        widths = [_channels(wiring, part) for part in node.input]
        if None in widths or any(user.op_type != "Conv" or layer_of(user) in float_layers for user in readers):
            continue
        widest = max(limits[part] for part in node.input)
        factors = [np.float32(widest / limits[part] if limits[part] > 0 else 1) for part in node.input]
        each = np.concatenate([np.full(width or 0, factor) for width, factor in zip(widths, factors, strict=True)])
        product, factor = f"{node.output[0]}/equalised", f"{node.output[0]}/factor"
        wiring.set_constant(factor, each.reshape(1, -1, 1, 1))
        nodes.append(helper.make_node("Mul", [node.output[0], factor], [product], name=product))
        limits[product] = widest
        for user in readers:
            user.input[0] = product
            wiring.set_constant(user.input[1], wiring.constant(user.input[1]) / each.reshape(1, -1, 1, 1))
    replace_nodes(model, nodes)


def _channels(wiring: Wiring, tensor: str) -> int | None:
    """Return the channels of what a convolution, or a ReLU behind one, makes."""
    node = wiring.producer.get(tensor)
    while node is not None and node.op_type in RELUS:
        node = wiring.producer.get(node.input[0])
    return len(wiring.constant(node.input[1])) if node is not None and node.op_type == "Conv" else None


def _share_scales(wiring: Wiring, limits: dict[str, float], tensors: list[str]) -> None:
    """Give what comes out of an operation that keeps the range the scale of what goes in."""
    for tensor in tensors:
        node = wiring.producer.get(tensor)
        if node is not None and node.op_type in PASSING:
            limits[tensor] = limits[node.input[0]]


def _drop_upper_bounds(wiring: Wiring, limits: Mapping[str, float], tensors: list[str]) -> None:
    """Turn ReLU6 into ReLU where int8 ends at or below 6: the same values, and a form that every runtime fuses."""
    for tensor in tensors:
        node = wiring.producer.get(tensor)
        if node is None or node.op_type != "Clip" or len(node.input) < 3:
            continue
        low, high = (float(wiring.constant(name)) for name in node.input[1:3])
        if low == 0 and high >= limits[tensor]:
            node.op_type, node.doc_string = "Relu", SATURATING
            del node.input[1:]


def _quantise_weights(
    wiring: Wiring, layers: Mapping[str, NodeProto], limits: Mapping[str, float]
) -> dict[str, NodeProto]:
    """Store weights as int8; return, by the output of each convolution, the node that dequantises them."""
    from onnx import helper

    nodes = {}
    for node in layers.values():
        name = node.input[1]
        bias = wiring.constant(node.input[2]) if len(node.input) > 2 else None
        smallest = None if bias is None else np.abs(bias) / (max(limits[node.input[0]], TINY) / STEPS * LARGEST_BIAS)
        stored, scale = int8_weight(wiring.constant(name), smallest)
        wiring.set_constant(f"{name}/quantized", stored)
        wiring.set_constant(f"{name}/scale", scale)
        wiring.set_constant(f"{name}/zero_point", np.zeros(len(scale), np.int8))
        nodes[node.output[0]] = helper.make_node(
            "DequantizeLinear",
            [f"{name}/quantized", f"{name}/scale", f"{name}/zero_point"],
            [f"{name}/dequantized"],
            name=f"{name}/dequantize",
            axis=0,
        )
    return nodes


def int8_weight(
    weight: NDArray[np.float32], smallest: NDArray[np.float32] | None = None
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise a convolution's weight (out, in, kh, kw) to int8 with one scale for each output channel.

    `smallest` (out,) are scales below which none shall fall.
    """
    largest = np.abs(weight).reshape(len(weight), -1).max(axis=1)
    scale = np.where(largest > 0, largest / STEPS, 1)
    scale = (scale if smallest is None else np.maximum(scale, smallest)).astype(np.float32)
    steps = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(steps, -STEPS, STEPS).astype(np.int8), scale


def _quantise_activation(wiring: Wiring, tensor: str, limit: float) -> tuple[NodeProto, NodeProto]:
    """Return the pair of nodes that quantises a tensor and dequantises it."""
    from onnx import helper

    scale, zero = f"{tensor}/scale", "zero_point"
    wiring.set_constant(scale, np.array(limit / STEPS if limit > 0 else 1, np.float32))
    wiring.set_constant(zero, np.array(0, np.int8))
    stored = f"{tensor}/quantized"
    return (
        helper.make_node("QuantizeLinear", [tensor, scale, zero], [stored], name=f"{tensor}/quantize"),
        helper.make_node(
            "DequantizeLinear", [stored, scale, zero], [f"{tensor}/dequantized"], name=f"{tensor}/dequantize"
        ),
    )


def _rewire(wiring: Wiring, before: Mapping[str, NodeProto], after: Mapping[str, tuple[NodeProto, NodeProto]]) -> None:
    """Put the new nodes in their places; every reader of a quantised tensor reads the dequantised one."""
    graph = wiring.model.graph
    nodes: list[NodeProto] = []
    for value in graph.input:
        nodes += after.get(value.name, ())
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name in after:
                node.input[index] = after[name][1].output[0]
        if node.output[0] in before:
            nodes.append(before[node.output[0]])
            node.input[1] = before[node.output[0]].output[0]
        nodes.append(node)
        for name in node.output:
            nodes += after.get(name, ())
    replace_nodes(wiring.model, nodes)
