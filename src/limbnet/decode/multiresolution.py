"""HigherHRNet's aggregation: heatmaps of two strides, several scales and the mirrored picture become one (Cheng et al.
2020, section 3.4), in the frame of the network's input at scale 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.flip import unmirror


@dataclass(frozen=True)
class TagFields:
    """Everything that tag grouping reads. Tags are wanted at few places, and interpolated there alone.

    Attributes:
        heatmaps: (K, H, W) float32.
        tags: (F, K, h, w) float32, of any size; they stand for (F, K, H, W), resized bilinearly. F is 2 with the
            mirrored picture, whose tags are other numbers, else 1.
    """

    heatmaps: NDArray[np.float32]
    tags: NDArray[np.float32]

    @cached_property
    def rows(self) -> AxisTable:
        """Where the rows of the heatmaps lie between those of the tags."""
        return AxisTable.between(self.heatmaps.shape[1], self.tags.shape[2])

    @cached_property
    def columns(self) -> AxisTable:
        """Where the columns of the heatmaps lie between those of the tags."""
        return AxisTable.between(self.heatmaps.shape[2], self.tags.shape[3])

    def tags_at(self, joint: NDArray[np.intp], row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return (F, ...) the tags of joints at rows and columns of the heatmaps; the three broadcast."""
        count, _, h, w = self.tags.shape
        flat = self.tags.reshape(count, -1)
        down, right = self.rows.share[row], self.columns.share[column]
        upper, lower = ((joint * h + near[row]) * w for near in (self.rows.before, self.rows.after))
        left, beyond = self.columns.before[column], self.columns.after[column]
        top = flat.take(upper + left, axis=1) * (1 - right) + flat.take(upper + beyond, axis=1) * right
        bottom = flat.take(lower + left, axis=1) * (1 - right) + flat.take(lower + beyond, axis=1) * right
        return np.asarray(top * (1 - down) + bottom * down)


@dataclass(frozen=True)
class AxisTable:
    """Bilinear interpolation along one axis: cells before and after each pixel, (H,), and the share of the latter."""

    before: NDArray[np.intp]
    after: NDArray[np.intp]
    share: NDArray[np.float32]

    @classmethod
    def between(cls, pixels: int, cells: int) -> AxisTable:
        """Lay pixels over cells so that both cover the same length."""
        place = (np.arange(pixels) + 0.5) * (cells / pixels) - 0.5
        before = np.floor(place).astype(np.intp)
        return cls(before.clip(0), (before + 1).clip(max=cells - 1), (place - before).astype(np.float32))


@dataclass(frozen=True)
class TagView:
    """What the network said about one scale of a picture.

    Attributes:
        scale: the scale.
        maps: coarse (2K, h, w), K heatmaps and K tag maps, and fine (K, 2h, 2w), plain and, with flip, mirrored.
    """

    scale: float
    maps: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]


def aggregate(views: Sequence[TagView], size: tuple[int, int], flip_index: NDArray[np.intp]) -> TagFields:
    """Average the heatmaps of all views, and collect the tags of scale 1 or of the only scale.

    Args:
        views: one or more.
        size: (H, W) of the network's input at scale 1.
        flip_index: (K,) joint that takes the place of each one in the mirrored picture.

    Raises:
        ValueError: there are several scales and none is 1, so that nothing gives tags.
    """
    heatmaps: NDArray[np.float32] | None = None
    tags: list[NDArray[np.float32]] = []
    for view in views:
        both, tag_maps = _both_strides(view, flip_index)
        enlarged = resize_maps(both, size)
        heatmaps = enlarged if heatmaps is None else np.add(heatmaps, enlarged, out=heatmaps)
        if view.scale == 1 or len(views) == 1:
            tags += tag_maps
    if heatmaps is None or not tags:
        raise ValueError("tags are read at scale 1, which is not among the scales")
    if len(views) > 1:
        heatmaps /= np.float32(len(views))
    return TagFields(heatmaps, tags[0][None] if len(tags) == 1 else np.stack(tags))


def _both_strides(view: TagView, flip_index: NDArray[np.intp]) -> tuple[NDArray[np.float32], list[NDArray[np.float32]]]:
    """Return the mean heatmaps (K, 2h, 2w) of one scale, and its tag maps at the same size, plain and mirrored."""
    joints = len(flip_index)
    means, tags = [], []
    for number, (coarse, fine) in enumerate(view.maps):
        larger = resize_maps(coarse, fine.shape[1:])
        mean, tag = (larger[:joints] + fine) * np.float32(0.5), larger[joints:]
        means.append(unmirror(mean, flip_index) if number else mean)
        tags.append(unmirror(tag, flip_index) if number else tag)
    return means[0] if len(means) == 1 else (means[0] + means[1]) * np.float32(0.5), tags


def resize_maps(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Resize maps (C, h, w) to (C, *size), bilinear between cells' centres."""
    if maps.shape[1:] == tuple(size):
        return maps.copy()
    resized = np.empty((len(maps), *size), np.float32)
    for source, target in zip(np.ascontiguousarray(maps), resized, strict=True):
        cv2.resize(source, (size[1], size[0]), dst=target, interpolation=cv2.INTER_LINEAR)
    return resized
