"""DEKR (Geng et al. 2021): HRNet with a heatmap head and one small adaptive branch per joint that regresses its offset.

Deformable convolution is written with `grid_sample`, so that it runs on every device and exports as GridSample. The
published checkpoints load into it by name.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbnet.models.zoo.blocks import BasicBlock, added_norm, conv_norm, initialise
from limbnet.models.zoo.hrnet import HRNetTrunk
from limbnet.models.zoo.outputs import OffsetMaps, PoseScores

TAPS = 9
CHANNELS_PER_JOINT = 15
BLOCKS_PER_JOINT = 2


def regular_taps() -> Tensor:
    """Return the places of the taps of a 3x3 kernel, (2, 9): row 0 holds y, row 1 x, taps in rows from -1 to 1."""
    steps = torch.tensor([-1.0, 0.0, 1.0])
    return torch.stack((steps.repeat_interleave(3), steps.repeat(3)))


def sample_taps(features: Tensor, places: Tensor) -> Tensor:
    """Read `features` (B, C, h, w) bilinearly at T places per cell; outside the map they count as zero.

    Args:
        features: (B, C, h, w).
        places: (B, 2, T, h, w), y then x of each tap, in cells relative to the cell itself.

    Returns:
        (B, C, T, h, w).
    """
    height, width = features.shape[2:]
    like: dict[str, Any] = {"dtype": features.dtype, "device": features.device}
    # grid_sample's frame: -1 and 1 are the outer edges of the first and the last cell, so one cell wide maps work too.
    rows, columns = ((2 * torch.arange(side, **like) + 1) / side - 1 for side in (height, width))
    cells = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[:, None]  # (2, 1, h, w)
    cell_sides = torch.cat([torch.full((1, 1, 1, 1), 2 / side, **like) for side in (height, width)])
    grid = (cells + places * cell_sides).flip(1).permute(0, 2, 3, 4, 1)  # (B, T, h, w, 2), x then y
    sampled = F.grid_sample(features, grid.flatten(1, 2), mode="bilinear", padding_mode="zeros", align_corners=False)
    return torch.unflatten(sampled, 2, (-1, height))


class DeformableConvolution(nn.Module):
    """3x3 convolution without bias whose nine taps are read anywhere (Dai et al. 2017)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(outputs, inputs, 3, 3))
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")

    def forward(self, features: Tensor, places: Tensor) -> Tensor:
        """Map (B, inputs, h, w) and the places (B, 2, 9, h, w) of its taps to (B, outputs, h, w)."""
        sampled = sample_taps(features, places)
        return F.conv2d(sampled.flatten(1, 2), self.weight.flatten(1)[..., None, None])


class AdaptiveBlock(nn.Module):
    """A residual block whose kernel is stretched, turned and moved per cell by an affine map the block predicts.

    Tap t is read at `A g_t + b`, relative to the cell, where g_t = (y, x) is its regular place, A the 2x2 matrix (by
    rows) and b the translation (y, x) predicted for the cell (Geng et al. 2021, section 3.2). The published code
    computes offsets `A g_t - g_t + b` from the regular grid, which its convolution adds again.
    """

    regular_matrix: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("regular_matrix", regular_taps())
        self.transform_matrix_conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.translation_conv = nn.Conv2d(channels, 2, 3, padding=1)
        self.adapt_conv = DeformableConvolution(channels, channels)
        self.bn = added_norm(channels)

    def places(self, features: Tensor) -> Tensor:
        """Return where the taps of each cell are read: (B, 2, 9, h, w), y then x, in cells relative to the cell."""
        matrix = torch.unflatten(self.transform_matrix_conv(features), 1, (2, 2, 1))  # (B, row, column, 1, h, w)
        moved = (matrix * self.regular_matrix[..., None, None]).sum(2)
        return moved + torch.unflatten(self.translation_conv(features), 1, (2, 1))

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape."""
        return F.relu(self.bn(self.adapt_conv(features, self.places(features))) + features)


class DEKR(HRNetTrunk):
    """DEKR-W32 or W48: heatmaps of the joints and of the person centre, and the offsets of all joints."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__(width, all_branches=True)
        self.joints = joints
        together = sum(self.widths)
        self.transition_heatmap = conv_norm(together, width, 1)
        self.transition_offset = conv_norm(together, joints * CHANNELS_PER_JOINT, 1)
        heatmaps = nn.Conv2d(width, joints + 1, 1)
        self.head_heatmap = nn.ModuleList([nn.Sequential(BasicBlock(width)), heatmaps])
        self.offset_feature_layers = nn.ModuleList(
            nn.Sequential(*(AdaptiveBlock(CHANNELS_PER_JOINT) for _ in range(BLOCKS_PER_JOINT))) for _ in range(joints)
        )
        offsets = [nn.Conv2d(CHANNELS_PER_JOINT, 2, 1) for _ in range(joints)]
        self.offset_final_layer = nn.ModuleList(offsets)
        initialise(self, [heatmaps, *offsets])
        self._reset_adaptive_blocks()

    def _reset_adaptive_blocks(self) -> None:
        for block in self.modules():
            if isinstance(block, AdaptiveBlock):
                nn.init.zeros_(block.transform_matrix_conv.weight)
                nn.init.zeros_(block.translation_conv.weight)

    def forward(self, images: Tensor) -> OffsetMaps:
        """Map normalised images (B, 3, H, W), sides multiples of 32, to the maps at stride 4."""
        first, *lower = self.trunk(images)
        enlarged = [F.interpolate(branch, size=first.shape[2:], mode="bilinear") for branch in lower]
        features = torch.cat((first, *enlarged), 1)
        block, to_heatmaps = self.head_heatmap
        heatmaps = to_heatmaps(block(self.transition_heatmap(features)))
        per_joint = self.transition_offset(features).chunk(self.joints, 1)
        branches = zip(per_joint, self.offset_feature_layers, self.offset_final_layer, strict=True)
        return OffsetMaps(heatmaps, torch.cat([final(blocks(own)) for own, blocks, final in branches], 1))


class RescoreNet(nn.Module):
    """DEKR's rescoring network: limb vectors, limb lengths and joint scores of one pose in, one factor out."""

    def __init__(self, joints: int, limbs: int) -> None:
        super().__init__()
        self.l1 = nn.Linear(3 * limbs + joints, 256)
        self.l2 = nn.Linear(256, 256)
        self.l3 = nn.Linear(256, 1)

    def forward(self, features: Tensor) -> PoseScores:
        """Map (P, 3 L + K), which are L vectors (x, y), L lengths and K scores, to (P, 1)."""
        return PoseScores(self.l3(F.relu(self.l2(F.relu(self.l1(features))))))
