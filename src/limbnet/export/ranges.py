"""Ranges: from the values that a tensor took on real pictures to the one number that its INT8 scale needs.

A tensor's absolute values go into a histogram whose range doubles, two bins becoming one, whenever a larger value
comes: the memory stays the same however many pictures there are, and their order does not matter. Exact zeros are not
counted; every scale represents them exactly.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

Method = Literal["minmax", "entropy", "percentile"]

METHODS: tuple[Method, ...] = ("minmax", "entropy", "percentile")

#: Peaks of heatmaps are rare and large: entropy, TensorRT's choice, may cut them off, and the largest value of all
#: wastes steps on an outlier. On trained networks the percentile stayed closest to the float maps.
DEFAULT_METHOD: Method = "percentile"

BINS = 2048

#: Levels of one sign that int8 has for a tensor's absolute values.
LEVELS = 128


class Histogram:
    """Counts of the absolute values of one tensor.

    Attributes:
        counts: (BINS,) int64, of equal bins from 0 to `limit`.
        limit: upper end, a power of two; 0 before any value but zero has come.
        largest: the largest absolute value.
    """

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(BINS, np.int64)
        self.limit = 0.0
        self.largest = 0.0

    def add(self, values: NDArray[np.float32]) -> None:
        """Count values of any shape. NaN and infinities are an error of the network: they raise a ValueError."""
        magnitudes = np.abs(values, dtype=np.float32).reshape(-1)
        largest = float(magnitudes.max(initial=0.0))
        if not np.isfinite(largest):
            raise ValueError("values that are not finite")
        if largest == 0:
            return
        self.largest = max(self.largest, largest)
        self._grow(largest)
        counts = cv2.calcHist([magnitudes], [0], None, [BINS], [0.0, self.limit]).reshape(-1).astype(np.int64)
        counts[0] -= magnitudes.size - np.count_nonzero(magnitudes)
        self.counts += counts

    def _grow(self, largest: float) -> None:
        """Double the range until `largest` lies inside it."""
        if self.limit == 0:
            self.limit = float(2.0 ** (np.floor(np.log2(largest)) + 1))
        while largest >= self.limit:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.concatenate([merged, np.zeros(BINS // 2, np.int64)])
            self.limit *= 2

    def range(self, method: Method, percentile: float = 99.99) -> float:
        """Return the absolute value that the largest int8 step should stand for; 0 for a tensor that is always 0."""
        if self.largest == 0 or method == "minmax":
            return self.largest
        if method == "percentile":
            return min(self.largest, self._percentile(percentile))
        return min(self.largest, entropy_range(self.counts) * self.limit / BINS)

    def _percentile(self, percentile: float) -> float:
        total = np.cumsum(self.counts)
        bin_index = int(np.searchsorted(total, total[-1] * percentile / 100))
        return (min(bin_index, BINS - 1) + 1) * self.limit / BINS


def entropy_range(counts: NDArray[np.int64]) -> float:
    """Return the upper end, in bins, that loses the least information when what lies below it is cut to 128 levels.

    For every candidate end the counts beyond it join the last bin; the Kullback-Leibler divergence from that
    distribution to the same one at 128 levels (each level's mass spread over its occupied bins) decides. Migacz,
    "8-bit Inference with TensorRT", GTC 2017.
    """
    filled = int(np.flatnonzero(counts)[-1]) + 1
    if filled <= LEVELS:
        return float(filled)
    ends = range(LEVELS, filled + 1)
    divergences = [_divergence(counts, end) for end in ends]
    return float(ends[int(np.argmin(divergences))])


def _divergence(counts: NDArray[np.int64], end: int) -> float:
    """Return the divergence of 128 levels below bin `end`; see `entropy_range`."""
    inside = counts[:end].astype(np.float64)
    occupied = inside > 0
    level = np.arange(end) * LEVELS // end
    mass = np.bincount(level, inside, LEVELS)
    members = np.bincount(level, occupied, LEVELS)
    spread = np.where(occupied, (mass / np.maximum(members, 1))[level], 0.0)
    inside[-1] += counts[end:].sum()
    if spread.sum() == 0:
        return float("inf")
    p, q = inside / inside.sum(), spread / spread.sum()
    held = p > 0
    q = np.where(q > 0, q, 1e-12)  # the last bin may be occupied by what was cut off alone
    return float(np.sum(p[held] * np.log(p[held] / q[held])))
