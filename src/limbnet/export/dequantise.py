"""Back from INT8 to float: an INT8 file whose QuantizeLinear and DequantizeLinear nodes are taken out.

Weights keep the values that their int8 steps stand for, so the float graph is as exact as its weights, and activations
lose nothing any more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from limbnet.export.quantise import STEPS
from limbnet.export.wiring import Wiring, copy_model, replace_nodes
from limbnet.runtime.unsigned import SATURATING

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


def dequantise(model: ModelProto) -> ModelProto:
    """Return a float32 copy of a graph that `quantise` made."""
    changed = copy_model(model)
    wiring = Wiring(changed)
    instead: dict[str, str] = {}  # what takes the place of a dequantised tensor
    nodes: list[NodeProto] = []
    for node in changed.graph.node:
        if node.op_type == "QuantizeLinear":
            continue
        if node.op_type == "DequantizeLinear":
            instead[node.output[0]] = _source(wiring, node)
            continue
        for index, name in enumerate(node.input):
            node.input[index] = instead.get(name, name)
        if node.op_type == "Relu" and node.doc_string == SATURATING:
            _restore_upper_bound(wiring, node)
        nodes.append(node)
    replace_nodes(changed, nodes)
    Wiring(changed).drop_unused_constants()
    return changed


def _source(wiring: Wiring, node: NodeProto) -> str:
    """Return the float tensor behind a DequantizeLinear node: an activation, or a weight that is stored now."""
    stored = node.input[0]
    if not wiring.is_constant(stored):
        return str(wiring.producer[stored].input[0])
    steps, scale = wiring.constant(stored), wiring.constant(node.input[1])
    name = f"{node.output[0]}/float"
    wiring.set_constant(name, steps.astype(np.float32) * scale.reshape(-1, *[1] * (steps.ndim - 1)))
    return name


def _restore_upper_bound(wiring: Wiring, node: NodeProto) -> None:
    """Turn a ReLU that stands for a ReLU6 back into a Clip that ends where int8 ended."""
    quantised = next(user for user in wiring.consumers[node.output[0]] if user.op_type == "QuantizeLinear")
    low, high = f"{node.output[0]}/lowest", f"{node.output[0]}/highest"
    wiring.set_constant(low, np.zeros((), np.float32))
    wiring.set_constant(high, np.float32(STEPS) * wiring.constant(quantised.input[1]))
    node.op_type, node.doc_string = "Clip", ""
    node.input.extend([low, high])
