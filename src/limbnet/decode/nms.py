"""Suppression of double detections by object keypoint similarity, and the scores that top-down systems give people."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.peaks import descending

#: HRNet's settings: joints above it count in a person's score; a person more similar than this to a better one goes.
JOINT_THRESHOLD = 0.2
OKS_THRESHOLD = 0.9


def person_scores(
    joint_scores: NDArray[np.floating], box_scores: NDArray[np.floating], threshold: float = JOINT_THRESHOLD
) -> NDArray[np.float64]:
    """Return (N,) the mean of the joint scores (N, K) above a threshold, or 0, times the box score (N,)."""
    above = joint_scores > threshold
    total = np.where(above, joint_scores, 0).sum(axis=1, dtype=np.float64)
    return np.asarray(total / np.maximum(above.sum(axis=1), 1) * box_scores)


def oks_matrix(
    keypoints: NDArray[np.floating], areas: NDArray[np.floating], sigmas: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return (N, N) object keypoint similarity of poses (N, K, 2) by COCO's formula, all joints counted.

    The area of a pair is the mean of both. The similarity of joints d apart is exp(-d^2 / (2 area (2 sigma)^2)).
    """
    points = np.asarray(keypoints, np.float64)
    squares = ((points[:, None] - points[None]) ** 2).sum(axis=-1)
    areas = np.asarray(areas, np.float64)
    pair_area = (areas[:, None] + areas) / 2 + np.spacing(1)
    return np.asarray(np.exp(-squares / (2 * np.asarray(sigmas, np.float64)) ** 2 / pair_area[..., None] / 2).mean(-1))


def oks_nms(
    keypoints: NDArray[np.floating],
    scores: NDArray[np.floating],
    areas: NDArray[np.floating],
    sigmas: NDArray[np.floating],
    threshold: float = OKS_THRESHOLD,
) -> NDArray[np.intp]:
    """Keep, best first, each pose that is not more similar than the threshold to a better one that was kept.

    Args:
        keypoints: (N, K, 2) in pixels of the picture.
        scores: (N,) of the persons, not negative.
        areas: (N,) in square pixels.
        sigmas: (K,) OKS sigmas.
        threshold: greatest similarity of two people.

    Returns:
        (P,) indices of the poses that stay, best first, equal ones in their order.
    """
    order = descending(np.asarray(scores, np.float32))
    similar = oks_matrix(keypoints[order], areas[order], sigmas) > threshold
    alive = np.ones(len(order), bool)
    for place in range(len(order)):
        if alive[place]:
            alive[place + 1 :] &= ~similar[place, place + 1 :]
    return np.asarray(order[alive])
