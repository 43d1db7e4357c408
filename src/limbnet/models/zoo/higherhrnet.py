"""HigherHRNet (Cheng et al. 2020): HRNet with a second, finer heatmap head and associative embedding tags."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limbnet.models.zoo.blocks import BasicBlock, initialise, upsampling
from limbnet.models.zoo.hrnet import HRNetTrunk
from limbnet.models.zoo.outputs import TagMaps

BLOCKS_AFTER_UPSAMPLING = 4


class HigherHRNet(HRNetTrunk):
    """HigherHRNet with one upsampling step; one tag map per joint."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__(width)
        coarse = nn.Conv2d(width, 2 * joints, 1)
        fine = nn.Conv2d(width, joints, 1)
        self.final_layers = nn.ModuleList([coarse, fine])
        # Each block stands in a sequence of its own, as in the published names.
        blocks = (nn.Sequential(BasicBlock(width)) for _ in range(BLOCKS_AFTER_UPSAMPLING))
        self.deconv_layers = nn.ModuleList([nn.Sequential(upsampling(width + 2 * joints, width), *blocks)])
        initialise(self, [coarse, fine])

    def forward(self, images: Tensor) -> TagMaps:
        """Map normalised images (B, 3, H, W), sides multiples of 32, to the maps at strides 4 and 2."""
        features = self.trunk(images)[0]
        coarse = self.final_layers[0](features)
        finer = self.deconv_layers[0](torch.cat((features, coarse), 1))
        return TagMaps(coarse, self.final_layers[1](finer))
