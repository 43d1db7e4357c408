"""DARK: distribution-aware coordinates (Zhang et al. 2020, section 3.2).

Each heatmap is smoothed by a Gaussian and scaled to its former maximum; one Newton step on its logarithm leads from the
highest cell to the summit. A step needs thirteen smoothed values, so smoothing is done there alone, as one matrix
product over the cells around all peaks. The former maximum matters only where a smoothed value lies below the floor of
the logarithm; those heatmaps are smoothed as a whole.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

#: Smoothed values are raised to it before the logarithm.
FLOOR = 1e-10

#: The cells that a step looks at reach so far: second derivatives are taken two cells apart.
REACH = 2


def taylor_offsets(
    heatmaps: NDArray[np.float32], cells: NDArray[np.intp], values: NDArray[np.float32], kernel: int = 11
) -> NDArray[np.float64]:
    """Return (N, 2) x, y from the highest cell of each heatmap to its summit, in cells; the step is not limited.

    Args:
        heatmaps: (N, h, w) float32, not smoothed.
        cells: (N, 2) x, y of their highest cells.
        values: (N,) heatmap values there.
        kernel: side of the Gaussian in cells, odd; its deviation is OpenCV's for that size.

    There is no step from cells closer than two to a border, from peaks that are not positive, and where the second
    derivatives have the determinant 0.
    """
    h, w = heatmaps.shape[1:]
    offsets = np.zeros((len(cells), 2))
    x, y = cells.T
    inside = (x >= REACH) & (x < w - REACH) & (y >= REACH) & (y < h - REACH)
    these = np.flatnonzero(inside & (values > 0))
    around = _smoothed_around(heatmaps, these, x[these], y[these], kernel).astype(np.float64)
    low = np.flatnonzero(around.min(axis=(1, 2), initial=1) < FLOOR)
    if len(low):
        highest = _smoothed(heatmaps.take(these[low], axis=0), kernel).max(axis=(1, 2))
        with np.errstate(divide="ignore"):
            around[low] *= (values[these[low]] / highest)[:, None, None]
    steps = _newton_step(np.log(np.maximum(around, FLOOR)))
    offsets[these] = np.where(np.isfinite(steps), steps, 0.0)  # maps with NaN or infinities near the peak
    return offsets


def _newton_step(log: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (N, 2) the step x, y from the middle of (N, 5, 5) values to the summit of their second-order expansion."""
    middle = log[:, 2, 2]
    dx, dy = (log[:, 2, 3] - log[:, 2, 1]) / 2, (log[:, 3, 2] - log[:, 1, 2]) / 2
    dxx = (log[:, 2, 4] - 2 * middle + log[:, 2, 0]) / 4
    dyy = (log[:, 4, 2] - 2 * middle + log[:, 0, 2]) / 4
    dxy = (log[:, 3, 3] - log[:, 1, 3] - log[:, 3, 1] + log[:, 1, 1]) / 4
    determinant = dxx * dyy - dxy**2
    step = np.stack([dxy * dy - dyy * dx, dxy * dx - dxx * dy], 1)
    return np.where(determinant[:, None] != 0, step / np.where(determinant, determinant, 1)[:, None], 0.0)


def _smoothed_around(
    heatmaps: NDArray[np.float32], these: NDArray[np.intp], x: NDArray[np.intp], y: NDArray[np.intp], kernel: int
) -> NDArray[np.float32]:
    """Return (M, 5, 5) smoothed values around one cell of each of the heatmaps `these`, rows by columns.

    Values outside a map count as zero.
    """
    h, w = heatmaps.shape[1:]
    steps = np.arange(-REACH - kernel // 2, REACH + kernel // 2 + 1)
    rows, columns = y[:, None] + steps, x[:, None] + steps
    places = (these[:, None] * h + rows.clip(0, h - 1)) * w
    patches = heatmaps.ravel().take(places[:, :, None] + columns.clip(0, w - 1)[:, None])
    cut = np.flatnonzero((y < steps[-1]) | (y >= h - steps[-1]) | (x < steps[-1]) | (x >= w - steps[-1]))
    rows_there, columns_there = (rows[cut] >= 0) & (rows[cut] < h), (columns[cut] >= 0) & (columns[cut] < w)
    patches[cut] *= rows_there[:, :, None] & columns_there[:, None]
    smoothed = patches.reshape(len(these), len(steps) ** 2) @ _patch_matrix(kernel)
    return np.asarray(smoothed.reshape(-1, 2 * REACH + 1, 2 * REACH + 1))


@lru_cache(maxsize=8)
def _patch_matrix(kernel: int) -> NDArray[np.float32]:
    """Return the matrix from the cells around a peak, row by row, to the smoothed 5x5 in their middle."""
    wide = 2 * REACH + kernel
    weights = _gaussian(kernel)
    axis = np.stack([np.pad(weights, (n, wide - kernel - n)) for n in range(2 * REACH + 1)])
    return np.ascontiguousarray(np.kron(axis, axis).T, np.float32)


def _smoothed(heatmaps: NDArray[np.float32], kernel: int) -> NDArray[np.float64]:
    """Return heatmaps (N, h, w) smoothed; cells outside count as zero."""
    h, w = heatmaps.shape[1:]
    return np.asarray(_band(h, kernel) @ heatmaps @ _band(w, kernel))


@lru_cache(maxsize=8)
def _band(side: int, kernel: int) -> NDArray[np.float64]:
    """Return the (side, side) matrix that smooths along one axis."""
    distance = np.arange(side)[:, None] - np.arange(side) + kernel // 2
    weights = np.append(_gaussian(kernel), 0.0)
    return weights[np.where((distance >= 0) & (distance < kernel), distance, kernel)]


def _gaussian(kernel: int) -> NDArray[np.float64]:
    """Return OpenCV's Gaussian of that size, (kernel,)."""
    return np.asarray(cv2.getGaussianKernel(kernel, 0), np.float64)[:, 0]
