"""Networks small enough for a test."""

from __future__ import annotations

from typing import Any

import torch

from limbnet.models.bodyposenet import BodyPoseNet, StageMaps, build_model
from limbnet.skeleton import BODY_18, Skeleton
from limbnet.specs.train import ModelSpec


def flat(maps: StageMaps) -> list[torch.Tensor]:
    """All maps of all stages in one list."""
    return [*maps.heatmaps, *maps.pafs]


def model_spec(architecture: str = "vgg", *, width: float = 1.0, full: bool = False, **keys: Any) -> ModelSpec:
    """A model spec; keys of the backbone are told from the network's by their names."""
    backbone = {key: keys.pop(key) for key in ("nlayers", "mtype", "use_batch_norm") if key in keys}
    if "backbone_bias" in keys:
        backbone["use_bias"] = keys.pop("backbone_bias")
    return ModelSpec(
        class_name="BpNetModel" if full else "BpNetLiteModel",
        backbone_attributes={"architecture": architecture, "width": width, **backbone},
        width=width,
        **keys,
    )


def make_model(architecture: str = "vgg", *, skeleton: Skeleton = BODY_18, seed: int = 0, **keys: Any) -> BodyPoseNet:
    """A network with weights large enough for its outputs to differ from zero, and statistics that are not trivial."""
    torch.manual_seed(seed)
    model = build_model(model_spec(architecture, **{"kernel_initializer": "xavier", **keys}), skeleton)
    for layer in model.values():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(std=0.1)
            layer.running_var.uniform_(0.5, 2)
        elif isinstance(layer, torch.nn.Conv2d) and layer.bias is not None:
            torch.nn.init.normal_(layer.bias, std=0.1)
    return model.eval()
