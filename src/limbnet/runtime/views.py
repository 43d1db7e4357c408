"""Views: the same picture at several scales and mirrored, and the mean of what the network says about them.

BodyPoseNet's multi-scale inference enlarges the maps of every scale to one size and averages them. Here every view
knows its exact transform from the original picture, so each is sampled where the reference view's cell centres lie on
it: scales, paddings and mirroring are aligned below a pixel for any stride.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from limbnet.geometry import Affine, Fit, FitMode, fit
from limbnet.skeleton import Skeleton

#: In `adjust_network_input` a very long picture would make a huge input: beyond this many times the area of the
#: network's input it is padded instead.
LARGEST_GROWTH = 16


@dataclass(frozen=True)
class View:
    """One way of showing a picture to the network."""

    fit: Fit
    mirrored: bool = False

    def image(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the network's input (H, W, 3) for a picture (h, w, 3)."""
        image = self.fit.image(picture)
        return np.ascontiguousarray(image[:, ::-1]) if self.mirrored else image

    @property
    def transform(self) -> Affine:
        """From points of the original picture to points of this view."""
        if not self.mirrored:
            return self.fit.transform
        return self.fit.transform.then(Affine.scale_shift(-1.0, 1.0, self.fit.size[1], 0.0))


def plan_views(
    picture: tuple[int, int],
    input_size: tuple[int, int],
    mode: FitMode,
    stride: int,
    *,
    scales: Sequence[float] = (1.0,),
    flip: bool = False,
) -> tuple[tuple[View, ...], bool]:
    """Return the views of a picture of (height, width), and whether its shape was too long to adjust the input to it.

    Scales ascend and the last view is the reference: the largest scale, not mirrored. An input size that a scale makes
    no multiple of the stride is rounded up to one.
    """
    views: list[View] = []
    too_long = False
    for scale in sorted(scales):
        height, width = (max(stride, -(-round(side * scale) // stride) * stride) for side in input_size)
        if mode == "adjust_network_input" and _growth(picture, (height, width)) > LARGEST_GROWTH:
            too_long = True
        fitted = fit(picture, (height, width), "pad_image_input" if too_long else mode, stride)
        views += [View(fitted, mirrored=True), View(fitted)] if flip else [View(fitted)]
    return tuple(views), too_long


def _growth(picture: tuple[int, int], size: tuple[int, int]) -> float:
    """Return how much longer the adjusted input is than it was asked for, as a factor."""
    shape, wanted = picture[1] / picture[0], size[1] / size[0]
    return max(shape / wanted, wanted / shape)


def mean_maps(
    views: Sequence[View],
    heatmaps: Sequence[NDArray[np.float32]],
    pafs: Sequence[NDArray[np.float32]],
    skeleton: Skeleton,
    stride: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Average the maps of one picture's views on the grid of the last view.

    Args:
        views: as `plan_views` made them.
        heatmaps: per view (K + 1, h, w) float32, of the view's own size.
        pafs: per view (2 L, h, w) float32.
        skeleton: says which joints and limbs trade places in a mirrored view.
        stride: network-input pixels a cell.

    Returns:
        heatmaps (K + 1, h, w) and pafs (2 L, h, w) of the last view's size.
    """
    if len(views) == 1:
        return heatmaps[0], pafs[0]
    reference = views[-1]
    grid = heatmaps[-1].shape[-2:]
    heat_sum, paf_sum = heatmaps[-1].copy(), pafs[-1].copy()
    for view, heat, paf in zip(views[:-1], heatmaps[:-1], pafs[:-1], strict=True):
        there = reference.transform.inverse().then(view.transform).matrix
        rows = cubic_weights(grid[0], heat.shape[-2], *_between_cells(there[1, 1], there[1, 2], stride))
        columns = cubic_weights(grid[1], heat.shape[-1], *_between_cells(there[0, 0], there[0, 2], stride))
        if view.mirrored:
            heat, paf = _unmirrored(heat, paf, skeleton)  # noqa: PLW2901
        heat_sum += rows @ heat @ columns.T
        paf_sum += rows @ paf @ columns.T
    return heat_sum / np.float32(len(views)), paf_sum / np.float32(len(views))


def _between_cells(scale: float, shift: float, stride: int) -> tuple[float, float]:
    """Turn x' = scale x + shift between input pixels into the same between cells, which stand at s c + (s - 1) / 2."""
    middle = (stride - 1) / 2
    return scale, (scale * middle + shift - middle) / stride


@lru_cache(maxsize=32)
def cubic_weights(out: int, size: int, scale: float, shift: float) -> NDArray[np.float32]:
    """Return (out, size) weights that sample a line of `size` values at scale i + shift, i = 0 ... out - 1.

    Keys' cubic convolution with a = -0.75, as OpenCV's; values beyond an end repeat it.
    """
    at = scale * np.arange(out) + shift
    first = np.floor(at).astype(np.intp) - 1
    weights = np.zeros((out, size), np.float32)
    a = -0.75
    for tap in range(4):
        distance = np.abs(at - (first + tap))
        near = (a + 2) * distance**3 - (a + 3) * distance**2 + 1
        far = a * (distance**3 - 5 * distance**2 + 8 * distance - 4)
        value = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
        np.add.at(weights, (np.arange(out), np.clip(first + tap, 0, size - 1)), value.astype(np.float32))
    return weights


def _unmirrored(
    heat: NDArray[np.float32], paf: NDArray[np.float32], skeleton: Skeleton
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Give each joint and limb of a mirrored picture its own name and direction again; nothing changes its place."""
    joints = np.append(skeleton.flip_index, len(skeleton.joints))
    limbs, signs = skeleton.flip_limbs
    vectors = paf.reshape(len(limbs), 2, *paf.shape[1:])[limbs]
    direction = signs[:, None] * np.array([-1.0, 1.0])
    return heat[joints], (vectors * direction[:, :, None, None].astype(np.float32)).reshape(paf.shape)
