"""Limb candidates: how well the part affinity fields connect every pair of peaks."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton


def score_limbs(
    pafs: NDArray[np.float32],
    peaks: NDArray[np.float32],
    found: NDArray[np.intp],
    skeleton: Skeleton,
    stride: int,
    settings: DecoderSettings,
) -> NDArray[np.float32]:
    """Score all pairs of peaks of all limbs (Cao et al. 2017, section 2.3, sampled as BodyPoseNet does).

    The field is sampled at evenly spaced points from start to end, interpolated between cells. A sample qualifies when
    its dot product with the limb's direction exceeds the threshold; a pair is accepted when enough samples qualify.

    Args:
        pafs: (2 L, h, w) float32, finite.
        peaks: (K, M, 3) as returned by `find_peaks`.
        found: (K,) number of peaks of each joint.
        skeleton: joints and limbs.
        stride: network-input pixels a cell.
        settings: thresholds.

    Returns:
        (L, M, M) float32: the mean of the qualifying dot products for each start and end, 0 where a pair is not accepted.
    """
    limbs, most = len(skeleton.limbs), peaks.shape[1]
    scores = np.zeros((limbs, most, most), np.float32)
    there = np.arange(most) < found[:, None]
    limb, start, end = np.nonzero(there[skeleton.limb_starts, :, None] & there[skeleton.limb_ends, None, :])
    if not len(limb):
        return scores
    cells = (peaks[:, :, :2] - np.float32((stride - 1) / 2)) * np.float32(1 / stride)
    origin = cells[skeleton.limb_starts[limb], start]
    vector = cells[skeleton.limb_ends[limb], end] - origin
    along = _sample(pafs, limb, origin, vector, np.linspace(0, 1, settings.limb_samples, dtype=np.float32))
    qualifies = along > settings.paf_threshold
    count = qualifies.sum(axis=0)
    total = np.where(qualifies, along, 0).sum(axis=0)
    good = (count >= settings.limb_samples_needed) & (total > 0)
    scores[limb[good], start[good], end[good]] = total[good] / count[good]
    return scores


def _sample(
    pafs: NDArray[np.float32],
    limb: NDArray[np.intp],
    origin: NDArray[np.float32],
    vector: NDArray[np.float32],
    steps: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return (S, N) dot products of the field with the unit vector of N pairs, at S steps from origin to origin + vector.

    All maps are seen as one tall picture, so that one call of OpenCV interpolates every limb.
    """
    channels, h, w = pafs.shape
    tall = pafs.reshape(channels * h, w)
    unit = vector / (np.linalg.norm(vector, axis=1, keepdims=True) + np.float32(1e-6))
    x = np.clip(origin[:, 0] + steps[:, None] * vector[:, 0], 0, w - 1)
    y = np.clip(origin[:, 1] + steps[:, None] * vector[:, 1], 0, h - 1) + (2 * h * limb).astype(np.float32)
    along_x = cv2.remap(tall, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    along_y = cv2.remap(tall, x, y + np.float32(h), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(along_x * unit[:, 0] + along_y * unit[:, 1])
