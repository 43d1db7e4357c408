"""Lite-HRNet and naive Lite-HRNet (Yu et al. 2021): HRNet's branches with weighted channels or shuffle units.

State-dict names are those of the published mmpose checkpoints. The fuse step is the published code's, which differs
from HRNet's (see `LiteModule.fused`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbnet.models.zoo.blocks import added_norm, channel_shuffle, convolution, initialise
from limbnet.models.zoo.outputs import JointMaps

Unit = Literal["shuffle", "weighting"]
Activation = Literal["none", "relu", "sigmoid"]

STEM_CHANNELS = 32
#: Modules in the three stages, which have 2, 3 and 4 branches.
MODULES = (2, 4, 2)
BLOCKS_PER_MODULE = 2
CROSS_RESOLUTION_RATIO = 8
SPATIAL_RATIO = 4


class ConvUnit(nn.Module):
    """Convolution `conv`, batch norm `bn` and an activation; without norm the convolution has a bias."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "relu",
        norm: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=not norm)
        self.bn = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.activation = activation

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h / stride, w / stride)."""
        features = self.bn(self.conv(features))
        if self.activation == "relu":
            return F.relu(features)
        return torch.sigmoid(features) if self.activation == "sigmoid" else features


def depthwise(channels: int, stride: int = 1) -> ConvUnit:
    """Return a 3x3 depthwise unit with norm and without activation."""
    return ConvUnit(channels, channels, 3, stride=stride, groups=channels, activation="none")


def separable(inputs: int, outputs: int, stride: int, relu: bool) -> nn.Sequential:
    """Return 3x3 depthwise `0`, norm `1`, 1x1 `2`, norm `3` and ReLU; without it for what is added to other maps."""
    depthwise_part = [convolution(inputs, inputs, 3, stride, inputs), nn.BatchNorm2d(inputs)]
    last = [nn.BatchNorm2d(outputs), nn.ReLU()] if relu else [added_norm(outputs)]
    return nn.Sequential(*depthwise_part, convolution(inputs, outputs, 1), *last)


class Stem(nn.Module):
    """Two halvings: a 3x3 convolution, then one way for each half of the channels, concatenated and shuffled."""

    def __init__(self) -> None:
        super().__init__()
        half = STEM_CHANNELS // 2
        self.conv1 = ConvUnit(3, STEM_CHANNELS, 3, stride=2)
        self.branch1 = nn.Sequential(depthwise(half, 2), ConvUnit(half, half))
        self.expand_conv = ConvUnit(half, STEM_CHANNELS)
        self.depthwise_conv = depthwise(STEM_CHANNELS, 2)
        self.linear_conv = ConvUnit(STEM_CHANNELS, half)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, 32, H/4, W/4)."""
        left, right = self.conv1(images).chunk(2, 1)
        right = self.linear_conv(self.depthwise_conv(self.expand_conv(right)))
        return channel_shuffle(torch.cat((self.branch1(left), right), 1))


class ShuffleUnit(nn.Module):
    """Half of the channels pass, the other half goes through 1x1, 3x3 depthwise, 1x1 (Ma et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        middle = depthwise(half)
        if isinstance(middle.bn, nn.BatchNorm2d):
            nn.init.constant_(middle.bn.weight, 0.5)  # the exchange after two units doubles the first branch
        self.branch2 = nn.Sequential(ConvUnit(half, half), middle, ConvUnit(half, half))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        passing, changed = features.chunk(2, 1)
        return channel_shuffle(torch.cat((passing, self.branch2(changed)), 1))


class CrossResolutionWeighting(nn.Module):
    """Weights for every channel and place of every branch, computed from all branches at the lowest resolution."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = list(widths)
        total = sum(widths)
        self.conv1 = ConvUnit(total, total // CROSS_RESOLUTION_RATIO)
        self.conv2 = ConvUnit(total // CROSS_RESOLUTION_RATIO, total, activation="sigmoid")

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map one tensor (B, width, h, w) per branch to the same shapes."""
        lowest = branches[-1]
        height, width = lowest.shape[-2:]
        pooled = [F.adaptive_avg_pool2d(branch, (height, width)) for branch in branches[:-1]]
        weights = self.conv2(self.conv1(torch.cat([*pooled, lowest], 1))).split(self.widths, 1)
        return [
            branch * F.interpolate(weight, size=branch.shape[-2:], mode="nearest")
            for branch, weight in zip(branches, weights, strict=True)
        ]


class SpatialWeighting(nn.Module):
    """One weight per channel, computed from its mean over the map (Hu et al. 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = ConvUnit(channels, channels // SPATIAL_RATIO, norm=False)
        self.conv2 = ConvUnit(channels // SPATIAL_RATIO, channels, activation="sigmoid", norm=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        weights: Tensor = self.conv2(self.conv1(F.adaptive_avg_pool2d(features, 1)))
        return features * weights


class ChannelWeighting(nn.Module):
    """Conditional channel weighting: the 1x1 convolutions of a shuffle unit replaced by weights across all branches."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        halves = [width // 2 for width in widths]
        self.cross_resolution_weighting = CrossResolutionWeighting(halves)
        self.depthwise_convs = nn.ModuleList(depthwise(half) for half in halves)
        self.spatial_weighting = nn.ModuleList(SpatialWeighting(half) for half in halves)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map one tensor (B, width, h, w) per branch to the same shapes."""
        passing, changed = zip(*(branch.chunk(2, 1) for branch in branches), strict=True)
        weighted = self.cross_resolution_weighting(list(changed))
        weighted = [
            spatial(convolve(branch))
            for branch, convolve, spatial in zip(weighted, self.depthwise_convs, self.spatial_weighting, strict=True)
        ]
        return [channel_shuffle(torch.cat(pair, 1)) for pair in zip(passing, weighted, strict=True)]


class LiteModule(nn.Module):
    """Two units on every branch, then the exchange between the branches."""

    def __init__(self, widths: Sequence[int], unit: Unit) -> None:
        super().__init__()
        self.unit = unit
        self.layers: nn.Sequential | nn.ModuleList
        if unit == "weighting":
            self.layers = nn.Sequential(*(ChannelWeighting(widths) for _ in range(BLOCKS_PER_MODULE)))
        else:
            self.layers = nn.ModuleList(
                nn.Sequential(*(ShuffleUnit(width) for _ in range(BLOCKS_PER_MODULE))) for width in widths
            )
        branches = range(len(widths))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_path(widths, target, source) for source in branches) for target in branches
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map one tensor (B, width, h / 2^b, w / 2^b) per branch b to the same shapes."""
        if self.unit == "weighting":
            return self.fused(self.layers(branches))
        return self.fused([units(branch) for units, branch in zip(self.layers, branches, strict=True)])

    def fused(self, branches: list[Tensor]) -> list[Tensor]:
        """Exchange the branches as the published code does, with which the published weights were trained.

        Each output's sum starts with branch 0 and then runs over all branches, 0 again included, so branch 0 counts
        twice. For output 0 the additions are made in place, so what the other outputs read as branch 0 is already
        output 0's sum, before its ReLU. The two equal ways of branch 0 are computed once here.
        """
        paths = [list(row) for row in self.fuse_layers if isinstance(row, nn.ModuleList)]
        first = branches[0] + branches[0]
        for source in range(1, len(branches)):
            first = first + paths[0][source](branches[source])
        outputs = [F.relu(first)]
        for target in range(1, len(branches)):
            total = paths[target][0](first)
            total = total + total
            for source in range(1, len(branches)):
                total = total + paths[target][source](branches[source])
            outputs.append(F.relu(total))
        return outputs


def fuse_path(widths: Sequence[int], target: int, source: int) -> nn.Module:
    """Return the layers that bring branch `source` to the width and size of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        return nn.Sequential(
            convolution(widths[source], widths[target], 1),
            added_norm(widths[target]),
            nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"),
        )
    steps = [separable(widths[source], widths[source], 2, relu=True) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, separable(widths[source], widths[target], 2, relu=False))


class LiteTransition(nn.ModuleList):
    """Opens the branches of the next stage: kept ones pass, others come from the lowest branch so far."""

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for index, width in enumerate(after):
            if index >= len(before):
                layers.append(nn.Sequential(separable(before[-1], width, 2, relu=True)))
            elif width != before[index]:
                layers.append(separable(before[index], width, 1, relu=True))
            else:
                layers.append(nn.Identity())
        super().__init__(layers)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Return one map per branch of the next stage."""
        return [layer(branches[min(index, len(branches) - 1)]) for index, layer in enumerate(self)]


class SeparableUnit(nn.Module):
    """3x3 depthwise unit, then a 1x1 unit with ReLU, under mmcv's names."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.depthwise_conv = depthwise(inputs)
        self.pointwise_conv = ConvUnit(inputs, outputs)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, inputs, h, w) to (B, outputs, h, w)."""
        projected: Tensor = self.pointwise_conv(self.depthwise_conv(features))
        return projected


class IterativeHead(nn.Module):
    """Climbs from the lowest branch to the first: project, enlarge, add the next branch, and project at last."""

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        upwards = list(reversed(widths))
        self.projects = nn.ModuleList(map(SeparableUnit, upwards, [*upwards[1:], upwards[-1]]))

    def forward(self, branches: list[Tensor]) -> Tensor:
        """Return the first branch (B, C, h, w) with all others worked in."""
        upwards = list(reversed(branches))
        features: Tensor = self.projects[0](upwards[0])
        for project, branch in zip(self.projects[1:], upwards[1:], strict=True):
            enlarged = F.interpolate(features, size=branch.shape[-2:], mode="bilinear", align_corners=True)
            features = project(branch + enlarged)
        return features


class LiteBackbone(nn.Module):
    """Stem, three stages of 2, 3 and 4 branches, iterative head."""

    def __init__(self, width: int, unit: Unit) -> None:
        super().__init__()
        widths = [width * 2**branch for branch in range(len(MODULES) + 1)]
        self.stem = Stem()
        before = [STEM_CHANNELS]
        for stage, modules in enumerate(MODULES):
            after = widths[: stage + 2]
            self.add_module(f"transition{stage}", LiteTransition(before, after))
            self.add_module(f"stage{stage}", nn.Sequential(*(LiteModule(after, unit) for _ in range(modules))))
            before = after
        self.head_layer = IterativeHead(widths)

    def forward(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to (B, C, H/4, W/4)."""
        branches = [self.stem(images)]
        for stage in range(len(MODULES)):
            branches = self.get_submodule(f"transition{stage}")(branches)
            branches = self.get_submodule(f"stage{stage}")(branches)
        features: Tensor = self.head_layer(branches)
        return features


class KeypointHead(nn.Module):
    """One 1x1 convolution with bias, under mmpose's name."""

    def __init__(self, channels: int, joints: int) -> None:
        super().__init__()
        self.final_layer = nn.Conv2d(channels, joints, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to (B, K, h, w)."""
        maps: Tensor = self.final_layer(features)
        return maps


class LiteHRNet(nn.Module):
    """Lite-HRNet-18 (unit `weighting`, first branch 40 wide) or naive Lite-HRNet-18 (unit `shuffle`, 30 wide)."""

    def __init__(self, width: int, unit: Unit, joints: int) -> None:
        super().__init__()
        self.backbone = LiteBackbone(width, unit)
        self.keypoint_head = KeypointHead(width, joints)
        initialise(self, [self.keypoint_head.final_layer])

    def forward(self, images: Tensor) -> JointMaps:
        """Map normalised images (B, 3, H, W), sides multiples of 32, to heatmaps (B, K, H/4, W/4)."""
        return JointMaps(self.keypoint_head(self.backbone(images)))
