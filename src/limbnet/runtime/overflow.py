"""INT8 on processors without dot-product instructions (VNNI): weights whose products fit into 16 bits.

There, x86 processors multiply unsigned activations by signed weights in pairs and add each pair in 16 bits, where
255 x 127 x 2 does not fit: the sum stops at 32767, in ONNX Runtime and OpenVINO alike, and nobody says so. With weights
of -64 to 64 the largest pair is 32640. So where a runtime is seen to overflow, it gets the weights rounded to steps
twice as wide. Depthwise convolutions add in 32 bits and keep theirs. The file stays as it is; this changes the copy
that the runtime gets.

The runtime itself is asked, by one small convolution whose sums do not fit: which instructions its kernels use depends
on the processor and on its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import openvino
    from onnx import ModelProto, NodeProto

#: Operators of ONNX that multiply weights, their second input, by activations.
_MULTIPLY = ("Conv", "ConvTranspose", "Gemm", "MatMul")

#: The same of OpenVINO; `GroupConvolution` has one group more in its weights.
_MULTIPLY_IN_OPENVINO = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul")

#: Of the probe: channels, height and width, and the scales of activations and weights.
_CHANNELS, _SIZE, _STEP, _WEIGHT_STEP = 64, 8, 0.1, 0.01


def overflows(run: Callable[[ModelProto, NDArray[np.float32]], NDArray[np.float32]]) -> bool:
    """Tell whether a runtime loses what does not fit into 16 bits.

    Args:
        run: computes the only output of a graph with one float input.
    """
    exact = _CHANNELS * 255 * _STEP * 127 * _WEIGHT_STEP
    found = run(_probe(), np.full((1, _CHANNELS, _SIZE, _SIZE), 255 * _STEP, np.float32))
    return bool(found.min() < 0.9 * exact)


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
    """Yield the nodes that dequantise int8 weights of anything but depthwise convolutions."""
    from onnx import TensorProto

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    read = {node.input[1]: node for node in model.graph.node if node.op_type in _MULTIPLY and len(node.input) > 1}
    for node in model.graph.node:
        if node.op_type != "DequantizeLinear" or node.output[0] not in read or node.input[0] not in constants:
            continue
        weights = constants[node.input[0]]
        depthwise = read[node.output[0]].op_type == "Conv" and weights.dims[1] == 1
        if weights.data_type == TensorProto.INT8 and not depthwise and node.input[1] in constants:
            yield node


def has_int8_weights(model: openvino.Model) -> bool:
    """Tell whether anything in an OpenVINO model that could overflow reads int8 weights."""
    return next(_stored_weights(model), None) is not None


def narrow_weights(model: openvino.Model) -> None:
    """Make the int8 weights of an OpenVINO model narrow, in place."""
    from openvino import opset13

    for stored, steps in _stored_weights(model):
        weights = stored.input_value(0).get_node().get_data()
        stored.input(0).replace_source_output(opset13.constant(_narrowed(weights)).output(0))
        twice = opset13.multiply(steps.input_value(1), opset13.constant(np.float32(2)))
        steps.input(1).replace_source_output(twice.output(0))


def _stored_weights(model: openvino.Model) -> Iterator[tuple[openvino.Node, openvino.Node]]:
    """Yield the conversion of int8 weights and their multiplication by steps, of all but depthwise convolutions.

    Weights that several operations read come once.
    """
    seen = set()
    for reader in model.get_ordered_ops():
        kind = reader.get_type_name()
        if kind not in _MULTIPLY_IN_OPENVINO:
            continue
        weights = reader.input_value(1)
        if kind == "GroupConvolution" and weights.get_shape()[2] == 1:  # (groups, out, in, height, width)
            continue
        steps = weights.get_node()
        if steps.get_type_name() == "Reshape":
            steps = steps.input_value(0).get_node()
        stored = steps.input_value(0).get_node() if steps.get_type_name() == "Multiply" else steps
        if stored.get_type_name() == "Subtract":
            stored = stored.input_value(0).get_node()
        if stored.get_type_name() != "Convert" or stored.get_friendly_name() in seen:
            continue
        constant = stored.input_value(0).get_node()
        if constant.get_type_name() == "Constant" and constant.get_element_type().get_type_name() == "i8":
            seen.add(stored.get_friendly_name())
            yield stored, steps
