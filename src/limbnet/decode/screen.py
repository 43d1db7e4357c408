"""Local maxima of large maps: nearly all pixels are ruled out at little cost, the rest is looked at closely."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.peaks import descending


def screened_pixels(heatmaps: NDArray[np.float32], threshold: float) -> NDArray[np.intp]:
    """Return places in the flat (K, H, W) maps: pixels above a threshold, less those below one of four neighbours.

    At the border of a map only the threshold counts.
    """
    _, height, width = heatmaps.shape
    found = []
    for number, heatmap in enumerate(heatmaps):  # one map at a time stays in the processor's cache
        flat = heatmap.ravel()
        above = flat > threshold
        for step in (1, width):
            above[:-step] &= flat[:-step] >= flat[step:]
            above[step:] &= flat[step:] >= flat[:-step]
        # Beyond the border stands another row of memory, so nothing is ruled out there.
        frame = above.reshape(height, width)
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            frame[edge] = heatmap[edge] > threshold
        found.append(np.flatnonzero(above) + number * flat.size)
    return np.concatenate(found)


def local_maxima(
    heatmaps: NDArray[np.float32], threshold: float, reach: int, most: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]:
    """Find pixels above a threshold that are the largest, ties allowed, within `reach` along both axes.

    Returns:
        Joint, place in its map, row after row, and value of N pixels, ordered by joint and falling value; at most
        `most` of each joint.
    """
    _, height, width = heatmaps.shape
    flat = np.ascontiguousarray(heatmaps).reshape(-1)
    places = screened_pixels(heatmaps, threshold)
    values = flat.take(places)
    row, column = np.divmod(places, width)
    top = row // height * height
    for down, right in _outwards(reach):
        if not len(places):
            break
        rows = np.clip(row + down, top, top + height - 1)
        alive = flat.take(rows * width + np.clip(column + right, 0, width - 1)) <= values
        places, values, row, column, top = (each.compress(alive) for each in (places, values, row, column, top))
    order = descending(values)
    joint = places.take(order) // (height * width)
    by_joint = np.argsort(joint, kind="stable")
    order, joint = order.take(by_joint), joint.take(by_joint)
    rank = np.arange(len(joint)) - np.searchsorted(joint, joint)
    order, joint = order.compress(rank < most), joint.compress(rank < most)
    return joint, places.take(order) - joint * (height * width), values.take(order)


def _outwards(reach: int) -> list[tuple[int, int]]:
    """Return the steps to all neighbours within reach, the nearest first, because they rule out most pixels."""
    span = range(-reach, reach + 1)
    steps = [(down, right) for down in span for right in span if (down, right) != (0, 0)]
    return sorted(steps, key=lambda step: step[0] ** 2 + step[1] ** 2)
