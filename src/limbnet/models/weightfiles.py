"""Readers of weight files that limbnet did not write: Keras HDF5 and PyTorch state dicts, as tables of layers.

Kernels leave this module in torch's axis order (out, in, height, width), layers under BodyPoseNet's names where the
file's names are known to mean the same.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Mapping
from string import ascii_lowercase
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor

from limbnet.errors import ModelFileError
from limbnet.models.efficientnet import lite0_blocks
from limbnet.models.filekinds import FileKind

#: Parameters of each layer in torch's terms: weight, bias, running_mean, running_var.
Layers = dict[str, dict[str, Tensor]]

#: Keras' names of parameters.
_KERAS_PARAMETERS = {
    "kernel": "weight",
    "bias": "bias",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}

#: Convolutions of VGG-19's blocks 1 to 5.
_VGG_19 = (2, 2, 4, 4, 4)


def read_keras(content: bytes, path: str) -> Layers:
    """Read the layout of Keras 2: group `model_weights` or the root, attributes `layer_names` and `weight_names`.

    Raises:
        ModelFileError: the file is damaged, or holds no Keras weights. `path` is how messages call it.
    """
    import h5py

    layers: Layers = {}
    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            root = file.get("model_weights", file)
            names = _attribute(root, "layer_names")
            if not names:
                raise ModelFileError(
                    f"'{path}' is an HDF5 file, but holds no Keras weights (no attribute 'layer_names').",
                    "Give a file of Keras 2's save_weights or save.",
                )
            for layer in names:
                weight_names = _attribute(root[layer], "weight_names")
                # A model within the model (TAO's retrained ones) names its inner layers in its weights' names only.
                inner = {name.rpartition("/")[0] for name in weight_names}
                for name in weight_names:
                    scope, _, parameter = name.partition(":")[0].rpartition("/")
                    if parameter not in _KERAS_PARAMETERS:
                        continue
                    value = np.asarray(root[layer][name], dtype=np.float32)
                    target = layers.setdefault(scope if len(inner) > 1 else layer, {})
                    target[_KERAS_PARAMETERS[parameter]] = torch.from_numpy(_channels_first(value))
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise ModelFileError(
            f"'{path}' is damaged or cut short: {error}.", "Copy it again from where it came."
        ) from error
    return layers


def _attribute(group: Any, name: str) -> list[str]:
    """Read a list of names; Keras cuts those too long for one attribute into `<name>0`, `<name>1`, ..."""
    if name in group.attrs:
        parts = [group.attrs[name]]
    else:
        parts = []
        while f"{name}{len(parts)}" in group.attrs:
            parts.append(group.attrs[f"{name}{len(parts)}"])
    return [item.decode() if isinstance(item, bytes) else str(item) for part in parts for item in part]


def _channels_first(value: NDArray[np.float32]) -> NDArray[np.float32]:
    """Turn a kernel (height, width, in, out) into (out, in, height, width), a matrix (in, out) into (out, in)."""
    return np.ascontiguousarray(value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T)


def read_state_dict(kind: FileKind, content: bytes, path: str) -> dict[str, Tensor]:
    """Read tensors by name from a safetensors or torch.save file; nothing but tensors and plain values is unpickled.

    Raises:
        ModelFileError: the file is damaged, or holds something else. `path` is how messages call it.
    """
    try:
        if kind is FileKind.SAFETENSORS:
            return safetensors.torch.load(content)
        found = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelFileError(
            f"'{path}' holds more than tensors, and nothing else is loaded from a pickle.",
            "Save the state dict alone: torch.save(model.state_dict(), path).",
        ) from error
    except (SafetensorError, RuntimeError, ValueError, EOFError, KeyError, OSError) as error:
        raise ModelFileError(
            f"'{path}' is damaged or cut short: {error}.", "Copy it again from where it came."
        ) from error
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(wrapper), Mapping):
            found = found[wrapper]
    if not isinstance(found, Mapping) or not any(isinstance(value, Tensor) for value in found.values()):
        raise ModelFileError(f"'{path}' is a PyTorch file, but holds no state dict.", "Save model.state_dict().")
    return {str(name): value for name, value in found.items() if isinstance(value, Tensor)}


def by_layer(state: Mapping[str, Tensor]) -> Layers:
    """Group a state dict by layer; the prefix `module.` of wrapped models is taken off."""
    layers: Layers = {}
    for key, value in state.items():
        layer, _, parameter = key.removeprefix("module.").rpartition(".")
        if parameter != "num_batches_tracked":
            layers.setdefault(layer, {})[parameter] = value.float()
    return layers


def torchvision_renamed(layers: Layers, path: str) -> Layers:
    """Give layers of published networks the names of BodyPoseNet's backbones; others keep theirs.

    Known are torchvision's VGG-19 and ResNets, and EfficientNet-Lite0 as `efficientnet_lite_pytorch` names it.

    Raises:
        ModelFileError: it is a VGG of another depth. `path` is how messages call the file.
    """
    numbers = sorted(int(found[1]) for name in layers if (found := re.fullmatch(r"features\.(\d+)", name)))
    if numbers:
        return layers | _renamed_vgg(layers, numbers, path)
    named = _lite0_name if "_blocks.0._depthwise_conv" in layers else _resnet_name
    renamed = {name: named(name) for name in layers}
    return {renamed[name]: parameters for name, parameters in layers.items()}


def _renamed_vgg(layers: Layers, numbers: list[int], path: str) -> Layers:
    kernels = [number for number in numbers if layers[f"features.{number}"]["weight"].ndim == 4]
    if len(kernels) != sum(_VGG_19):
        raise ModelFileError(
            f"'{path}' is a VGG with {len(kernels)} convolutions; the backbone is VGG-19, which has {sum(_VGG_19)}.",
            "Give torchvision's vgg19 or vgg19_bn.",
        )
    places = [f"block_{block}{ascii_lowercase[i]}" for block, count in enumerate(_VGG_19, 1) for i in range(count)]
    renamed: Layers = {}
    for number, place in zip(kernels, places, strict=True):
        renamed[f"{place}_conv_1"] = layers.pop(f"features.{number}")
        if "running_mean" in layers.get(f"features.{number + 1}", {}):
            renamed[f"{place}_bn_1"] = layers.pop(f"features.{number + 1}")
    return renamed


def _resnet_name(name: str) -> str:
    if name == "bn1":
        return "bn_conv1"
    found = re.fullmatch(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))", name)
    if not found or int(found[2]) >= len(ascii_lowercase):
        return name
    block = f"block_{found[1]}{ascii_lowercase[int(found[2])]}"
    if found[5] is not None:
        return f"{block}_{('conv', 'bn')[int(found[5])]}_shortcut"
    return f"{block}_{found[3]}_{found[4]}"


def _lite0_name(name: str) -> str:
    if name in ("_conv_stem", "_bn0"):
        return {"_conv_stem": "stem_conv", "_bn0": "stem_bn"}[name]
    found = re.fullmatch(r"_blocks\.(\d+)\._(?:(expand|depthwise|project)_conv|bn([012]))", name)
    blocks = lite0_blocks()
    if not found or int(found[1]) >= len(blocks):
        return name
    block = blocks[int(found[1])]
    return f"{block}_{found[2]}_conv" if found[2] else f"{block}_{('expand', 'depthwise', 'project')[int(found[3])]}_bn"
