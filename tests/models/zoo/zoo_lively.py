"""Gives a network weights with which every layer has something to say, as trained ones do and initial ones do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limbnet.models.zoo import ZooEntry
from limbnet.models.zoo.dekr import AdaptiveBlock
from limbnet.runtime.zoo.network import NORMALISATIONS


@torch.no_grad()
def enliven(network: nn.Module, seed: int = 0) -> nn.Module:
    """Draw statistics, scales, slopes and biases; DEKR's taps get stretched, turned and moved, some outside the map."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
            module.weight *= torch.empty_like(module.weight).uniform_(0.5, 1.5, generator=generator)
            module.bias.normal_(0, 0.1, generator=generator)
        elif isinstance(module, nn.PReLU):
            module.weight.uniform_(0.05, 0.5, generator=generator)
        elif isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            module.bias.normal_(0, 0.1, generator=generator)
            if module.weight.std() < 0.002:  # a head
                module.weight.normal_(0, module.weight[0].numel() ** -0.5, generator=generator)
    for module in network.modules():
        if isinstance(module, AdaptiveBlock):
            module.transform_matrix_conv.weight.normal_(0, 0.02, generator=generator)
            module.transform_matrix_conv.bias += torch.tensor([1.0, 0.3, -0.3, 1.2])
            module.translation_conv.weight.normal_(0, 0.05, generator=generator)
            module.translation_conv.bias.normal_(0, 1.0, generator=generator)
    return network.eval()


@torch.no_grad()
def settle(network: nn.Module, entry: ZooEntry, pictures: Sequence[NDArray[np.uint8]]) -> nn.Module:
    """Measure the statistics of batch norms on pictures (H, W, 3), as training does, so that values stay moderate."""
    mean, deviation = (torch.tensor(values) for values in NORMALISATIONS[entry.normalisation])
    images = (torch.from_numpy(np.stack(pictures)).float() - mean) / deviation
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None
            module.train()
    network(images.permute(0, 3, 1, 2))
    return network.eval()
