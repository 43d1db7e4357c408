"""What CPUs want of a graph that decodes: work for the peaks of a picture, not for as many as there might be.

Shapes inside such a graph are static, as TensorRT demands: so many candidate cells and peaks for each joint, whatever
the picture holds. Runtimes on a CPU take shapes as they come. So both numbers, constants in the file, are replaced by
what the batch at hand holds at most; the outputs keep their shapes and values. The file stays as it is; this changes
the copy that a runtime gets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: What the names of all nodes and constants of the decoding part begin with.
PREFIX = "decode/"

#: Constants, lists of one size: candidate cells looked at, and peaks kept, for each joint.
CELLS, PEAKS = "most_cells", "most_peaks"

#: Tensors of floats: how many of them each map holds.
CELLS_FOUND, PEAKS_FOUND = "cells_in_map", "peaks_in_map"

#: What the numbers are rounded up to: runtimes prepare their kernels anew for shapes that they have not seen.
STEPS = {CELLS: 16.0, PEAKS: 2.0}


def with_trimmed_decoding(model: ModelProto) -> ModelProto:
    """Return the model with decoding for what is there; the model itself if it does not decode."""
    from onnx import ModelProto

    trimmed = {f"{PREFIX}{found}": f"{PREFIX}{limit}" for limit, found in ((CELLS, CELLS_FOUND), (PEAKS, PEAKS_FOUND))}
    if not {tensor.name for tensor in model.graph.initializer} >= set(trimmed.values()):
        return model
    changed = ModelProto()
    changed.CopyFrom(model)
    nodes: list[NodeProto] = []
    for node in changed.graph.node:
        limit = next((trimmed[name] for name in node.output if name in trimmed), None)
        for index, name in enumerate(node.input):
            if name in trimmed.values():
                node.input[index] = f"{name}/used"
        nodes.append(node)
        if limit is not None:
            nodes += _used(node.output[0], limit)
    copied = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del changed.graph.node[:], changed.graph.value_info[:]
    changed.graph.node.extend(copied)
    return changed


def _used(found: str, limit: str) -> list[NodeProto]:
    """Return the nodes that compute the largest number found, rounded up to a step, at least one and at most the
    limit.
    """
    from onnx import TensorProto, helper

    names = {
        part: f"{limit}/{part}" for part in ("step", "one", "most", "steps", "up", "whole", "cast", "capped", "used")
    }

    def node(operation: str, output: str, *inputs: str, **attributes: Any) -> NodeProto:
        given = [names.get(name, name) for name in inputs]
        return helper.make_node(operation, given, [names[output]], name=names[output], **attributes)

    return [
        node("Constant", "step", value_float=STEPS[limit.removeprefix(PREFIX)]),
        node("Constant", "one", value_ints=[1]),
        node("ReduceMax", "most", found, keepdims=0),
        node("Div", "steps", "most", "step"),
        node("Ceil", "up", "steps"),
        node("Mul", "whole", "up", "step"),
        node("Cast", "cast", "whole", to=TensorProto.INT64),
        node("Min", "capped", "cast", limit),
        node("Max", "used", "capped", "one"),
    ]
