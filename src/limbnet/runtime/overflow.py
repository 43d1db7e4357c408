"""INT8 on processors without dot-product instructions (VNNI): weights whose products fit into 16 bits.

There, x86 processors multiply unsigned activations by signed weights in pairs and add each pair in 16 bits, where
255 x 127 x 2 does not fit: the sum stops at 32767, in ONNX Runtime and OpenVINO alike, and nobody says so. With weights
of -64 to 64 the largest pair is 32640. So where a runtime is seen to overflow, it gets the weights rounded to steps
twice as wide. Two kinds of convolutions keep theirs: depthwise ones, which add in 32 bits, and those behind a ReLU
whose values end at 127 steps in the file, since 127 x 127 x 2 fits; what lies beyond is cut off, but later than the
file says. The file stays as it is; this changes the copy that the runtime gets, with unsigned activations already.

The runtime itself is asked, by one small convolution whose sums do not fit: which instructions its kernels use depends
on the processor and on its version.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbnet.runtime.unsigned import FINER, ZERO

if TYPE_CHECKING:
    import openvino
    from onnx import ModelProto, NodeProto

log = logging.getLogger(__name__)

#: Operators of ONNX that multiply weights, their second input, by activations.
_MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")

#: The same of OpenVINO; `GroupConvolution` has one group more in its weights.
_MULTIPLY_IN_OPENVINO = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")

#: Of the probe: channels, height and width, and the scales of activations and weights.
_CHANNELS, _SIZE, _STEP, _WEIGHT_STEP = 64, 8, 0.1, 0.01


def overflows(runtime: str, run: Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]]) -> bool:
    """Tell whether a runtime loses what does not fit into 16 bits; if so the user reads what is done about it.

    Args:
        runtime: its name.
        run: computes the only output of a graph with one float input.
    """
    exact = _CHANNELS * 255 * _STEP * 127 * _WEIGHT_STEP
    found = run(_probe(), np.full((1, _CHANNELS, _SIZE, _SIZE), 255 * _STEP, np.float32))
    overflowed = bool(found.min() < 0.9 * exact)
    if overflowed:
        log.info(
            "%s adds INT8 products in 16 bits on this processor: weights are rounded to 7 bits where sums may not fit.",
            runtime,
        )
    return overflowed


def _probe() -> ModelProto:
    """Return a 1x1 convolution of unsigned activations, all weights the largest there are, with a quantised ReLU."""
    from onnx import TensorProto, helper, numpy_helper

    constants: dict[str, NDArray[np.generic]] = {
        "step": np.array(_STEP, np.float32),
        "zero": np.array(0, np.uint8),
        "weights": np.full((16, _CHANNELS, 1, 1), 127, np.int8),
        "weight_step": np.full(16, _WEIGHT_STEP, np.float32),
        "weight_zero": np.zeros(16, np.int8),
        "made_step": np.array(_CHANNELS * _STEP * 127 * _WEIGHT_STEP * 1.2, np.float32),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "step", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "step", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["weights", "weight_step", "weight_zero"], ["kernel"], axis=0),
        helper.make_node("Conv", ["read", "kernel"], ["sums"]),
        helper.make_node("Relu", ["sums"], ["positive"]),
        helper.make_node("QuantizeLinear", ["positive", "made_step", "zero"], ["made"]),
        helper.make_node("DequantizeLinear", ["made", "made_step", "zero"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "probe",
        [value("x", TensorProto.FLOAT, [1, _CHANNELS, _SIZE, _SIZE])],
        [value("y", TensorProto.FLOAT, [1, 16, _SIZE, _SIZE])],
        [numpy_helper.from_array(constant, name) for name, constant in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def _narrowed(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    """Return int8 weights in steps twice as wide, -64 to 64."""
    return np.rint(weights.astype(np.float32) / 2).astype(np.int8)


def reads_int8_weights(model: ModelProto) -> bool:
    """Tell whether anything in an ONNX model that could overflow reads int8 weights."""
    return next(_weight_readers(model), None) is not None


def with_narrow_weights(model: ModelProto) -> ModelProto:
    """Return the ONNX model with narrow int8 weights."""
    from onnx import ModelProto, numpy_helper

    changed = ModelProto()
    changed.CopyFrom(model)
    constants = {tensor.name: tensor for tensor in changed.graph.initializer}
    made: dict[str, NDArray[np.generic]] = {}
    for reader in _weight_readers(changed):
        weights, step = (f"{name}/narrow" for name in reader.input[:2])
        made[weights] = _narrowed(numpy_helper.to_array(constants[reader.input[0]]))
        made[step] = 2 * numpy_helper.to_array(constants[reader.input[1]])
        reader.input[0], reader.input[1] = weights, step
    changed.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in made.items())
    return changed


def _weight_readers(model: ModelProto) -> Iterator[NodeProto]:
    """Yield the nodes that dequantise int8 weights of anything that could overflow."""
    from onnx import TensorProto

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    seen = set()
    for node in model.graph.node:
        if node.op_type not in _MULTIPLY or node.input[1] not in made:
            continue
        weights, values = made[node.input[1]], made.get(node.input[0])
        stored = constants.get(weights.input[0])
        if stored is None or stored.data_type != TensorProto.INT8 or weights.output[0] in seen:
            continue
        groups = next((attribute.i for attribute in node.attribute if attribute.name == "group"), 1)
        depthwise = groups > 1 and stored.dims[1] == 1
        fits = values is not None and ZERO in values.input[2:] and not values.input[1].endswith(FINER)
        if not (depthwise or fits) and weights.input[1] in constants:
            seen.add(weights.output[0])
            yield weights


def has_int8_weights(model: openvino.Model) -> bool:
    """Tell whether anything in an OpenVINO model that could overflow reads int8 weights."""
    return next(_stored_weights(model), None) is not None


def narrow_weights(model: openvino.Model) -> None:
    """Make the int8 weights of an OpenVINO model narrow, in place."""
    from openvino import opset13

    for stored, steps in list(_stored_weights(model)):
        weights = stored.input_value(0).get_node().get_data()
        stored.input(0).replace_source_output(opset13.constant(_narrowed(weights)).output(0))
        twice = opset13.multiply(steps.input_value(1), opset13.constant(np.float32(2)))
        steps.input(1).replace_source_output(twice.output(0))


def _stored_weights(model: openvino.Model) -> Iterator[tuple[openvino.Node, openvino.Node]]:
    """Yield the conversion of int8 weights and their multiplication by steps, of anything that could overflow."""
    seen = set()
    for reader in model.get_ordered_ops():
        kind = reader.get_type_name()
        if kind not in _MULTIPLY_IN_OPENVINO:
            continue
        weights = reader.input_value(1)
        steps = weights.get_node()
        if steps.get_type_name() == "Reshape":  # to (groups, out, in, height, width)
            steps = steps.input_value(0).get_node()
        if steps.get_type_name() != "Multiply" or steps.get_friendly_name() in seen:
            continue
        stored, _ = _dequantised(steps)
        constant = stored.input_value(0).get_node() if stored.get_type_name() == "Convert" else stored
        if constant.get_type_name() != "Constant" or constant.get_element_type().get_type_name() != "i8":
            continue
        depthwise = kind == "GroupConvolution" and weights.get_shape()[2] == 1
        if not (depthwise or _fits(reader.input_value(0).get_node())):
            seen.add(steps.get_friendly_name())
            yield stored, steps


def _fits(values: openvino.Node) -> bool:
    """Tell whether the activations of a layer are never negative and end at 127 steps in the file."""
    if values.get_type_name() != "Multiply":
        return False
    _, zero = _dequantised(values)
    return bool(zero == ZERO) and not values.input_value(1).get_node().get_friendly_name().endswith(FINER)


def _dequantised(steps: openvino.Node) -> tuple[openvino.Node, str]:
    """Return what is dequantised by a multiplication by steps, and the name of the zero point before it."""
    node = steps.input_value(0).get_node()
    if node.get_type_name() != "Subtract":
        return node, ""
    zero = node.input_value(1).get_node()
    while zero.get_type_name() in ("Convert", "Reshape"):
        zero = zero.input_value(0).get_node()
    return node.input_value(0).get_node(), zero.get_friendly_name()
