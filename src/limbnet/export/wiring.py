"""Wiring: an ONNX graph's nodes by what they make and use, and its constants as arrays."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


class Wiring:
    """A view of a graph for those who change it. Changes of the nodes made elsewhere call for a new view.

    Attributes:
        model: the graph's model; `set_constant` changes it.
        producer: the node that makes a tensor; inputs and constants have none.
        consumers: the nodes that use a tensor, in order.
        outputs: names of the graph's outputs.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.producer: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.output:
                self.producer[name] = node
            for name in dict.fromkeys(node.input):
                self.consumers.setdefault(name, []).append(node)
        self.outputs = frozenset(value.name for value in model.graph.output)
        self._constants = {tensor.name: tensor for tensor in model.graph.initializer}

    def convolutions(self) -> dict[str, NodeProto]:
        """Every convolution by its layer's name, in the order in which they run."""
        return {layer_of(node): node for node in self.model.graph.node if node.op_type == "Conv"}

    def is_constant(self, name: str) -> bool:
        """Tell whether a tensor is stored in the file."""
        return name in self._constants

    def constant(self, name: str) -> NDArray[Any]:
        """Return a constant's values."""
        from onnx import numpy_helper

        return np.asarray(numpy_helper.to_array(self._constants[name]))

    def set_constant(self, name: str, values: NDArray[Any]) -> None:
        """Replace a constant's values, or add the constant."""
        from onnx import numpy_helper

        tensor = numpy_helper.from_array(np.asarray(values, order="C"), name)
        if name in self._constants:
            self._constants[name].CopyFrom(tensor)
        else:
            self.model.graph.initializer.append(tensor)
            self._constants[name] = self.model.graph.initializer[-1]

    def drop_unused_constants(self) -> None:
        """Remove constants that no node uses."""
        used = {name for node in self.model.graph.node for name in node.input}
        kept = [tensor for tensor in self.model.graph.initializer if tensor.name in used]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(kept)
        self._constants = {tensor.name: tensor for tensor in self.model.graph.initializer}


def layer_of(node: NodeProto) -> str:
    """Return the layer's name of a convolution: its weight's, without suffixes."""
    return re.sub(r"\.weight$", "", re.sub(r"/dequantized$", "", node.input[1]))


def copy_model(model: ModelProto) -> ModelProto:
    """Return a copy that may be changed."""
    from onnx import ModelProto

    copied = ModelProto()
    copied.CopyFrom(model)
    return copied


def needed_nodes(nodes: Sequence[NodeProto], outputs: Collection[str]) -> list[NodeProto]:
    """Return the nodes that some of the tensors hang on, in their order."""
    needed, kept = set(outputs), []
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


def replace_nodes(model: ModelProto, nodes: Sequence[NodeProto]) -> None:
    """Make `nodes`, old ones and new ones in order, the graph's nodes."""
    copied = [type(node).FromString(node.SerializeToString()) for node in nodes]  # old ones live in the list they leave
    del model.graph.node[:]
    model.graph.node.extend(copied)
