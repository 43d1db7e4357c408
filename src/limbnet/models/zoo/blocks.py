"""Parts that several published networks share: convolutions with norm, ResNet's blocks, and initial weights."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def convolution(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


def conv_norm(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, relu: bool = True) -> nn.Sequential:
    """Return convolution `0`, batch norm `1` and ReLU `2`; without ReLU for what is added to other maps."""
    if not relu:
        return nn.Sequential(convolution(inputs, outputs, kernel, stride), added_norm(outputs))
    return nn.Sequential(convolution(inputs, outputs, kernel, stride), nn.BatchNorm2d(outputs), nn.ReLU())


def added_norm(channels: int) -> nn.BatchNorm2d:
    """Return a batch norm whose result is added to other maps: it starts at 0.25, so that sums stay within FP16."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, 0.25)
    return norm


def upsampling(inputs: int, outputs: int) -> nn.Sequential:
    """Return a 4x4 transposed convolution `0` that doubles the size, batch norm `1` and ReLU."""
    return nn.Sequential(nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the identity (He et al. 2016), C to C channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = convolution(channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = convolution(channels, channels)
        self.bn2 = added_norm(channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        inner = F.relu(self.bn1(self.conv1(features)))
        return F.relu(self.bn2(self.conv2(inner)) + features)


class Bottleneck(nn.Module):
    """1x1, 3x3, 1x1 convolutions beside the identity or a projection (He et al. 2016); four times `width` come out.

    The stride is the 3x3 convolution's.
    """

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1 = convolution(inputs, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, outputs, 1)
        self.bn3 = added_norm(outputs)
        projects = stride != 1 or inputs != outputs
        self.downsample = conv_norm(inputs, outputs, 1, stride, relu=False) if projects else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, 4 width, h / stride, w / stride)."""
        inner = F.relu(self.bn1(self.conv1(features)))
        inner = F.relu(self.bn2(self.conv2(inner)))
        return F.relu(self.bn3(self.conv3(inner)) + self.downsample(features))


def bottlenecks(inputs: int, width: int, count: int, stride: int = 1) -> nn.Sequential:
    """Return `count` bottlenecks; the first takes `inputs` channels and the stride."""
    following = [Bottleneck(4 * width, width) for _ in range(count - 1)]
    return nn.Sequential(Bottleneck(inputs, width, stride), *following)


def channel_shuffle(features: Tensor) -> Tensor:
    """Interleave the two halves of the channels (Zhang et al. 2018, two groups): 0, C/2, 1, C/2 + 1, ..."""
    return torch.unflatten(features, 1, (2, -1)).transpose(1, 2).flatten(1, 2)


@torch.no_grad()
def initialise(network: nn.Module, heads: Iterable[nn.Conv2d]) -> None:
    """Give every convolution of `network` initial weights from torch's generator, in the order of its modules.

    The publications draw every weight with a deviation of 0.001, which works only behind a norm in training mode: in
    evaluation mode such a network fades to denormal numbers, which are slow and hide mistakes. Here He's
    initialisation keeps the scale. The `heads`, which return maps, do start at the published deviation of 0.001.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for head in heads:
        nn.init.normal_(head.weight, std=0.001)
