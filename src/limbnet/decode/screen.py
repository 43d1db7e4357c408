"""The first step of finding local maxima in large maps: rule out nearly all pixels at little cost."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


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
