"""Target encodings of published networks: what their heads should answer for labelled people.

Points are in map cells, cell (0, 0) being the point (0, 0), as their decoders read them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Maps = NDArray[np.float32]
Flags = NDArray[np.bool_]


def joint_targets(
    cells: Floats, used: Flags, map_size: tuple[int, int], sigma: float, unbiased: bool
) -> tuple[Maps, Maps]:
    """Draw the heatmaps of one person's crop (top-down networks).

    HRNet's Gaussians stand on the nearest cell and end 3 sigma from it. DARK's (Zhang et al. 2020, section 3.2) stand
    where the joint is and do not end. Joints too far outside for a Gaussian to reach in count as not labelled.

    Args:
        cells: (K, 2) joints.
        used: (K,) labelled ones.
        map_size: (h, w).
        sigma: in cells.
        unbiased: as DARK.

    Returns:
        heatmaps (K, h, w) and weights (K,), 1 where a heatmap counts.
    """
    size = np.array(map_size[::-1])
    middle = cells if unbiased else np.trunc(cells + 0.5)
    reach = 3 * sigma
    beyond = (np.trunc(middle - reach) >= size) | (np.trunc(middle + reach + 1) < 0)
    weights = used & ~beyond.any(axis=1)
    maps = _gaussians(middle, map_size, sigma, None if unbiased else reach)
    maps[~weights] = 0
    return maps.astype(np.float32), weights.astype(np.float32)


def tag_heatmaps(cells: Floats, used: Flags, map_size: tuple[int, int], sigma: float) -> Maps:
    """Draw HigherHRNet's heatmaps (K, h, w) at one resolution: the largest over people.

    The Gaussians stand on the cell that holds the joint, its fraction cut off, which the decoder's half cell makes up
    for; they end a cell beyond 3 sigma. Joints (P, K, 2) outside the map draw nothing.
    """
    inside = used & within(cells, map_size)
    maps = np.zeros((used.shape[1], *map_size), np.float32)
    reach = 3 * sigma + 1
    for person, joint in np.argwhere(inside):
        middle = np.trunc(cells[person, joint])
        _stamp(maps[joint], middle, sigma, np.ceil(middle - reach), np.floor(middle + reach) + 1)
    return maps


def tag_cells(cells: Floats, used: Flags, map_size: tuple[int, int]) -> NDArray[np.int64]:
    """Return (P, K) where each joint's tag is read: its place in the (K, h, w) tag maps laid out flat, -1 for none."""
    height, width = map_size
    whole = np.trunc(cells).astype(np.int64)
    places = (np.arange(cells.shape[1]) * height + whole[..., 1]) * width + whole[..., 0]
    return np.where(used & within(cells, map_size), places, -1)


class OffsetTargets(NamedTuple):
    """DEKR's targets.

    Attributes:
        heatmaps: (K + 1, h, w), the centre last.
        heatmap_weights: (K + 1, h, w), 1 around joints, less elsewhere.
        offsets: (2K, h, w) pairs x, y: cell minus joint.
        offset_weights: (2K, h, w), 0 where no offset is learnt.
    """

    heatmaps: Maps
    heatmap_weights: Maps
    offsets: Maps
    offset_weights: Maps


def offset_targets(
    cells: Floats,
    used: Flags,
    diagonals: Floats,
    centred: Flags,
    map_size: tuple[int, int],
    *,
    sigma: float,
    centre_sigma: float,
    background_weight: float,
    radius: int,
) -> OffsetTargets:
    """Draw DEKR's maps (Geng et al. 2021, section 3).

    Gaussians stand where joints and centres are; a person's centre is the mean of the labelled joints. Within `radius`
    cells of a centre (one fewer on the far sides) each cell learns the way to the joints, people counting inversely to
    their size; where several are near, the smallest wins.

    Args:
        cells: (P, K, 2) joints.
        used: (P, K) labelled ones.
        diagonals: (P,) of the box around each person's labelled joints, in pixels of the network's input.
        centred: (P,) who has a centre; people too small have none.
        map_size: (h, w).
        sigma: of the joints' Gaussians.
        centre_sigma: of the centres'.
        background_weight: of the heatmaps where no Gaussian stands.
        radius: of the area around a centre.
    """
    joints = used.shape[1]
    counts = used.sum(axis=1)
    centres = (cells * used[..., None]).sum(axis=1) / np.maximum(counts, 1)[:, None]
    centred = centred & (counts > 0)
    inside = used & within(cells, map_size)
    heatmaps = np.zeros((joints + 1, *map_size), np.float32)
    weights = np.full(heatmaps.shape, background_weight, np.float32)
    at_home = centred & within(centres, map_size)
    points = np.concatenate([cells, centres[:, None]], axis=1)
    for person, joint in np.argwhere(np.column_stack([inside, at_home])):
        point, spread = points[person, joint], centre_sigma if joint == joints else sigma
        low, high = np.floor(point - 3 * spread - 1), np.ceil(point + 3 * spread + 2)
        window = _stamp(heatmaps[joint], point, spread, low, high)
        weights[joint][window] = 1
    offsets = np.zeros((2 * joints, *map_size), np.float32)
    offset_weights = np.zeros_like(offsets)
    height, width = map_size
    order = sorted(np.flatnonzero(at_home), key=lambda person: -diagonals[person])
    for person in order:  # the smallest last, over the others
        column, row = (int(value) for value in centres[person])
        rows = np.arange(max(row - radius, 0), min(row + radius, height))
        columns = np.arange(max(column - radius, 0), min(column + radius, width))
        for joint in np.flatnonzero(inside[person]):
            x, y = cells[person, joint]
            block = np.ix_([2 * joint, 2 * joint + 1], rows, columns)
            way = np.broadcast_arrays((columns - x)[None, :], (rows - y)[:, None])
            offsets[block] = np.stack(way)
            offset_weights[block] = 1 / max(diagonals[person], 1.0)
    return OffsetTargets(heatmaps, weights, offsets, offset_weights)


def within(cells: Floats, map_size: tuple[int, int]) -> Flags:
    """Tell which points (..., 2) lie in a map of (h, w)."""
    return np.asarray(((cells >= 0) & (cells < np.array(map_size[::-1]))).all(axis=-1))


def _gaussians(middles: Floats, map_size: tuple[int, int], sigma: float, reach: float | None) -> Floats:
    """Draw a Gaussian map for each of N points (N, 2): (N, h, w), 0 beyond `reach` on either axis."""
    sides = []
    for axis, length in ((1, map_size[0]), (0, map_size[1])):
        apart = np.arange(length) - middles[:, axis, None]
        side = np.exp(-(apart**2) / (2 * sigma**2))
        sides.append(side if reach is None else np.where(np.abs(apart) <= reach, side, 0))
    return np.asarray(sides[0][:, :, None] * sides[1][:, None, :])


def _stamp(heatmap: Maps, middle: Floats, sigma: float, low: Floats, high: Floats) -> tuple[slice, slice]:
    """Draw a Gaussian into a map (h, w) from the cell `low` to before `high` (x, y); return where, as rows, columns."""
    height, width = heatmap.shape
    rows = np.arange(max(int(low[1]), 0), min(int(high[1]), height))
    columns = np.arange(max(int(low[0]), 0), min(int(high[0]), width))
    down = np.exp(-((rows - middle[1]) ** 2) / (2 * sigma**2))
    across = np.exp(-((columns - middle[0]) ** 2) / (2 * sigma**2))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    heatmap[window] = np.maximum(heatmap[window], np.outer(down, across))
    return window
