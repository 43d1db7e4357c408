"""What the published networks return: one named tuple per kind of head, all float tensors straight from the network.

B batch, K joints, L limbs, H W input; no activation is applied after the last convolution.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class JointMaps(NamedTuple):
    """Top-down networks: one person per crop.

    Attributes:
        heatmaps: (B, K, H/4, W/4), channel k is joint k.
    """

    heatmaps: Tensor


class TagMaps(NamedTuple):
    """HigherHRNet: heatmaps at two strides and associative embedding tags (Cheng et al. 2020, section 3).

    Attributes:
        coarse: (B, 2K, H/4, W/4): K heatmaps, then K tag maps.
        fine: (B, K, H/2, W/2): heatmaps.
    """

    coarse: Tensor
    fine: Tensor


class OffsetMaps(NamedTuple):
    """DEKR: joint and centre heatmaps, and per cell the offset of every joint (Geng et al. 2021, section 3).

    Attributes:
        heatmaps: (B, K + 1, H/4, W/4); the person centre is last.
        offsets: (B, 2K, H/4, W/4); pairs (x, y) per joint in cells. Joint position = cell - offset.
    """

    heatmaps: Tensor
    offsets: Tensor


class PoseScores(NamedTuple):
    """DEKR's rescoring network.

    Attributes:
        scores: (B, 1), the factor on each pose's score.
    """

    scores: Tensor


class PartMaps(NamedTuple):
    """OpenPose: part confidence maps and part affinity fields; concatenated, they are Caffe's `net_output`.

    Attributes:
        heatmaps: (B, K + 1, H/8, W/8); the background is last.
        pafs: (B, 2L, H/8, W/8) in the network's own channel order, which is not the order of its limb list.
    """

    heatmaps: Tensor
    pafs: Tensor
