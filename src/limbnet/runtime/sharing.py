"""Constants that several nodes read: stored once in a file, once for each reader where a runtime wants it so.

A network that looks at several levels of a picture uses its weights more than once. OpenVINO 2026.4 computes quantised
convolutions in float when they share their weights, so it gets a copy for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from onnx import ModelProto

#: Bytes from which a constant counts.
_LARGE = 256


def share_constants(model: ModelProto) -> None:
    """Store large constants of equal values once, in place."""
    stored: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    for tensor in model.graph.initializer:
        if len(tensor.raw_data) >= _LARGE:
            key = (tensor.data_type, *tensor.dims, tensor.raw_data)
            same[tensor.name] = stored.setdefault(key, tensor.name)
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = same.get(name, name)
    kept = [tensor for tensor in model.graph.initializer if same.get(tensor.name, tensor.name) == tensor.name]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def with_own_constants(model: ModelProto) -> ModelProto:
    """Return the model with a copy of each large constant for every node that reads it; itself where none is shared."""
    large = {tensor.name: tensor for tensor in model.graph.initializer if len(tensor.raw_data) >= _LARGE}
    reads = [name for node in model.graph.node for name in node.input if name in large]
    if len(reads) == len(set(reads)):
        return model
    changed = type(model)()
    changed.CopyFrom(model)
    seen: dict[str, int] = {}
    for node in changed.graph.node:
        for place, name in enumerate(node.input):
            if name not in large:
                continue
            seen[name] = seen.get(name, 0) + 1
            if seen[name] > 1:
                node.input[place] = f"{name}/copy{seen[name]}"
                changed.graph.initializer.add().CopyFrom(large[name])
                changed.graph.initializer[-1].name = node.input[place]
    return changed
