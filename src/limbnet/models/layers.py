"""The bricks of every BodyPoseNet: "same" convolutions as TensorFlow pads them, and chains of named layers.

Layers carry BodyPoseNet's names, slashes included (`stage2/conv1`), and lie side by side in one `nn.ModuleDict`: the
state dict's keys are `<layer>.weight`. What runs after what is said by `Chain`, `Residual` and `Stage`: plain
values that hold names, so that layers may be replaced (pruned, quantised) without touching the wiring.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor, nn

from limbnet.errors import ModelFileError, nearest

#: Keras' defaults: epsilon 1e-3, and 0.99 of the running average kept at each step.
BN_EPSILON, BN_MOMENTUM = 1e-3, 0.01


def same_padding(kernel: int, stride: int = 1, dilation: int = 1) -> tuple[int, int]:
    """Return the padding (before, after) of one axis that TensorFlow calls "same".

    It holds for sizes that are multiples of `stride`; the output's size is size / stride. The odd pixel goes after: a
    3-wide kernel of stride 2 is padded by (0, 1).
    """
    total = max(dilation * (kernel - 1) + 1 - stride, 0)
    return total // 2, total - total // 2


class LopsidedConv2d(nn.Conv2d):
    """A square convolution whose "same" padding differs by a pixel between its two sides, so it is added beforehand."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *, stride: int, dilation: int, bias: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, dilation=dilation, bias=bias)
        before, after = same_padding(kernel, stride, dilation)
        self.margins = (before, after, before, after)  # left, right, top, bottom

    def forward(self, input: Tensor) -> Tensor:
        """Pad with zeros, then convolve. (B, C, H, W) to (B, out, H / stride, W / stride)."""
        return super().forward(F.pad(input, self.margins))


class LopsidedMaxPool2d(nn.MaxPool2d):
    """Max pooling with "same" padding that differs by a pixel between the two sides. Inputs must not be negative."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__(kernel, stride)
        before, after = same_padding(kernel, stride)
        self.margins = (before, after, before, after)

    def forward(self, input: Tensor) -> Tensor:
        """Pad with zeros, which lose against every ReLU output, then take maxima."""
        pooled: Tensor = super().forward(F.pad(input, self.margins))
        return pooled


def same_conv(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1, bias: bool = True
) -> nn.Conv2d:
    """Build a square convolution padded as TensorFlow's "same"."""
    before, after = same_padding(kernel, stride, dilation)
    if before != after:
        return LopsidedConv2d(in_channels, out_channels, kernel, stride=stride, dilation=dilation, bias=bias)
    return nn.Conv2d(in_channels, out_channels, kernel, stride, padding=before, dilation=dilation, bias=bias)


@dataclass(frozen=True)
class Chain:
    """Layers that run one after the other, by name."""

    names: tuple[str, ...] = ()

    def __call__(self, layers: nn.ModuleDict, x: Tensor) -> Tensor:
        """Send `x` through the layers in order."""
        for name in self.names:
            x = layers[name](x)
        return x

    def __add__(self, other: Chain) -> Chain:
        """Join two chains."""
        return Chain(self.names + other.names)


@dataclass(frozen=True)
class Residual:
    """A residual block: `after(main(x) + shortcut(x))`; an empty shortcut is the identity."""

    main: Chain
    shortcut: Chain
    after: Chain

    def __call__(self, layers: nn.ModuleDict, x: Tensor) -> Tensor:
        """Send `x` through both ways and add them."""
        return self.after(layers, self.main(layers, x) + self.shortcut(layers, x))


class LayerBuilder:
    """Adds layers to a network and decides how wide each convolution is.

    Args:
        layers: where the layers go.
        channels: out-channels by layer name when an existing (perhaps pruned) network is rebuilt. None for a new one,
            whose widths are those asked for.

    After building, `leftover()` names the given channels that no layer took.
    """

    def __init__(self, layers: nn.ModuleDict, channels: Mapping[str, int] | None = None) -> None:
        self.layers = layers
        self.channels = channels
        self.built: dict[str, int] = {}

    def conv(
        self, name: str, in_channels: int, out_channels: int, kernel: int, *,
        stride: int = 1, dilation: int = 1, bias: bool = True, norm: str = "", relu: str = "",
    ) -> tuple[Chain, int]:  # fmt: skip
        """Add a convolution, then batch norm and ReLU under the names given, and return the chain and its channels."""
        out_channels = self._width(name, out_channels)
        self.built[name] = out_channels
        self.layers[name] = same_conv(in_channels, out_channels, kernel, stride=stride, dilation=dilation, bias=bias)
        if norm:
            self.layers[norm] = nn.BatchNorm2d(out_channels, eps=BN_EPSILON, momentum=BN_MOMENTUM)
        if relu:
            self.add(relu, nn.ReLU(inplace=True))
        return Chain(tuple(filter(None, (name, norm, relu)))), out_channels

    def add(self, name: str, layer: nn.Module) -> Chain:
        """Add a layer without channels of its own."""
        self.layers[name] = layer
        return Chain((name,))

    def _width(self, name: str, asked: int) -> int:
        if self.channels is None:
            return asked
        if name not in self.channels:
            raise ModelFileError(f"The architecture lacks the width of layer '{name}'.{nearest(name, self.channels)}")
        width = self.channels[name]
        if width < 1:
            raise ModelFileError(f"The architecture gives layer '{name}' {width} channels.")
        return width

    def leftover(self) -> list[str]:
        """Names in `channels` that no layer took."""
        return [name for name in self.channels or () if name not in self.built]


def scaled(channels: int, width: float) -> int:
    """Return `channels * width` rounded to a multiple of 8, at least 8: widths that vector units like."""
    return max(8, round(channels * width / 8) * 8)
