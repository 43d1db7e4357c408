"""Limb candidates: how well the part affinity fields connect every pair of peaks.

The original procedure upsamples the fields bicubically and reads ten whole pixels from start to end of every pair. The
same values are interpolated here from the cells, at those points alone, and a pair is dropped as soon as it cannot be
accepted any more: most fail at the first two points, in the middle.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode import compiled
from limbnet.decode.peaks import POINTS, cubic
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: Samples taken by one call of OpenCV's `remap`, which can address twice as many: few enough for all that is worked out
#: on the way to stay in the processor's cache.
SAMPLES = 16384

#: Rows that one call of `remap` can address.
ROWS = 32766

#: So many pairs are sampled faster at all points at once than in stages.
FEW_PAIRS = 500


def score_limbs(
    pafs: NDArray[np.float32],
    points: NDArray[np.float32],
    counts: NDArray[np.intp],
    skeleton: Skeleton,
    settings: DecoderSettings,
) -> NDArray[np.float32]:
    """Score all pairs of peaks of all limbs (Cao et al. 2017, section 2.3, sampled as BodyPoseNet does).

    The field is sampled at evenly spaced points from start to end, rounded to an eighth of a cell. A sample qualifies
    when its dot product with the limb's direction exceeds the threshold; enough qualifying samples make a candidate.

    Args:
        pafs: (2 L, h, w) float32, finite.
        points: (K, M, 2) column and row of the peaks as `find_peaks` returns them, in eighths of a cell.
        counts: (K,) number of peaks of each joint; points beyond it are ignored.
        skeleton: joints and limbs.
        settings: thresholds.

    Returns:
        (L, M, M) float32: the mean of the qualifying dot products for each start and end, 0 where a pair is not
        accepted.
    """
    (_, h, w), (joints, most, _) = pafs.shape, points.shape
    scores = np.zeros((len(skeleton.limbs), most, most), np.float32)
    if compiled.in_use:
        compiled.native.score_limbs(
            scores,
            np.ascontiguousarray(pafs, np.float32),
            np.ascontiguousarray(points, np.float32),
            np.ascontiguousarray(counts, np.intp),
            skeleton.limb_starts,
            skeleton.limb_ends,
            _outwards(settings.limb_samples),
            _cubic_weights(),
            *(len(scores), h, w, joints, most),
            *(settings.limb_samples, settings.limb_samples_needed, settings.paf_threshold),
        )
        return scores
    there = np.arange(most) < counts[:, None]
    pairs = np.flatnonzero(there[skeleton.limb_starts, :, None] & there[skeleton.limb_ends, None, :])
    if not len(pairs):
        return scores
    fields = interleave(pafs)
    start = pairs // most
    end = start // most * most + (pairs - start * most)
    places = as_complex(points)
    lifts = fields.lifts[:, None]
    origin = (places[skeleton.limb_starts] + lifts).take(start)
    vector = (places[skeleton.limb_ends] + lifts).take(end) - origin
    spare = settings.limb_samples - settings.limb_samples_needed
    failed, total = np.zeros(len(pairs), np.intp), np.zeros(len(pairs), np.float32)
    for steps in _stages(settings.limb_samples, settings.limb_samples if len(pairs) <= FEW_PAIRS else spare + 1):
        along = fields.along(origin, vector, steps)
        qualifies = along > settings.paf_threshold
        failed += len(steps) - np.add.reduce(qualifies, axis=0, dtype=np.intp)
        total += (along * qualifies).sum(axis=0)
        left = np.flatnonzero(failed <= spare)
        pairs, failed, total = pairs.take(left), failed.take(left), total.take(left)
        origin, vector = origin.take(left), vector.take(left)
    scores.ravel()[pairs] = np.maximum(total, 0) / np.maximum(settings.limb_samples - failed, 1)
    return scores


@lru_cache(maxsize=1)
def _cubic_weights() -> NDArray[np.float32]:
    """Return (8, 4) the weights of the cells -1, 0, 1 and 2 at 1/16, 3/16, ... 15/16 of the way from 0 to 1."""
    way = (np.arange(POINTS) + 0.5) / POINTS
    return cubic(np.abs(way[:, None] - np.arange(-1, 3))).astype(np.float32)


@lru_cache(maxsize=32)
def _outwards(samples: int) -> NDArray[np.float32]:
    """Return the sampling steps, 0 to 1, from the middle outwards."""
    steps = np.arange(samples, dtype=np.float32) / np.float32(max(samples - 1, 1))
    return steps[np.argsort(np.abs(steps - 0.5), kind="stable")]


@lru_cache(maxsize=32)
def _stages(samples: int, first: int) -> tuple[NDArray[np.float32], ...]:
    """Split the sampling steps, 0 to 1, into two short stages from the middle outwards and the rest."""
    return tuple(stage for stage in np.split(_outwards(samples), [first, 2 * first]) if len(stage))


@dataclass(frozen=True)
class Fields:
    """Part affinity fields laid out for sampling: limb under limb in one tall map, x and y side by side.

    Attributes:
        tall: (L (h + 4), w, 2) float32; above and below each limb two rows repeat its edge, so that limbs do not mix.
        lifts: (L,) complex64, what takes a point from its limb's own field to the tall map.

    Points and vectors are complex, x + iy, in eighths of a cell.
    """

    tall: NDArray[np.float32]
    lifts: NDArray[np.complex64]

    def along(
        self, origin: NDArray[np.complex64], vector: NDArray[np.complex64], steps: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return (S, N) dot products of the fields with the unit vectors of N lines, at S steps along them.

        Args:
            origin: (N,) where the lines start, in the tall map; limbs ascend.
            vector: (N,) from their starts to their ends.
            steps: (S,) from 0 at the start to 1 at the end; the points are rounded to eighths of a cell.
        """
        along = np.empty((len(steps), len(origin)), np.float32)
        for rows, these in self._parts(origin, max(SAMPLES // len(steps), 1)):
            some = vector[these]
            position = some.view(np.float32) * steps[:, None]
            position += origin[these].view(np.float32)
            np.rint(position, out=position)
            position -= np.float32((POINTS - 1) / 2)
            position *= np.float32(1 / POINTS)
            position = position.reshape(len(steps), -1, 2)
            if rows.start:
                position[..., 1] -= rows.start
            values = cv2.remap(  # type: ignore[call-overload] # OpenCV's stub lacks the form with one map
                self.tall[rows], position, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE
            )
            turned = some.conj()
            length = np.sqrt((some * turned).real) + np.float32(1e-6)
            np.divide((values.view(np.complex64)[..., 0] * turned).real, length, out=along[:, these])
        return along

    def _parts(self, origin: NDArray[np.complex64], most: int) -> Iterator[tuple[slice, slice]]:
        """Yield rows of the tall map that `remap` can address, and lines in them, `most` at a time."""
        limb_rows = len(self.tall) // len(self.lifts)
        band = max(ROWS // limb_rows, 1) * limb_rows
        for top in range(0, len(self.tall), band):
            low, high = 0, len(origin)
            if band < len(self.tall):
                low, high = (int(np.count_nonzero(origin.imag < POINTS * row)) for row in (top, top + band))
            for first in range(low, high, most):
                yield slice(top, top + band), slice(first, min(first + most, high))


def interleave(pafs: NDArray[np.float32]) -> Fields:
    """Lay out part affinity fields (2 L, h, w) for sampling."""
    channels, h, w = pafs.shape
    limbs = channels // 2
    tall = np.empty((limbs, h + 4, w, 2), np.float32)
    # OpenCV's merge writes past the cache: twice as fast by itself, but sampling then takes twice as long.
    tall[:, 2:-2, :, 0], tall[:, 2:-2, :, 1] = pafs[0::2], pafs[1::2]
    tall[:, :2], tall[:, -2:] = tall[:, 2:3], tall[:, -3:-2]
    return Fields(tall.reshape(-1, w, 2), (np.arange(limbs, dtype=np.complex64) * (h + 4) + 2) * (1j * POINTS))


def as_complex(points: NDArray[np.floating]) -> NDArray[np.complex64]:
    """Return points (..., 2) as x + iy."""
    return np.ascontiguousarray(points, np.float32).view(np.complex64)[..., 0]
