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
    """A square convolution whose padding differs between its two sides, so it is added beforehand.

    Args:
        padding: (before, after) of both axes; the rest is `nn.Conv2d`'s.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, *,
        stride: int, dilation: int, groups: int, bias: bool, padding: tuple[int, int],
    ) -> None:  # fmt: skip
        super().__init__(in_channels, out_channels, kernel, stride, dilation=dilation, groups=groups, bias=bias)
        before, after = padding
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
    in_channels: int, out_channels: int, kernel: int, *,
    stride: int = 1, dilation: int = 1, groups: int = 1, bias: bool = True, any_size: bool = False,
) -> nn.Conv2d:  # fmt: skip
    """Build a square convolution padded as TensorFlow's "same".

    With `any_size` sizes that are no multiples of the stride are padded at their end until they are: the output's size
    is size / stride rounded up. Multiples give the same output with and without it.
    """
    before, after = same_padding(kernel, stride, dilation)
    if any_size:
        after += stride - 1
    if before != after:
        return LopsidedConv2d(
            in_channels, out_channels, kernel,
            stride=stride, dilation=dilation, groups=groups, bias=bias, padding=(before, after),
        )  # fmt: skip
    return nn.Conv2d(
        in_channels, out_channels, kernel, stride, padding=before, dilation=dilation, groups=groups, bias=bias
    )


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


@dataclass(frozen=True)
class Path:
    """Chains and blocks that run one after the other."""

    parts: tuple[Chain | Residual, ...] = ()

    def __call__(self, layers: nn.ModuleDict, x: Tensor) -> Tensor:
        """Send `x` through the parts in order."""
        for part in self.parts:
            x = part(layers, x)
        return x


@dataclass(frozen=True)
class Pyramid:
    """Features of several strides, summed at the finest of them (Lin et al. 2017, "Feature pyramid networks").

    Attributes:
        levels: what turns the features of the level before into those of each level, finest first.
        laterals: what brings each level to the channels of the sum.
        after: what the sum goes through.
    """

    levels: tuple[Path, ...]
    laterals: tuple[Chain, ...]
    after: Chain

    def __call__(self, layers: nn.ModuleDict, x: Tensor) -> Tensor:
        """Compute all levels, then sum from the coarsest to the finest, each repeated to the size of the next."""
        features = []
        for level in self.levels:
            x = level(layers, x)
            features.append(x)
        total = self.laterals[-1](layers, features[-1])
        for lateral, feature in zip(self.laterals[-2::-1], features[-2::-1], strict=True):
            finer = lateral(layers, feature)
            total = finer + F.interpolate(total, size=finer.shape[-2:], mode="nearest")
        return self.after(layers, total)


@dataclass(frozen=True)
class Backbone:
    """What turns images (B, 3, H, W) into features (B, channels, H / stride, W / stride).

    Attributes:
        parts: run in order.
        channels: of the features.
        stride: input pixels per feature cell.
        regularised: convolutions whose kernels and biases the regulariser sees.
        sums: groups of convolutions whose outputs are added, so that their channels belong together.
    """

    parts: tuple[Chain | Residual | Pyramid, ...]
    channels: int
    stride: int
    regularised: tuple[str, ...] = ()
    sums: tuple[tuple[str, ...], ...] = ()

    def __call__(self, layers: nn.ModuleDict, images: Tensor) -> Tensor:
        """Compute the features."""
        x = images
        for part in self.parts:
            x = part(layers, x)
        return x


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

    def light(
        self, prefix: str, in_channels: int, out_channels: int, kernel: int = 1, *,
        stride: int = 1, depthwise: bool = False, relu: bool = True,
    ) -> tuple[Chain, int]:  # fmt: skip
        """Add `<prefix>_conv` without bias, `<prefix>_bn` and, unless it stays linear, a ReLU6 `<prefix>_relu`.

        These are the bricks of networks made for 8-bit integers: ReLU6 bounds what has to be represented. Any size
        goes in (see `same_conv`). With `depthwise` each channel has a kernel of its own and `out_channels` does not
        count: there are as many as go in.
        """
        name = f"{prefix}_conv"
        out_channels = self._width(name, in_channels if depthwise else out_channels)
        if depthwise and out_channels != in_channels:
            raise ModelFileError(
                f"The architecture gives the depthwise layer '{name}' {out_channels} channels, but {in_channels} enter."
            )
        self.built[name] = out_channels
        self.layers[name] = same_conv(
            in_channels, out_channels, kernel,
            stride=stride, groups=in_channels if depthwise else 1, bias=False, any_size=True,
        )  # fmt: skip
        chain = Chain((name,))
        chain += self.add(f"{prefix}_bn", nn.BatchNorm2d(out_channels, eps=BN_EPSILON, momentum=BN_MOMENTUM))
        if relu:
            chain += self.add(f"{prefix}_relu", nn.ReLU6(inplace=True))
        return chain, out_channels

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
