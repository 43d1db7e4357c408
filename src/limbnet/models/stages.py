"""Stages: each looks at the features and the maps of the stage before, and returns better maps.

Wei et al. 2016 (Convolutional Pose Machines) and Cao et al. 2017 (part affinity fields) are the roots; layer names and
widths are BodyPoseNet's. The Lite network shares a trunk between the two branches, the full one does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn

from limbnet.models.layers import Chain, LayerBuilder, Path, Residual, scaled


@dataclass(frozen=True)
class Branch:
    """One branch of a stage: `out(body(x))`, or `out(y * attention(y))` with y = body(x) where there is attention."""

    body: Chain
    attention: Chain
    out: Chain

    def __call__(self, layers: nn.ModuleDict, x: Tensor) -> Tensor:
        """(B, C, h, w) to the branch's maps."""
        x = self.body(layers, x)
        if self.attention.names:
            x = x * self.attention(layers, x)
        return self.out(layers, x)


@dataclass(frozen=True)
class Stage:
    """A stage: a trunk that both branches share (empty in the full network), then heatmaps and part affinity fields.

    `partners` are groups of convolutions that must keep the same channels when the network is pruned.
    """

    trunk: Chain | Path
    heat: Branch
    paf: Branch
    partners: tuple[tuple[str, ...], ...] = ()

    def __call__(self, layers: nn.ModuleDict, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, h, w) to heatmaps (B, K+1, h, w) and part affinity fields (B, 2L, h, w)."""
        x = self.trunk(layers, x)
        paf = self.paf(layers, x)  # first, as it is built
        return self.heat(layers, x), paf


@dataclass(frozen=True)
class StageDesign:
    """What all stages of a network have in common.

    Attributes:
        lite: whether the branches share a trunk.
        heat_channels, paf_channels: of the maps.
        width: factor on the channels of every convolution but the outputs.
        first_kernels, later_kernels: kernel sizes of the convolutions before the 1x1 ones, in stage 1 and afterwards.
        attention: whether stages after the first multiply their features by a learnt mask.
        bias: whether convolutions have one.
    """

    lite: bool
    heat_channels: int
    paf_channels: int
    width: float
    first_kernels: tuple[int, ...]
    later_kernels: tuple[int, ...]
    attention: bool
    bias: bool


def build_stage(build: LayerBuilder, design: StageDesign, number: int, *, last: bool, in_channels: int) -> Stage:
    """Add stage `number` (from 1) and return it. The last one's outputs are called `heatmap_out` and `paf_out`."""
    kernels = design.first_kernels if number == 1 else design.later_kernels
    trunk, channels = Chain(), in_channels
    if design.lite:
        trunk, channels = _convolutions(build, design, f"stage{number}", kernels, channels)
    # The order matters: layers are visited in the order in which they are built.
    paf = _branch(build, design, number, "paf", last=last, channels=channels)
    heat = _branch(build, design, number, "heat", last=last, channels=channels)
    return Stage(trunk, heat, paf)


def _branch(
    build: LayerBuilder, design: StageDesign, number: int, kind: Literal["heat", "paf"], *, last: bool, channels: int
) -> Branch:
    kernels = design.first_kernels if number == 1 else design.later_kernels
    body = Chain()
    if design.lite:
        prefix = f"stage{number}/" + ("paf" if kind == "paf" else "cmap")
    else:
        prefix = f"stage{number}/{kind}_branch"
        body, channels = _convolutions(build, design, prefix, kernels, channels)
    point, channels = build.conv(
        f"{prefix}/conv{len(kernels) + 1}", channels, scaled(512 if number == 1 else 128, design.width), 1,
        bias=design.bias, relu=f"{prefix}/conv{len(kernels) + 1}/relu",
    )  # fmt: skip
    attention = Chain()
    if design.attention and number > 1:
        name = f"{prefix}/attention_conv"
        attention, channels = build.conv(name, channels, channels, 3, bias=design.bias)
        attention += build.add(
            f"{name}/" + ("tanh" if kind == "paf" else "sigmoid"), nn.Tanh() if kind == "paf" else nn.Sigmoid()
        )
    out_name = {"heat": "heatmap_out", "paf": "paf_out"}[kind] if last else f"stage{number}/{kind}_branch/out"
    maps = design.heat_channels if kind == "heat" else design.paf_channels
    out, _ = build.conv(out_name, channels, maps, 1, bias=design.bias)
    return Branch(body + point, attention, out)


def _convolutions(
    build: LayerBuilder, design: StageDesign, prefix: str, kernels: Sequence[int], channels: int
) -> tuple[Chain, int]:
    """Add `conv1`, `conv2`, ... under `prefix`, each 128 wide with a ReLU."""
    chain = Chain()
    for number, kernel in enumerate(kernels, 1):
        name = f"{prefix}/conv{number}"
        added, channels = build.conv(
            name, channels, scaled(128, design.width), kernel, bias=design.bias, relu=f"{name}/relu"
        )
        chain += added
    return chain, channels


def build_light_stage(build: LayerBuilder, design: StageDesign, number: int, *, last: bool, in_channels: int) -> Stage:
    """Add stage `number` (from 1) of the light network and return it.

    A 1x1 convolution, then for each kernel size a residual block: a depthwise convolution of that size and a 1x1 one
    (Chollet 2017, "Xception"). Each branch has a 1x1 convolution of its own before its maps.
    """
    width = scaled(128, design.width)
    prefix = f"stage{number}/"
    entry, channels = build.light(f"{prefix}entry", in_channels, width)
    parts: list[Chain | Residual] = [entry]
    summed = [f"{prefix}entry_conv"]
    for place, kernel in enumerate(design.first_kernels if number == 1 else design.later_kernels, 1):
        filtered, _ = build.light(f"{prefix}depthwise{place}", channels, 0, kernel, depthwise=True)
        mixed, channels = build.light(f"{prefix}mix{place}", channels, width, relu=False)
        after = build.add(f"{prefix}block{place}_relu", nn.ReLU6(inplace=True))
        parts.append(Residual(filtered + mixed, Chain(), after))
        summed += [f"{prefix}depthwise{place}_conv", f"{prefix}mix{place}_conv"]
    branches = {}
    for kind, name, maps in (("paf", "paf", design.paf_channels), ("heat", "cmap", design.heat_channels)):
        body, body_channels = build.light(f"{prefix}{name}", channels, width)
        out_name = {"heat": "heatmap_out", "paf": "paf_out"}[kind] if last else f"{prefix}{kind}_branch/out"
        out, _ = build.conv(out_name, body_channels, maps, 1)
        branches[kind] = Branch(body, Chain(), out)
    return Stage(Path(tuple(parts)), branches["heat"], branches["paf"], (tuple(summed),))
