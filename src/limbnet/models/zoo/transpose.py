"""TransPose (Yang et al. 2021): a convolutional trunk, then a transformer encoder over all cells of its map."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbnet.errors import LimbnetError
from limbnet.models.zoo.blocks import bottlenecks, convolution, initialise, upsampling
from limbnet.models.zoo.hrnet import HRNetTrunk
from limbnet.models.zoo.outputs import JointMaps

DROPOUT = 0.1
TEMPERATURE = 10_000.0


def position_embedding(grid: tuple[int, int], channels: int) -> Tensor:
    """Return the fixed 2D sine embedding (h w, 1, channels) of a map with h rows and w columns, rows first.

    Rows and columns are counted from 1, divided by the last and scaled to 2 pi (Carion et al. 2020, section A.4). The
    first half of the channels tells the row, the second the column; in each, sines and cosines alternate.
    """
    half = channels // 2
    wavelength = TEMPERATURE ** (2 * (torch.arange(half) // 2) / half)

    def along(length: int) -> Tensor:  # (length, half)
        position = torch.arange(1, length + 1) / (length + 1e-6) * (2 * math.pi)
        angle = position[:, None] / wavelength
        return torch.stack((angle[:, 0::2].sin(), angle[:, 1::2].cos()), 2).flatten(1)

    height, width = grid
    rows = along(height)[:, None].expand(height, width, half)
    columns = along(width)[None].expand(height, width, half)
    return torch.cat((rows, columns), 2).reshape(height * width, 1, channels)


class EncoderLayer(nn.Module):
    """Self-attention, then a two-layer perceptron, each beside the identity and before a norm (Vaswani et al. 2017)."""

    def __init__(self, channels: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, dropout=DROPOUT)
        self.linear1 = nn.Linear(channels, hidden)
        self.linear2 = nn.Linear(hidden, channels)
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)

    def forward(self, cells: Tensor, positions: Tensor) -> Tensor:
        """Map (h w, B, C) to the same shape; `positions` (h w, 1, C) go to queries and keys only."""
        located = cells + positions
        attended = self.self_attn(located, located, cells, need_weights=False)[0]
        cells = self.norm1(cells + self._drop(attended))
        inner = self.linear2(self._drop(F.relu(self.linear1(cells))))
        normed: Tensor = self.norm2(cells + self._drop(inner))
        return normed

    def _drop(self, cells: Tensor) -> Tensor:
        return F.dropout(cells, DROPOUT, self.training)


class Encoder(nn.Module):
    """A row of encoder layers without a norm at the end."""

    def __init__(self, count: int, channels: int, hidden: int, heads: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(channels, hidden, heads) for _ in range(count))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, features: Tensor, positions: Tensor) -> Tensor:
        """Map (B, C, h, w) to the same shape; `positions` is (h w, 1, C).

        Raises:
            LimbnetError: the map has another number of cells than the embedding.
        """
        height, width = features.shape[2:]
        cells = features.flatten(2).permute(2, 0, 1)
        if cells.shape[0] != positions.shape[0]:
            raise LimbnetError(
                f"This TransPose is built for maps of {positions.shape[0]} cells, but got {height} x {width} cells.",
                "Give pictures of the size it was built for, or build it with another input size.",
            )
        for layer in self.layers:
            cells = layer(cells, positions)
        return torch.unflatten(cells.permute(1, 2, 0), 2, (height, width))


class TransPoseR(nn.Module):
    """TransPose-R: ResNet-50 up to its second stage, `layers` encoder layers of 8 heads, one upsampling step."""

    STRIDE = 8

    def __init__(self, joints: int, input_size: tuple[int, int], layers: int = 3, channels: int = 256) -> None:
        super().__init__()
        self.conv1 = convolution(3, 64, 7, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 3)
        self.layer2 = bottlenecks(256, 128, 4, stride=2)
        self.reduce = convolution(512, channels, 1)
        self.pos_embedding = fixed_embedding(input_size, self.STRIDE, channels)
        self.global_encoder = Encoder(layers, channels, hidden=4 * channels, heads=8)
        self.deconv_layers = upsampling(channels, channels)
        self.final_layer = nn.Conv2d(channels, joints, 1)
        initialise(self, [self.final_layer])

    def forward(self, images: Tensor) -> JointMaps:
        """Map normalised images (B, 3, H, W) of the size it was built for to heatmaps (B, K, H/4, W/4)."""
        features = F.relu(self.bn1(self.conv1(images)))
        features = F.max_pool2d(features, 3, 2, 1)
        features = self.reduce(self.layer2(self.layer1(features)))
        features = self.global_encoder(features, self.pos_embedding)
        return JointMaps(self.final_layer(self.deconv_layers(features)))


class TransPoseH(HRNetTrunk):
    """TransPose-H: HRNet-W48 up to stage 3, `layers` encoder layers of one head at stride 4."""

    STRIDE = 4

    def __init__(self, joints: int, input_size: tuple[int, int], layers: int = 6, channels: int = 96) -> None:
        super().__init__(48, last_stage=3)
        self.reduce = convolution(48, channels, 1)
        self.pos_embedding = fixed_embedding(input_size, self.STRIDE, channels)
        self.global_encoder = Encoder(layers, channels, hidden=2 * channels, heads=1)
        self.final_layer = nn.Conv2d(channels, joints, 1)
        initialise(self, [self.final_layer])

    def forward(self, images: Tensor) -> JointMaps:
        """Map normalised images (B, 3, H, W) of the size it was built for to heatmaps (B, K, H/4, W/4)."""
        features = self.reduce(self.trunk(images)[0])
        return JointMaps(self.final_layer(self.global_encoder(features, self.pos_embedding)))


def fixed_embedding(input_size: tuple[int, int], stride: int, channels: int) -> nn.Parameter:
    """Return the embedding as published: a parameter without gradient, part of checkpoint and published count."""
    height, width = input_size
    return nn.Parameter(position_embedding((height // stride, width // stride), channels), requires_grad=False)
