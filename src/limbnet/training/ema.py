"""Exponential moving average of the weights: steadier than the last update, and what is saved and validated."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MovingAverage:
    """Follows the parameters and running statistics of a network.

        average <- d average + (1 - d) weights,    d = min(decay, (1 + n) / (10 + n)) at update n

    The rising d lets short runs forget their initial weights. Integer buffers (batch counters) are copied.

    Args:
        model: the network followed; its present weights start the average.
        decay: the final d, 0.999 for example.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.weights = {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take in the weights as they are after an update of the optimiser."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages: list[Tensor] = []
        current: list[Tensor] = []
        for name, tensor in model.state_dict().items():
            if tensor.is_floating_point():
                averages.append(self.weights[name])
                current.append(tensor)
            else:
                self.weights[name].copy_(tensor)
        torch._foreach_lerp_(averages, current, 1 - decay)
