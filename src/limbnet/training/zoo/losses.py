"""Losses of published networks: heatmaps, tags, offsets. All are computed in float32."""

from __future__ import annotations

import torch
from torch import Tensor

#: Below this error an offset's loss is quadratic (DEKR).
SMOOTH_BELOW = 1 / 9


def joint_loss(predicted: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Half the mean squared error of heatmaps (B, K, h, w), those of weight 0 (B, K) counting as right (HRNet)."""
    difference = (predicted.float() - label) * weights[..., None, None]
    return 0.5 * difference.square().mean()


def heatmap_loss(predicted: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Mean of the weighted squared errors of heatmaps (B, C, h, w); weights (B, 1 or C, h, w) are not squared."""
    return ((predicted.float() - label).square() * weights).mean()


def tag_losses(tags: Tensor, cells: Tensor) -> tuple[Tensor, Tensor]:
    """Return HigherHRNet's push and pull (associative embedding; Newell et al. 2017, equation 1), means over pictures.

        pull = 1/N sum over people of the mean over joints of (t - m)^2,    m the mean of a person's tags
        push = 1/2 1/(N (N - 1)) sum over ordered pairs of people of exp(-(m - m')^2)

    N counts the people with a tag; pictures with none cost nothing, and with one there is no push.

    Args:
        tags: (B, K, h, w).
        cells: (B, P, K) where tags are read in (K, h, w) laid out flat, -1 for none.
    """
    tags = tags.float().flatten(1)
    read = cells >= 0
    found = torch.gather(tags, 1, cells.clamp(min=0).flatten(1)).view(cells.shape)
    counts = read.sum(2)
    there = counts > 0
    people = there.sum(1)
    means = (found * read).sum(2) / counts.clamp(min=1)
    spread = ((found - means[..., None]).square() * read).sum(2) / counts.clamp(min=1)
    pull = spread.sum(1) / people.clamp(min=1)
    pairs = there[:, :, None] & there[:, None, :] & ~torch.eye(cells.shape[1], dtype=torch.bool, device=cells.device)
    near = torch.exp(-(means[:, :, None] - means[:, None, :]).square()) * pairs
    push = 0.5 * near.sum((1, 2)) / (people * (people - 1)).clamp(min=1)
    return push.mean(), pull.mean()


def offset_loss(predicted: Tensor, label: Tensor, weights: Tensor) -> Tensor:
    """Smooth L1 of offsets (B, 2K, h, w), times their weights, over the number of offsets with a weight (DEKR)."""
    error = torch.nn.functional.smooth_l1_loss(predicted.float(), label, beta=SMOOTH_BELOW, reduction="none")
    return (error * weights).sum() / (weights > 0).sum().clamp(min=1)
