"""Parameters and multiply-adds of a network, counted without computing anything."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Attributes:
        parameters: weights and biases, batch norm's running statistics included (as Keras counts).
        multiply_adds: of convolutions, matrix products and attention, for one picture.
        by_layer: multiply-adds of every layer that has some, by name, in the order in which they run.
    """

    parameters: int
    multiply_adds: int
    by_layer: dict[str, int]


def count_parameters(model: nn.Module) -> int:
    """Count weights and biases, and the running statistics of batch norms."""
    statistics = sum(
        buffer.numel() for name, buffer in model.named_buffers() if name.endswith(("running_mean", "running_var"))
    )
    return sum(parameter.numel() for parameter in model.parameters()) + statistics


def count_cost(model: nn.Module, input_size: tuple[int, int]) -> Cost:
    """Count what `model` costs on one picture.

    Args:
        model: any network of images (B, 3, H, W); it is left as it is.
        input_size: (height, width) of the picture, multiples of the network's stride.
    """
    shapes = copy.deepcopy(model).to("meta").eval()  # tensors without content: only shapes are computed
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        shapes(torch.empty(1, 3, *input_size, device="meta"))
    counts = counter.get_flop_counts()
    prefix = type(model).__name__ + "."
    leaves = {name for name, module in model.named_modules() if name and not list(module.children())}
    by_layer = {
        module.removeprefix(prefix): sum(operations.values()) // 2
        for module, operations in counts.items()
        if module.removeprefix(prefix) in leaves
    }
    return Cost(count_parameters(model), counter.get_total_flops() // 2, by_layer)
