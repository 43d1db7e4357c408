"""Top-down decoding: the heatmaps of crops to joints, one person a crop.

The highest cell of each heatmap, refined either by a quarter of a cell towards the larger neighbour (Newell et al.
2016; HRNet, Lite-HRNet) or by a Taylor expansion of the smoothed logarithm (`limbnet.decode.dark`).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.dark import taylor_offsets

Refinement = Literal["none", "quarter", "dark"]


def decode_crops(
    heatmaps: NDArray[np.float32], refinement: Refinement = "quarter", empty_cell: float = 0.0, kernel: int = 11
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Find one joint in every heatmap.

    Args:
        heatmaps: (N, K, h, w) float32.
        refinement: what follows the highest cell.
        empty_cell: x and y of joints whose highest value is not positive (HRNet 0, mmpose -1).
        kernel: side of DARK's Gaussian in cells, odd.

    Returns:
        Points (N, K, 2) float64 x, y in cells, and the value of the highest cell of each heatmap (N, K), unsmoothed.
        A heatmap without a finite highest value has the value 0.
    """
    count, joints, h, w = heatmaps.shape
    flat = np.ascontiguousarray(heatmaps, np.float32).reshape(count * joints, h, w)
    cells, values = highest_cells(flat)
    there = values > 0
    points = np.where(there[:, None], cells, empty_cell).astype(np.float64)
    if refinement == "quarter":
        points += quarter_offsets(flat, cells) * there[:, None]
    elif refinement == "dark":
        points += taylor_offsets(flat, cells, values, kernel)
    return points.reshape(count, joints, 2), values.reshape(count, joints)


def highest_cells(heatmaps: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return (N, 2) x, y and (N,) value of the highest cell of heatmaps (N, h, w), the first one of equal ones."""
    count, h, w = heatmaps.shape
    flat = heatmaps.reshape(count, h * w)
    place = flat.argmax(axis=1)
    values = flat[np.arange(len(flat)), place]
    cells = np.stack(np.divmod(place, w)[::-1], 1)
    return cells, np.where(np.isfinite(values), values, np.float32(0))


def quarter_offsets(heatmaps: NDArray[np.float32], cells: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (N, 2) a quarter of a cell towards the larger neighbour in x and in y, 0 where they are equal.

    Cells (N, 2) closer than two to the left or upper border, or in the last column or row, are left alone.
    """
    h, w = heatmaps.shape[1:]
    offsets = np.zeros((len(cells), 2))
    x, y = cells.T
    inside = np.flatnonzero((x > 1) & (x < w - 1) & (y > 1) & (y < h - 1))
    place = (inside * h + y[inside]) * w + x[inside]
    flat = heatmaps.ravel()
    offsets[inside, 0] = np.sign(flat.take(place + 1) - flat.take(place - 1))
    offsets[inside, 1] = np.sign(flat.take(place + w) - flat.take(place - w))
    return offsets / 4
