"""Nested values with tensors in them, taken apart into JSON and a flat table of tensors, and put together again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

_TENSOR, _TUPLE, _ITEMS = "__tensor__", "__tuple__", "__items__"


def split_tree(tree: Any, prefix: str) -> tuple[Any, dict[str, Tensor]]:
    """Replace every tensor in `tree` by its name in the returned table; names start with `prefix/` and follow the path.

    Args:
        tree: dicts (keys: text or whole numbers), lists and tuples of tensors, text, numbers, bools and None.
        prefix: first part of the tensors' names.

    Raises:
        TypeError: a value or key of another type.
    """
    tensors: dict[str, Tensor] = {}

    def split(value: Any, path: str) -> Any:
        if isinstance(value, Tensor):
            if path in tensors:
                raise TypeError(f"two tensors share the path '{path}'")
            tensors[path] = value
            return {_TENSOR: path}
        if value is None or isinstance(value, (str, bool, int, float)):
            return value
        if isinstance(value, tuple):
            return {_TUPLE: [split(item, f"{path}/{number}") for number, item in enumerate(value)]}
        if isinstance(value, list):
            return [split(item, f"{path}/{number}") for number, item in enumerate(value)]
        if isinstance(value, Mapping):
            if all(isinstance(key, str) for key in value) and not {_TENSOR, _TUPLE, _ITEMS} & set(value):
                return {key: split(item, f"{path}/{key}") for key, item in value.items()}
            if all(type(key) in (str, int) for key in value):  # JSON would turn numbers into text
                return {_ITEMS: [[key, split(item, f"{path}/{key}")] for key, item in value.items()]}
            raise TypeError(f"{path} has keys that are neither text nor whole numbers")
        raise TypeError(f"{path} is a {type(value).__name__}, which a checkpoint cannot hold")

    return split(tree, prefix), tensors


def join_tree(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undo `split_tree`.

    Raises:
        KeyError: a tensor is not in the table.
    """
    if isinstance(tree, list):
        return [join_tree(item, tensors) for item in tree]
    if isinstance(tree, dict):
        if _TENSOR in tree:
            return tensors[tree[_TENSOR]]
        if _TUPLE in tree:
            return tuple(join_tree(item, tensors) for item in tree[_TUPLE])
        if _ITEMS in tree:
            return {key: join_tree(item, tensors) for key, item in tree[_ITEMS]}
        return {key: join_tree(item, tensors) for key, item in tree.items()}
    return tree


def storable(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, contiguous, each in memory of its own, as safetensors wants them."""
    stored: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in tensors.items():
        own = tensor.detach().to("cpu").contiguous()
        storage = own.untyped_storage()
        if storage.data_ptr() in seen or storage.nbytes() != own.nbytes:
            own = own.clone(memory_format=torch.contiguous_format)
        seen.add(own.untyped_storage().data_ptr())
        stored[name] = own
    return stored
