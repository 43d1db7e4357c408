"""Limb candidates: how well the part affinity fields connect every pair of peaks.

The original procedure upsamples the fields bicubically and reads ten whole pixels from start to end of every pair. The same
values are interpolated here from the cells, at the points that matter alone: most pairs are turned away because the field
is weak around their middle, and the few that are left are sampled exactly.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.peaks import POINTS
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: An interpolated value is at most this multiple of the largest cell it is made of: the sum of the absolute weights of
#: cubic convolution, 1.375 along each axis.
OVERSHOOT = 1.375**2

#: Rows and columns that one call of OpenCV's `remap` can address.
REMAP_LIMIT = 32766


def score_limbs(
    pafs: NDArray[np.float32],
    points: NDArray[np.float32],
    counts: NDArray[np.intp],
    skeleton: Skeleton,
    settings: DecoderSettings,
) -> NDArray[np.float32]:
    """Score all pairs of peaks of all limbs (Cao et al. 2017, section 2.3, sampled as BodyPoseNet does).

    The field is sampled at evenly spaced points from start to end, rounded to an eighth of a cell. A sample qualifies when
    its dot product with the limb's direction exceeds the threshold; a pair is accepted when enough samples qualify.

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
    samples, spare = settings.limb_samples, settings.limb_samples - settings.limb_samples_needed
    steps = np.arange(samples, dtype=np.float32) / np.float32(max(samples - 1, 1))
    order = np.argsort(np.abs(steps - 0.5), kind="stable")
    steps = steps[order]
    middle = min(spare + 1, samples)  # a pair that fails all of these cannot be accepted any more
    pairs = _plausible_pairs(pafs, points, counts, skeleton, steps[:middle], settings.paf_threshold)
    if not len(pairs):
        return scores
    field = _interleave(pafs)
    limb, start, end = np.unravel_index(pairs, scores.shape)
    origin = points[skeleton.limb_starts[limb], start].T
    vector = points[skeleton.limb_ends[limb], end].T - origin
    first = _sample(field, limb, origin, vector, steps[:middle])
    left = np.flatnonzero((first > settings.paf_threshold).any(axis=0))
    rest = _sample(field, limb[left], origin[:, left], vector[:, left], steps[middle:])
    along = np.concatenate([first[:, left], rest])
    qualifies = along > settings.paf_threshold
    count = qualifies.sum(axis=0)
    total = np.einsum("sn,sn->n", along, qualifies)
    good = (count >= settings.limb_samples_needed) & (total > 0)
    scores.ravel()[pairs[left[good]]] = total[good] / count[good]
    return scores


def _plausible_pairs(
    pafs: NDArray[np.float32],
    points: NDArray[np.float32],
    counts: NDArray[np.intp],
    skeleton: Skeleton,
    steps: NDArray[np.float32],
    threshold: float,
) -> NDArray[np.intp]:
    """Return flat indices into (L, M, M) of the pairs for which the field can exceed the threshold at one of the steps.

    No pair is lost: an interpolated value needs a cell that is strong enough within two cells of it.
    """
    _, h, w = pafs.shape
    weakest = threshold / OVERSHOOT
    strong = pafs[0::2] ** 2 + pafs[1::2] ** 2 > weakest * abs(weakest)
    near = cv2.dilate(strong.reshape(-1, w).view(np.uint8), np.ones((5, 5), np.uint8)).ravel().view(np.bool_)
    cells = points / np.float32(POINTS)
    start, end = cells[skeleton.limb_starts, :, None], cells[skeleton.limb_ends, None, :]
    there = np.arange(points.shape[1]) < counts[:, None]
    first_cell = np.arange(0, len(near), h * w, dtype=np.int32)[:, None, None]
    plausible = np.zeros((len(start), points.shape[1], points.shape[1]), bool)
    for step in steps:
        between = start * (1 - step), end * step
        column = (between[0][..., 0] + between[1][..., 0]).astype(np.int32)
        row = (between[0][..., 1] + between[1][..., 1]).astype(np.int32)
        plausible |= near[first_cell + row * np.int32(w) + column]
    plausible &= there[skeleton.limb_starts, :, None]
    plausible &= there[skeleton.limb_ends, None, :]
    return np.flatnonzero(plausible)


def _interleave(pafs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (L, h + 4, w, 2): x and y side by side, first and last row repeated so that limbs do not mix."""
    channels, h, w = pafs.shape
    field = np.empty((channels // 2, h + 4, w, 2), np.float32)
    field[:, 2:-2, :, 0], field[:, 2:-2, :, 1] = pafs[0::2], pafs[1::2]
    field[:, :2], field[:, -2:] = field[:, 2:3], field[:, -3:-2]
    return field


def _sample(
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
    x, y = (np.rint(origin[:, None] + steps[:, None] * vector[:, None]) - np.float32((POINTS - 1) / 2)) / np.float32(
        POINTS
    )
    unit = vector / (np.hypot(*vector) + np.float32(1e-6))
    along = np.empty_like(x)
    limbs_per_call = max(REMAP_LIMIT // rows, 1)
    for first in range(0, len(field), limbs_per_call):
        tall = field[first : first + limbs_per_call].reshape(-1, *field.shape[2:])
        low, high = np.searchsorted(limb, [first, first + limbs_per_call])
        for these in (slice(n, min(n + REMAP_LIMIT, high)) for n in range(low, high, REMAP_LIMIT)):
            base = (rows * (limb[these] - first) + 2).astype(np.float32)
            values = cv2.remap(tall, x[:, these], y[:, these] + base, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
            along[:, these] = values[..., 0] * unit[0, these] + values[..., 1] * unit[1, these]
    return along
