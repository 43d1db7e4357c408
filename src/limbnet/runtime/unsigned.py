"""What runtimes want of a quantised graph on a CPU: unsigned activations.

limbnet's INT8 files quantise activations to int8 with zero point 0, as TensorRT demands. ONNX Runtime on a CPU fuses a
convolution with its ReLU only when the quantised range itself ends at zero, which for zero point 0 means uint8. The
values behind a ReLU are never negative, so uint8 with the same scale holds all of them: the same steps, only that
values beyond 127 steps are no longer cut off. Where the cut stands for ReLU6's upper bound, 255 finer steps end there
instead. Its convolutions want one type on both sides, so what may be negative becomes uint8 with zero point 128, the
same values exactly; ONNX Runtime does that itself, but not where two operations read a tensor, as before every residual
sum. OpenVINO gets some concatenations of signed integers wrong (docs/design.md), and none of unsigned ones. The file
stays as it is; this changes the copy that the runtime gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnx import ModelProto


#: The note on a ReLU that stands for a ReLU6: int8 itself cuts at the upper bound, and so must uint8.
SATURATING = "int8 ends at the upper bound"

#: The zero points of uint8 activations that are never negative, and of those that may be.
ZERO, _MIDDLE = "limbnet/unsigned_zero", "limbnet/unsigned_middle"

#: What the names of finer steps, of which 255 reach the upper bound, end with.
FINER = "/unsigned"


def with_unsigned_activations(model: ModelProto) -> ModelProto:
    """Return the model with every int8 activation made uint8; the model itself where there is none."""
    from onnx import ModelProto, TensorProto, numpy_helper

    signed = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type == TensorProto.INT8 and not numpy_helper.to_array(tensor).any()
    }
    rectified = {node.output[0] for node in model.graph.node if node.op_type == "Relu"}
    bounded = {node.output[0] for node in model.graph.node if node.op_type == "Relu" and node.doc_string == SATURATING}
    zeros = {
        node.output[0]: ZERO if node.input[0] in rectified else _MIDDLE
        for node in model.graph.node
        if node.op_type == "QuantizeLinear" and node.input[2] in signed
    }
    if not zeros:
        return model
    changed = ModelProto()
    changed.CopyFrom(model)
    for name, value in ((ZERO, 0), (_MIDDLE, 128)):
        changed.graph.initializer.append(numpy_helper.from_array(np.array(value, np.uint8), name))
    scales = {tensor.name: numpy_helper.to_array(tensor) for tensor in changed.graph.initializer}
    finer: dict[str, str] = {}
    for node in changed.graph.node:
        quantises = node.op_type == "QuantizeLinear" and node.output[0] in zeros
        if quantises and node.input[0] in bounded:
            finer[node.output[0]] = name = f"{node.input[1]}{FINER}"
            step = (scales[node.input[1]] * np.float32(127 / 255)).astype(np.float32)
            changed.graph.initializer.append(numpy_helper.from_array(step, name))
        if quantises or (node.op_type == "DequantizeLinear" and node.input[0] in zeros):
            stored = node.output[0] if quantises else node.input[0]
            node.input[1], node.input[2] = finer.get(stored, node.input[1]), zeros[stored]
    del changed.graph.value_info[:]
    return changed
