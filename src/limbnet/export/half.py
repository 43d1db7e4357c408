"""FP16 on the graph itself: from the normalised input of the first convolution to the last convolutions' outputs.

The pixels' normalisation stays in float32 and so do the outputs, so that a file is used alike in either precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limbnet.errors import ModelFileError
from limbnet.export.wiring import Wiring, copy_model, replace_nodes

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Largest float16.
LARGEST = float(np.finfo(np.float16).max)


def to_half(model: ModelProto) -> ModelProto:
    """Return a copy of a float32 graph that computes in float16.

    Raises:
        ModelFileError: a weight is too large for float16.
    """
    from onnx import TensorProto, helper

    changed = copy_model(model)
    wiring = Wiring(changed)
    first = next(node for node in changed.graph.node if node.op_type == "Conv").input[0]
    inside = _inside(wiring, first)
    for name in {name for node in inside for name in node.input if wiring.is_constant(name)}:
        values = wiring.constant(name)
        if values.dtype == np.float32 and not _is_scale(name, inside):
            if np.abs(values).max(initial=0) > LARGEST:
                raise ModelFileError(f"The weights of '{name}' do not fit into float16.", "Export fp32 or int8.")
            wiring.set_constant(name, values.astype(np.float16))
    nodes: list[NodeProto] = []
    members = {node.output[0] for node in inside}
    cast, half = f"{first}/half", TensorProto.FLOAT16
    started = False
    for node in changed.graph.node:
        if node.output[0] in members and not started:
            nodes.append(helper.make_node("Cast", [first], [cast], name=cast, to=half))
            started = True
        if node.output[0] in members:
            for index, name in enumerate(node.input):
                node.input[index] = cast if name == first else name
            for index, name in enumerate(node.output):
                if name in wiring.outputs:
                    node.output[index] = f"{name}/half"
                    nodes += [node, helper.make_node("Cast", [f"{name}/half"], [name], name=name, to=TensorProto.FLOAT)]
                    break
            else:
                nodes.append(node)
        else:
            nodes.append(node)
    for node in nodes:
        if node.op_type != "Cast" and node.output[0].endswith("/half"):
            node.name = node.output[0]
    replace_nodes(changed, nodes)
    del changed.graph.value_info[:]
    return changed


def _inside(wiring: Wiring, first: str) -> list[NodeProto]:
    """Return the nodes behind the first convolution's input, in order."""
    reached, nodes = {first}, []
    for node in wiring.model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            nodes.append(node)
    return nodes


def _is_scale(name: str, nodes: list[NodeProto]) -> bool:
    """Tell whether a constant is a Resize node's scale, which is float32 whatever it resizes."""
    return all(node.op_type == "Resize" for node in nodes if name in node.input)
