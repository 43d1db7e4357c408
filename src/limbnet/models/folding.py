"""Batch norms folded into the convolutions before them: in evaluation both are one linear step."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from limbnet.models.bodyposenet import BodyPoseNet


def norm_behind(model: BodyPoseNet) -> dict[str, str]:
    """Return the batch norm that each convolution's output goes into, by the convolution's name, by looking."""
    made: dict[int, str] = {}
    found: dict[str, str] = {}
    kept: list[Tensor] = []  # so that no id is given twice

    def conv_done(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:  # noqa: ARG001
            made[id(output)] = name
            kept.append(output)

        return hook

    def norm_begins(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:  # noqa: ARG001
            found[made[id(inputs[0])]] = name

        return hook

    handles = []
    for name, layer in model.items():
        if isinstance(layer, nn.Conv2d):
            handles.append(layer.register_forward_hook(conv_done(name)))
        elif isinstance(layer, nn.BatchNorm2d):
            handles.append(layer.register_forward_pre_hook(norm_begins(name)))
    training = model.training
    try:
        side = 4 * model.stride
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, side, side, device=next(model.parameters()).device))
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
    return found


def fold_batch_norms(model: BodyPoseNet) -> None:
    """Fold every batch norm of a network, in place; it computes what it computed in evaluation mode."""
    model.eval()
    for conv, norm in norm_behind(model).items():
        layer, statistics = model[conv], model[norm]
        assert isinstance(layer, nn.Conv2d)  # as they were found
        assert isinstance(statistics, nn.BatchNorm2d)
        model[conv], model[norm] = fuse_conv_bn_eval(layer, statistics), nn.Identity()
