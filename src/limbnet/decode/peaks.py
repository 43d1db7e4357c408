"""Peaks of heatmaps: where a joint may be, found on the map's own cells and refined below them.

The original procedure upsamples every map by the stride and takes whole pixels. Here the maximum is searched on the cells
themselves and refined by the parabola through the logarithms of three neighbours, which is exact for the Gaussians that
the network is trained on.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Weight of a cell and of its two neighbours in the smoothing, along each axis. BodyPoseNet's 5x5 kernel acts on maps
#: upsampled by 8, where it is a blur of 0.15 cells: little more than a way to break ties.
SMOOTHING = (0.96, 0.02)

#: Values below this are raised to it before a logarithm is taken; labels are cut off at the same value.
FLOOR = 1e-3


def find_peaks(
    heatmaps: NDArray[np.float32], stride: int, threshold: float, max_peaks: int
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Find the peaks of K heatmaps.

    A peak is a cell whose smoothed value is the largest of its 3x3 neighbourhood (the first one of equals) and whose
    unsmoothed value exceeds the threshold.

    Args:
        heatmaps: (K, h, w) float32, finite, without the background.
        stride: network-input pixels a cell.
        threshold: a peak's unsmoothed value must exceed it.
        max_peaks: peaks kept per joint, the best ones.

    Returns:
        (K, M, 3) float32: x and y in pixels of the network's input, and the unsmoothed value; M is the largest number
        of peaks that any joint has, rows beyond a joint's own number are 0. And (K,) the number of peaks each joint had
        before the cap.
    """
    joints = len(heatmaps)
    smoothed, raw, width = _pad_and_smooth(heatmaps)
    cells = np.flatnonzero(_is_peak(smoothed, raw, width, threshold))
    joint, inside = np.divmod(cells, len(raw) // joints)
    found = np.bincount(joint, minlength=joints)
    rank = np.arange(len(cells)) - (np.cumsum(found) - found)[joint]
    if len(cells) and found.max() > max_peaks:
        cells, joint, inside, rank = _best(raw, max_peaks, cells, joint, inside)
    kept = np.minimum(found, max_peaks)
    row, column = np.divmod(inside, width)
    dx, dy = _refine(smoothed, cells, width)
    peaks = np.zeros((joints, int(kept.max(initial=0)), 3), np.float32)
    half = (stride - 1) / 2
    peaks[joint, rank, 0] = (column - 1 + dx) * stride + half
    peaks[joint, rank, 1] = (row - 1 + dy) * stride + half
    peaks[joint, rank, 2] = raw[cells]
    return peaks, found


def _pad_and_smooth(heatmaps: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32], int]:
    """Return smoothed and raw values of all maps in one flat array each, and the length of a row.

    Every map carries a frame one cell wide, -inf in the smoothed copy, so that a neighbour is a plain offset.
    """
    joints, h, w = heatmaps.shape
    raw = np.empty((joints, h + 2, w + 2), np.float32)
    raw[:, 1:-1, 1:-1] = heatmaps
    raw[:, 0, 1:-1], raw[:, -1, 1:-1] = heatmaps[:, 0], heatmaps[:, -1]
    raw[:, :, 0], raw[:, :, -1] = raw[:, :, 1], raw[:, :, -2]
    centre, side = SMOOTHING
    smoothed = np.full_like(raw, -np.inf)
    across = centre * raw[:, :, 1:-1] + side * (raw[:, :, :-2] + raw[:, :, 2:])
    smoothed[:, 1:-1, 1:-1] = centre * across[:, 1:-1] + side * (across[:, :-2] + across[:, 2:])
    return smoothed.ravel(), raw.ravel(), w + 2


def _is_peak(
    smoothed: NDArray[np.float32], raw: NDArray[np.float32], width: int, threshold: float
) -> NDArray[np.bool_]:
    """Mark the cells that no neighbour exceeds and no earlier neighbour equals."""
    three = np.full_like(smoothed, -np.inf)
    three[1:-1] = np.maximum(np.maximum(smoothed[:-2], smoothed[1:-1]), smoothed[2:])
    peak = raw > threshold
    peak &= np.isfinite(smoothed)
    peak[width:] &= smoothed[width:] > three[:-width]
    peak[1:] &= smoothed[1:] > smoothed[:-1]
    peak[:-1] &= smoothed[:-1] >= smoothed[1:]
    peak[:-width] &= smoothed[:-width] >= three[width:]
    return peak


def _best(
    raw: NDArray[np.float32],
    max_peaks: int,
    cells: NDArray[np.intp],
    joint: NDArray[np.intp],
    inside: NDArray[np.intp],
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
    """Keep the `max_peaks` highest cells of every joint; also return their ranks."""
    order = np.lexsort((-raw[cells], joint))
    cells, joint, inside = cells[order], joint[order], inside[order]
    rank = np.arange(len(cells)) - np.searchsorted(joint, joint)
    keep = rank < max_peaks
    return cells[keep], joint[keep], inside[keep], rank[keep]


def _refine(
    smoothed: NDArray[np.float32], cells: NDArray[np.intp], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the offsets in cells, along x and y, from each cell's centre to the summit of the parabola in the logarithm.

    At the frame of the map one neighbour is missing. There the curvature of the other axis stands in, because the labels'
    Gaussians are round.
    """
    value = smoothed[cells[:, None] + np.array([0, -1, 1, -width, width])]
    log = np.log(np.maximum(value, FLOOR))
    missing = np.isneginf(value[:, 1:])
    rise = log[:, 1:] - log[:, :1]
    curvature = np.stack([rise[:, 0] + rise[:, 1], rise[:, 2] + rise[:, 3]])
    one_sided = np.stack([missing[:, 0] | missing[:, 1], missing[:, 2] | missing[:, 3]])
    shared = np.where(one_sided, curvature[::-1], curvature)
    shared = np.where(one_sided.all(axis=0) | (shared > -1e-6), -np.inf, shared)
    slope = np.stack([rise[:, 1] - rise[:, 0], rise[:, 3] - rise[:, 2]]) / 2
    low, high = missing[:, 0::2].T, missing[:, 1::2].T
    slope = np.where(low, rise[:, 1::2].T - shared / 2, np.where(high, shared / 2 - rise[:, 0::2].T, slope))
    slope = np.where(np.isfinite(slope), slope, 0.0)
    dx, dy = np.clip(-slope / shared, -0.5, 0.5)
    return dx, dy
