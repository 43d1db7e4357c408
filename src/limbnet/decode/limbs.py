"""Limb candidates: how well the part affinity fields connect every pair of peaks.

The original procedure upsamples the fields bicubically and reads ten whole pixels from start to end of every pair. The
same values are interpolated here from the cells, at those points alone, and a pair is dropped as soon as it cannot be
accepted any more: most fail at the first two points, in the middle.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.peaks import POINTS
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: Rows and pairs that one call of OpenCV's `remap` can address.
REMAP_LIMIT = 32766

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
    most = points.shape[1]
    scores = np.zeros((len(skeleton.limbs), most, most), np.float32)
    there = np.arange(most) < counts[:, None]
    pairs = np.flatnonzero(there[skeleton.limb_starts, :, None] & there[skeleton.limb_ends, None, :])
    if not len(pairs):
        return scores
    start = pairs // most
    limb = start // most
    end = limb * most + (pairs - start * most)
    x, y = np.ascontiguousarray(points.transpose(2, 0, 1))
    origin = np.stack([side[skeleton.limb_starts].take(start) for side in (x, y)])
    vector = np.stack([side[skeleton.limb_ends].take(end) for side in (x, y)]) - origin
    field = interleave(pafs)
    spare = settings.limb_samples - settings.limb_samples_needed
    failed, total = np.zeros(len(pairs), np.intp), np.zeros(len(pairs), np.float32)
    for steps in _stages(settings.limb_samples, settings.limb_samples if len(pairs) <= FEW_PAIRS else spare + 1):
        along = sample_fields(field, limb, origin, vector, steps)
        qualifies = along > settings.paf_threshold
        failed += len(steps) - np.count_nonzero(qualifies, axis=0)
        total += (along * qualifies).sum(axis=0)
        left = np.flatnonzero(failed <= spare)
        pairs, limb, failed, total = pairs.take(left), limb.take(left), failed.take(left), total.take(left)
        origin, vector = origin.take(left, axis=1), vector.take(left, axis=1)
    scores.ravel()[pairs] = np.maximum(total, 0) / np.maximum(settings.limb_samples - failed, 1)
    return scores


@lru_cache(maxsize=32)
def _stages(samples: int, first: int) -> tuple[NDArray[np.float32], ...]:
    """Split the sampling steps, 0 to 1, into two short stages from the middle outwards and the rest."""
    steps = np.arange(samples, dtype=np.float32) / np.float32(max(samples - 1, 1))
    outwards = steps[np.argsort(np.abs(steps - 0.5), kind="stable")]
    return tuple(stage for stage in np.split(outwards, [first, 2 * first]) if len(stage))


def interleave(pafs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (L, h + 4, w, 2): x and y side by side, first and last row repeated so that limbs do not mix."""
    channels, h, w = pafs.shape
    field = np.empty((channels // 2, h + 4, w, 2), np.float32)
    field[:, 2:-2, :, 0], field[:, 2:-2, :, 1] = pafs[0::2], pafs[1::2]
    field[:, :2], field[:, -2:] = field[:, 2:3], field[:, -3:-2]
    return field


def sample_fields(
    field: NDArray[np.float32],
    limb: NDArray[np.intp],
    origin: NDArray[np.float32],
    vector: NDArray[np.float32],
    steps: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return (S, N) dot products of the field with the unit vectors of N pairs, at S steps from origin along vector.

    `limb` must ascend; origin and vector are (2, N) in eighths of a cell.
    """
    rows = field.shape[1]
    half = np.float32((POINTS - 1) / 2)
    along = np.empty((len(steps), len(limb)), np.float32)
    limbs_per_call = max(REMAP_LIMIT // rows, 1)
    for first in range(0, len(field), limbs_per_call):
        tall = field[first : first + limbs_per_call].reshape(-1, *field.shape[2:])
        low, high = np.searchsorted(limb, [first, first + limbs_per_call]).tolist()
        for these in (slice(n, min(n + REMAP_LIMIT, high)) for n in range(low, high, REMAP_LIMIT)):
            position = steps[:, None] * vector[:, None, these]
            position += origin[:, None, these]
            np.rint(position, out=position)
            position -= half
            position *= np.float32(1 / POINTS)
            position[1] += (rows * (limb[these] - first) + 2).astype(np.float32)
            values = cv2.remap(tall, position[0], position[1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            unit = vector[:, these] / (np.sqrt(np.square(vector[:, these]).sum(axis=0)) + np.float32(1e-6))
            np.multiply(values[..., 0], unit[0], out=along[:, these])
            along[:, these] += values[..., 1] * unit[1]
    return along
