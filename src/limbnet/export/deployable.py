"""The network as it is deployed: pixels in, the last stage's maps out."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.folding import fold_batch_norms
from limbnet.models.info import ModelInfo
from limbnet.runtime.signature import Signature


class Deployable(nn.Module):
    """Wrap a network so that its graph begins at the pixels and ends with the last stage's maps.

    Args:
        network: takes (B, 3, H, W) normalised and returns `heatmaps` and `pafs`, one entry a stage. It is copied.
        info: its normalisation and colour order.
        signature: what the graph takes and returns.
    """

    def __init__(self, network: nn.Module, info: ModelInfo, signature: Signature) -> None:
        super().__init__()
        self.signature = signature
        self.net: Any = copy.deepcopy(network).cpu().float()
        for parameter in self.net.parameters():  # frozen weights too must reach the graph as constants
            parameter.requires_grad_(False)
        if isinstance(self.net, BodyPoseNet) and self.net.design.image_pyramid_levels > 1:
            fold_batch_norms(self.net)  # the tracer's optimiser leaves weights alone that are used more than once
        self.flip = info.colour_order == "bgr"
        self.scale = torch.tensor(info.image_scale)
        self.offset = torch.tensor(info.image_offset)
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return (heatmaps, part affinity fields) in the signature's layout, float32.

        Args:
            images: (B, H, W, 3), or (B, 3, H, W) when the signature says so: uint8 RGB, or normalised floats.
        """
        last = self.signature.data_format == "channels_last"
        x = images
        if self.signature.input_type == "uint8":
            if not last:
                x = x.permute(0, 2, 3, 1)
            x = x.to(torch.float32)
            if self.flip:
                x = x[..., [2, 1, 0]]
            x = x / self.scale - self.offset
            x = x.permute(0, 3, 1, 2)
        elif last:
            x = x.permute(0, 3, 1, 2)
        stages = self.net(x)
        heatmaps, pafs = stages.heatmaps[-1], stages.pafs[-1]
        if self.signature.paf_upsampling > 1:
            pafs = F.interpolate(pafs, scale_factor=float(self.signature.paf_upsampling), mode="nearest")
        if last:
            heatmaps, pafs = heatmaps.permute(0, 2, 3, 1), pafs.permute(0, 2, 3, 1)
        return heatmaps, pafs
