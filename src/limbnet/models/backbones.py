"""Backbones: VGG-19 without pooling, HelNet, residual networks that keep stride 8, and lighter ones in their own files.

Each function adds its layers to a network and returns a `Backbone`: the parts to run, their stride and channels, and
what pruning and regularisation must know. Names of VGG layers are BodyPoseNet's; the others follow their pattern.
"""

from __future__ import annotations

from collections.abc import Callable
from string import ascii_lowercase
from typing import Any

from torch import nn

from limbnet.models.efficientnet import build_efficientnet_lite0
from limbnet.models.layers import Backbone, Chain, LayerBuilder, LopsidedMaxPool2d, Residual, scaled

#: VGG-19 as BodyPoseNet changes it: (block, sub-layers, channels, stride of the first).
VGG_19_BLOCKS = ((1, "ab", 64, 1), (2, "ab", 128, 2), (3, "abcd", 256, 2), (4, "ab", 512, 2), (6, "a", 256, 1))

#: HelNet: sub-layers of one repeat and repeats of the blocks of 64, 128 and 256 channels.
HELNET_BLOCKS = {
    6: (1, (1, 1, 1)),
    10: (2, (1, 1, 1)),
    12: (2, (1, 1, 2)),
    18: (2, (2, 2, 2)),
    26: (2, (3, 4, 3)),
    34: (2, (3, 4, 6)),
}

#: HelNet's variants: strides of `conv1` and the three blocks, then their dilations.
HELNET_TYPES = {
    "default": ((2, 2, 2, 2), (1, 1, 1, 1)),
    "s8_3rdblock": ((2, 2, 2, 1), (1, 1, 1, 1)),
    "s8_3rdblock_wdilation": ((2, 2, 2, 1), (1, 1, 1, 2)),
    "s8_1stlayer": ((1, 2, 2, 2), (1, 1, 1, 1)),
    "s8_1stlayer_wdilation": ((1, 2, 2, 2), (2, 1, 1, 1)),
}

#: ResNet (He et al. 2016): residual blocks of the three stages, and whether they are bottlenecks.
RESNET_BLOCKS = {18: ((2, 2, 2), False), 34: ((3, 4, 6), False), 50: ((3, 4, 6), True)}

BLOCK_CHANNELS = (64, 128, 256)


def build_vgg(build: LayerBuilder, *, width: float = 1.0, use_bias: bool = False, **_: Any) -> Backbone:
    """VGG-19 (Simonyan and Zisserman 2015) as BodyPoseNet changes it. Stride 8.

    No pooling but stride 2 on the first convolution of blocks 2, 3 and 4; blocks 4 and 5 give way to two convolutions
    of 512 channels and a closing one of 256. There is always batch norm.
    """
    chain, channels, convs = Chain(), 3, []
    for block, letters, block_channels, first_stride in VGG_19_BLOCKS:
        for letter in letters:
            prefix = f"block_{block}{letter}_"
            added, channels = build.conv(
                prefix + "conv_1", channels, scaled(block_channels, width), 3,
                stride=first_stride if letter == "a" else 1, bias=use_bias,
                norm=prefix + "bn_1", relu=prefix + "relu",
            )  # fmt: skip
            chain += added
            convs.append(prefix + "conv_1")
    return Backbone((chain,), channels, stride=8, regularised=tuple(convs))


def build_helnet(
    build: LayerBuilder, *, nlayers: int, mtype: str, width: float = 1.0, use_batch_norm: bool = True, **_: Any
) -> Backbone:
    """HelNet: a ResNet's convolutions without its shortcuts and without the block of 512 channels. Stride 8 or 16.

    Convolutions have a bias if there is no batch norm. None of them is regularised.
    """
    strides, dilations = HELNET_TYPES[mtype]
    sublayers, repeats = HELNET_BLOCKS[nlayers]
    chain, channels = build.conv(
        "conv1", 3, scaled(64, width), 7, stride=strides[0], dilation=dilations[0],
        bias=not use_batch_norm, norm="bn_conv1" if use_batch_norm else "", relu="activation_1",
    )  # fmt: skip
    for block, (block_channels, block_repeats) in enumerate(zip(BLOCK_CHANNELS, repeats, strict=True), 1):
        for repeat in range(block_repeats):
            for sublayer in range(1, sublayers + 1):
                prefix = f"block_{block}{ascii_lowercase[repeat]}_"
                added, channels = build.conv(
                    f"{prefix}conv_{sublayer}", channels, scaled(block_channels, width), 3,
                    stride=strides[block] if repeat == 0 and sublayer == 1 else 1,
                    dilation=dilations[block] if sublayer == 1 else 1,
                    bias=not use_batch_norm,
                    norm=f"{prefix}bn_{sublayer}" if use_batch_norm else "",
                    relu=f"{prefix}relu_{sublayer}",
                )  # fmt: skip
                chain += added
    stride = strides[0] * strides[1] * strides[2] * strides[3]
    return Backbone((chain,), channels, stride)


def build_resnet(
    build: LayerBuilder, *, nlayers: int, width: float = 1.0, use_batch_norm: bool = True, **_: Any
) -> Backbone:
    """ResNet-18, -34 or -50 (He et al. 2016) at stride 8.

    The third stage trades its stride for dilation 2, the fourth is left out, as HelNet leaves its own out. Every
    convolution is regularised.
    """
    repeats, bottleneck = RESNET_BLOCKS[nlayers]
    norm = "bn" if use_batch_norm else ""
    stem, channels = build.conv(
        "conv1", 3, scaled(64, width), 7, stride=2,
        bias=not norm, norm="bn_conv1" if norm else "", relu="activation_1",
    )  # fmt: skip
    parts: list[Chain | Residual] = [stem + build.add("pool1", LopsidedMaxPool2d(3, 2))]
    sums: list[list[str]] = [["conv1"]]
    for block, (block_channels, block_repeats) in enumerate(zip(BLOCK_CHANNELS, repeats, strict=True), 1):
        for repeat in range(block_repeats):
            first = repeat == 0
            residual, channels, ends = _residual(
                build, f"block_{block}{ascii_lowercase[repeat]}_", channels, scaled(block_channels, width),
                bottleneck=bottleneck, norm=norm,
                stride=2 if first and block == 2 else 1,
                dilation=2 if block == 3 and not first else 1,
                project=first and (block > 1 or bottleneck),
            )  # fmt: skip
            parts.append(residual)
            if residual.shortcut.names:
                sums.append(ends)
            else:
                sums[-1] += ends
    return Backbone(
        tuple(parts), channels, stride=8, regularised=tuple(build.built),
        sums=tuple(tuple(group) for group in sums if len(group) > 1),
    )  # fmt: skip


def _residual(
    build: LayerBuilder, prefix: str, in_channels: int, channels: int, *,
    bottleneck: bool, norm: str, stride: int, dilation: int, project: bool,
) -> tuple[Residual, int, list[str]]:  # fmt: skip
    """Add one residual block; return it, its channels, and the convolutions whose outputs it adds."""
    # Kernel, channels, stride and dilation of each convolution; the stride sits on the 3x3 one, as in torchvision.
    if bottleneck:
        plan = [(1, channels, 1, 1), (3, channels, stride, dilation), (1, 4 * channels, 1, 1)]
    else:
        plan = [(3, channels, stride, dilation), (3, channels, 1, dilation)]
    main, width = Chain(), in_channels
    for number, (kernel, out, conv_stride, conv_dilation) in enumerate(plan, 1):
        added, width = build.conv(
            f"{prefix}conv_{number}", width, out, kernel, stride=conv_stride, dilation=conv_dilation, bias=not norm,
            norm=f"{prefix}{norm}_{number}" if norm else "",
            relu=f"{prefix}relu_{number}" if number < len(plan) else "",
        )  # fmt: skip
        main += added
    ends = [f"{prefix}conv_{len(plan)}"]
    shortcut = Chain()
    if project:
        shortcut, _ = build.conv(
            f"{prefix}conv_shortcut", in_channels, plan[-1][1], 1, stride=stride, bias=not norm,
            norm=f"{prefix}{norm}_shortcut" if norm else "",
        )  # fmt: skip
        ends.append(f"{prefix}conv_shortcut")
    return Residual(main, shortcut, build.add(f"{prefix}relu", nn.ReLU(inplace=True))), width, ends


#: Backbones by the spec's `architecture`.
BACKBONES: dict[str, Callable[..., Backbone]] = {
    "vgg": build_vgg,
    "helnet": build_helnet,
    "resnet": build_resnet,
    "efficientnet_lite0": build_efficientnet_lite0,
}


def backbone_problems(architecture: str, nlayers: int | None, mtype: str) -> list[str]:
    """List what is wrong with a backbone's description, one line each; no line when it can be built."""
    depths = {"vgg": [19], "helnet": list(HELNET_BLOCKS), "resnet": list(RESNET_BLOCKS), "efficientnet_lite0": [0]}
    if architecture not in depths:
        return [f"architecture '{architecture}' is none of {', '.join(depths)}"]
    problems = []
    if architecture != "efficientnet_lite0" and nlayers not in depths[architecture]:
        found = "is missing" if nlayers is None else f"is {nlayers}"
        problems.append(f"nlayers {found}; {architecture} has {', '.join(map(str, depths[architecture]))}")
    if architecture == "helnet" and mtype not in HELNET_TYPES:
        problems.append(f"mtype '{mtype}' is none of {', '.join(HELNET_TYPES)}")
    return problems
