"""OpenPose's part candidates and the scores of pairs of them (Cao et al. 2019, sections 3.2 to 3.4).

Heatmaps are enlarged to the network's input, and peaks are its pixels. Part affinity fields are read at single pixels
of the enlarged fields, which `limbnet.decode.limbs` interpolates from the cells at those places alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.limbs import as_complex, interleave
from limbnet.decode.screen import screened_pixels
from limbnet.skeleton import Skeleton

#: Cells of OpenPose's networks in pixels of their input; `limbnet.decode.limbs.Fields` counts on it.
STRIDE = 8

#: The refined place of a peak is the mean of the pixels within so many, weighted by their values.
REACH = 3


@dataclass(frozen=True)
class PartSettings:
    """Thresholds; the defaults are OpenPose's for BODY_25 and COCO.

    Attributes:
        heatmap_threshold: a peak's value must exceed it.
        max_peaks: peaks kept per part, the first ones in the order of rows.
        paf_threshold: a sample's dot product with the direction must exceed it to count.
        share: the share of samples that count must exceed it.
        few_samples: least samples of a pair.
        many_samples: most samples of a pair.
        close: pairs closer than the input's mean side over this connect without a field, hardly.
        min_parts: parts a person must have.
        min_score: the total score over parts that a person must reach.
    """

    heatmap_threshold: float = 0.05
    max_peaks: int = 127
    paf_threshold: float = 0.05
    share: float = 0.95
    few_samples: int = 5
    many_samples: int = 25
    close: float = 150.0
    min_parts: int = 3
    min_score: float = 0.4


@dataclass(frozen=True)
class PartPeaks:
    """Peaks of K parts, at most M each, in the order of rows.

    Attributes:
        points: (K, M, 2) float32 x, y in pixels of the network's input.
        values: (K, M) float32 heatmap values.
        counts: (K,) peaks of each part; what lies beyond is 0.
    """

    points: NDArray[np.float32]
    values: NDArray[np.float32]
    counts: NDArray[np.intp]


def find_part_peaks(heatmaps: NDArray[np.float32], offset: float, settings: PartSettings) -> PartPeaks:
    """Find the peaks of enlarged heatmaps.

    Args:
        heatmaps: (K, H, W) float32, without the background.
        offset: added to x and y, half a pixel of the original picture.
        settings: thresholds.
    """
    _, height, width = heatmaps.shape
    flat = np.ascontiguousarray(heatmaps).reshape(-1)
    places = screened_pixels(heatmaps, settings.heatmap_threshold)
    places = places[_are_peaks(heatmaps, places, settings.heatmap_threshold)]
    part, within = np.divmod(places, height * width)
    rank = np.arange(len(part)) - np.searchsorted(part, part)
    first = rank < settings.max_peaks
    part, within, rank = part[first], within[first], rank[first]
    points = _centres_of_mass(heatmaps, part, within) + offset
    counts = np.bincount(part, minlength=len(heatmaps))
    most = int(counts.max(initial=0))
    table, values = np.zeros((len(heatmaps), most, 2), np.float32), np.zeros((len(heatmaps), most), np.float32)
    table[part, rank] = points
    values[part, rank] = flat.take(places[first])
    return PartPeaks(table, values, counts)


def _are_peaks(heatmaps: NDArray[np.float32], places: NDArray[np.intp], threshold: float) -> NDArray[np.bool_]:
    """Tell which pixels are above their eight neighbours.

    In the rows and columns next to the border ties are allowed, and what lies outside counts as the threshold; the
    border itself has no peaks but there.
    """
    _, height, width = heatmaps.shape
    flat = heatmaps.reshape(-1)
    values = flat.take(places)
    row, x = np.divmod(places, width)
    y = row % height
    inner = (x > 1) & (x < width - 2) & (y > 1) & (y < height - 2)
    ring = (x == 1) | (x == width - 2) | (y == 1) | (y == height - 2)
    good = inner | ring
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            if not (down or right):
                continue
            outside = (x + right < 0) | (x + right >= width) | (y + down < 0) | (y + down >= height)
            other = flat.take(np.where(outside, places, places + down * width + right))
            other = np.where(outside, np.float32(threshold), other)
            good &= (values > other) | (ring & ~inner & (values == other))
    return np.asarray(good)


def _centres_of_mass(
    heatmaps: NDArray[np.float32], part: NDArray[np.intp], within: NDArray[np.intp]
) -> NDArray[np.float32]:
    """Return (N, 2) the mean place x, y of the positive pixels around N pixels, weighted by their values."""
    _, height, width = heatmaps.shape
    y, x = np.divmod(within, width)
    steps = np.arange(-REACH, REACH + 1)
    rows, columns = (y[:, None] + steps)[:, :, None], (x[:, None] + steps)[:, None]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    index = (part[:, None, None] * height + rows.clip(0, height - 1)) * width + columns.clip(0, width - 1)
    weights = np.maximum(heatmaps.reshape(-1).take(index), 0) * inside
    total = weights.sum(axis=(1, 2))
    mean = [(weights * axis).sum(axis=(1, 2)) / total for axis in (columns, rows)]
    return np.stack(mean, 1).astype(np.float32)


def score_pairs(
    pafs: NDArray[np.float32], peaks: PartPeaks, size: tuple[int, int], skeleton: Skeleton, settings: PartSettings
) -> NDArray[np.float32]:
    """Score all pairs of peaks of all limbs.

    The field is read at 5 to 25 points from the start towards the end, which is left out. A pair scores the mean of the
    dot products that count if their share is large enough. Otherwise it scores just over the heatmap threshold if the
    two lie close together, where no field can be seen.

    Args:
        pafs: (2L, h, w) float32, x and y of the skeleton's limbs in their order, at stride 8.
        peaks: the candidates.
        size: (height, width) of the network's input.
        skeleton: joints and limbs.
        settings: thresholds.

    Returns:
        (L, M, M) float32, 0 where a start and an end do not connect.
    """
    most = peaks.points.shape[1]
    scores = np.zeros((len(skeleton.limbs), most, most), np.float32)
    there = np.arange(most) < peaks.counts[:, None]
    limb, start, end = np.nonzero(there[skeleton.limb_starts, :, None] & there[skeleton.limb_ends, None, :])
    fields, places = interleave(pafs), as_complex(peaks.points)
    origin = places[skeleton.limb_starts[limb], start]
    vector = places[skeleton.limb_ends[limb], end] - origin
    origin += fields.lifts[limb]
    length = np.abs(vector)
    farther = np.maximum(np.abs(vector.real), np.abs(vector.imag))
    wanted = np.floor(np.sqrt(5 * farther) + 0.5).astype(np.intp).clip(settings.few_samples, settings.many_samples)
    found = np.zeros(len(limb), np.float32)
    for samples in np.unique(wanted).tolist():
        these = np.flatnonzero((wanted == samples) & (length > 1e-6))
        steps = (np.arange(samples) / samples).astype(np.float32)
        along = fields.along(origin[these], vector[these], steps)
        counts = along > settings.paf_threshold
        number = counts.sum(axis=0)
        mean = (along * counts).sum(axis=0) / np.maximum(number, 1)
        found[these] = np.where(number > settings.share * samples, mean, 0)
    near = (length < np.sqrt(size[0] * size[1]) / settings.close) & (length > 1e-6) & (found == 0)
    found[near] = settings.heatmap_threshold + 1e-6
    scores[limb, start, end] = found
    return scores


def enlarge_cubic(maps: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Enlarge maps (C, h, w) to (C, *size) by cubic convolution."""
    enlarged = np.empty((len(maps), *size), np.float32)
    for source, target in zip(np.ascontiguousarray(maps), enlarged, strict=True):
        cv2.resize(source, (size[1], size[0]), dst=target, interpolation=cv2.INTER_CUBIC)
    return enlarged
