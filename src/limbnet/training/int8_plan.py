"""The plan of quantisation-aware training: the exporter's quantised graph, node by node, as torch will compute it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from limbnet.errors import ModelFileError
from limbnet.export.quantise import PASSING, head_layers, quantise
from limbnet.export.wiring import Wiring, layer_of

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

_DEQUANTISED = "/dequantized"

#: Nodes that belong to the step of another one.
_SILENT = ("DequantizeLinear", "Shape")


@dataclass(frozen=True)
class Step:
    """One node of the quantised graph.

    Attributes:
        operation: ONNX's name; `QuantizeLinear` stands for the pair that quantises and dequantises.
        inputs: tensors that it reads, constants left out.
        output: the tensor it makes.
        layer: of a convolution.
        quantised: whether the convolution's weights are.
        options: attributes and constants, as torch's functions want them.
        ranges: places in `tensors` of the ranges that decide the scale of `QuantizeLinear`: the largest one counts.
        parts: for the product that equalises a concatenation, and for convolutions that read it: place of the range and
            channels of each part.
    """

    operation: str
    inputs: tuple[str, ...]
    output: str
    layer: str = ""
    quantised: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)
    ranges: tuple[int, ...] = ()
    parts: tuple[tuple[int, int], ...] = ()


def plan(
    graph: ModelProto, tensors: Sequence[str], output_layers: Sequence[str]
) -> tuple[list[Step], str, tuple[str, ...]]:
    """Plan how a float graph, once quantised, is computed.

    Args:
        graph: as `build_graph` made it.
        tensors: those of `calibrated_tensors`.
        output_layers: the convolutions whose outputs are wanted.

    Returns:
        the steps from the normalised input to the maps, the input's name and the maps' names.

    Raises:
        ModelFileError: the graph holds an operation that is not known here.
    """
    begin = str(next(iter(Wiring(graph).convolutions().values())).input[0])
    # Ranges so wide that no bound of an activation is left out as idle.
    quantised = quantise(graph, dict.fromkeys(tensors, 1e6), head_layers(graph))
    wiring = Wiring(quantised)
    convolutions = wiring.convolutions()
    outputs = tuple(str(convolutions[layer].output[0]) for layer in output_layers)
    needed, planned = set(outputs), list[Any]()
    for node in reversed(quantised.graph.node):
        if node.output[0] in needed and node.output[0] != begin:
            planned.append(node)
            needed |= {name for name in node.input if not wiring.is_constant(name)}
    places = {name: place for place, name in enumerate(tensors)}
    steps = [_step(wiring, node, places) for node in reversed(planned) if node.op_type not in _SILENT]
    return steps, begin, outputs


def _step(wiring: Wiring, node: NodeProto, places: Mapping[str, int]) -> Step:
    """Translate one node."""
    inputs = tuple(name for name in node.input if name and not wiring.is_constant(name))
    operation, output = str(node.op_type), str(node.output[0])
    match operation:
        case "QuantizeLinear":
            pair = wiring.consumers[output][0]
            return Step(operation, inputs, str(pair.output[0]), ranges=_scale(wiring, inputs[0], places))
        case "Conv":
            return Step(
                operation, inputs[:1], output, layer_of(node), quantised=node.input[1].endswith(_DEQUANTISED),
                options=_convolution(node), parts=_parts(wiring, inputs[0].removesuffix(_DEQUANTISED), places),
            )  # fmt: skip
        case "Mul" if len(inputs) == 1:
            return Step(operation, inputs, output, parts=_parts(wiring, output, places))
        case "Pad":
            _, _, top, left, _, _, bottom, right = wiring.constant(node.input[1]).tolist()
            return Step(operation, inputs, output, options={"pad": (left, right, top, bottom)})
        case "Clip":
            low, high = (float(wiring.constant(name)) for name in node.input[1:])
            return Step(operation, inputs, output, options={"min": low, "max": high})
        case "MaxPool":
            said = _attributes(node)
            top, left, bottom, right = said.get("pads", (0, 0, 0, 0))
            if (top, left) == (bottom, right) and not said.get("ceil_mode"):
                options = {"kernel_size": said["kernel_shape"], "stride": said["strides"], "padding": (top, left)}
                return Step(operation, inputs, output, options=options)
        case "Resize":
            partner = wiring.producer[node.input[3]].input[0]  # whose size is taken
            return Step(operation, (inputs[0], str(partner)), output)
        case "Relu" | "Concat" | "Add" | "Mul" | "Sigmoid" | "Tanh":
            return Step(operation, inputs, output)
    raise ModelFileError(
        f"Quantisation-aware training does not know the operation {operation} of '{output}'.",
        "Train without 'quantize', and export with calibration.",
    )


def _scale(wiring: Wiring, tensor: str, places: Mapping[str, int]) -> tuple[int, ...]:
    """Return the places of the ranges behind a tensor's scale: its own, its source's, or those of all its parts."""
    parts = _parts(wiring, tensor, places)
    if parts:
        return tuple(place for place, _ in parts)
    node = wiring.producer.get(tensor)
    if node is not None and node.op_type in PASSING:
        return _scale(wiring, node.input[0].removesuffix(_DEQUANTISED), places)
    return (places[tensor],)


def _parts(wiring: Wiring, tensor: str, places: Mapping[str, int]) -> tuple[tuple[int, int], ...]:
    """Return place of the range and channels of each part of an equalised concatenation, () for other tensors."""
    node = wiring.producer.get(tensor)
    if node is None or node.op_type != "Mul" or not wiring.is_constant(node.input[1]):
        return ()
    parts = wiring.producer[node.input[0]].input
    return tuple((places[part.removesuffix(_DEQUANTISED)], _channels(wiring, part)) for part in parts)


def _channels(wiring: Wiring, tensor: str) -> int:
    """Return the channels of the convolution that a tensor comes from."""
    node = wiring.producer[tensor]
    while node.op_type != "Conv":
        node = wiring.producer[node.input[0]]
    weight = node.input[1]
    return len(wiring.constant(weight if wiring.is_constant(weight) else wiring.producer[weight].input[0]))


def _convolution(node: NodeProto) -> dict[str, Any]:
    """Return the options of `F.conv2d`, and `margins` (left, right, top, bottom) where they are uneven, else None."""
    said = _attributes(node)
    top, left, bottom, right = said.get("pads", (0, 0, 0, 0))
    even = (top, left) == (bottom, right)
    options = {"stride": said.get("strides", 1), "dilation": said.get("dilations", 1), "groups": said.get("group", 1)}
    return {
        "margins": None if even else (left, right, top, bottom),
        "conv": options | {"padding": (top, left) if even else 0},
    }


def _attributes(node: NodeProto) -> dict[str, Any]:
    from onnx import helper

    return {item.name: helper.get_attribute_value(item) for item in node.attribute}
