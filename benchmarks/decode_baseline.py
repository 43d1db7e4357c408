"""BodyPoseNet's own post-processing in NumPy and OpenCV: what `benchmarks/decode.py` is measured against.

The procedure, the layout and the number types are those of the original's path without TensorFlow (the one behind its
TensorRT engines): maps lie channels last and are upsampled whole, by eight, bicubically; each heatmap is blurred by
OpenCV's 5x5 Gaussian with sigma 3 into a double-precision array and compared with four shifted copies of itself; peaks
are whole pixels; all pairs of a limb are sampled together at ten rounded points of the upsampled field; people are rows
of an array, and every connection looks through all of them.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton


def decode(
    heatmaps: NDArray[np.float32], pafs: NDArray[np.float32], skeleton: Skeleton, stride: int, settings: DecoderSettings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return keypoints (P, K, 2), NaN where missing, and scores (P,) of maps (K + 1, h, w) and (2 L, h, w)."""
    heat, paf = _upsample(heatmaps, stride), _upsample(pafs, stride)
    peaks = find_peaks(heat[:, :, : len(skeleton.joints)], settings.heatmap_threshold)
    connections = [
        connect(paf[:, :, [2 * limb, 2 * limb + 1]], peaks[start], peaks[end], settings)
        for limb, (start, end) in enumerate(skeleton.limbs)
    ]
    return assemble(connections, peaks, skeleton, settings)


def _upsample(maps: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Upsample (C, h, w) to (H, W, C), the order in which a network of the original returns its maps."""
    return cv2.resize(maps.transpose(1, 2, 0), None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)


def find_peaks(heat: NDArray[np.float32], threshold: float) -> list[NDArray[np.float64]]:
    """Return for each joint its peaks (n, 4): x, y, unsmoothed value and a number over all joints."""
    smooth = np.zeros(heat.shape)
    for joint in range(heat.shape[2]):
        smooth[:, :, joint] = cv2.GaussianBlur(heat[:, :, joint], (5, 5), 3)
    peak_values = np.zeros(heat.shape)
    for joint in range(heat.shape[2]):
        peak_values[:, :, joint] = _suppress(smooth[:, :, joint])
    rows, columns, joints = np.nonzero(peak_values > threshold)
    order = joints.argsort(kind="stable")
    every = np.column_stack([columns[order], rows[order], heat[rows, columns, joints][order], np.arange(len(order))])
    return [every[joints[order] == joint] for joint in range(heat.shape[2])]


def _suppress(smooth: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep the values (H, W) that are positive and no smaller than their four neighbours, zeros beyond the edge."""
    left, right, above, below = (np.zeros(smooth.shape) for _ in range(4))
    left[:, 1:], right[:, :-1] = smooth[:, :-1], smooth[:, 1:]
    above[1:], below[:-1] = smooth[:-1], smooth[1:]
    largest = (smooth >= left, smooth >= right, smooth >= above, smooth >= below, smooth > 0)
    return np.logical_and.reduce(largest) * smooth


def connect(
    field: NDArray[np.float32], starts: NDArray[np.float64], ends: NDArray[np.float64], settings: DecoderSettings
) -> NDArray[np.float64]:
    """Return the connections (n, 3) of one limb: number of the start, number of the end, score."""
    if not (len(starts) and len(ends)):
        return np.zeros((0, 3))
    vector = ends[None, :, :2] - starts[:, None, :2]
    unit = vector / (np.linalg.norm(vector, axis=2, keepdims=True) + 1e-6)
    steps = np.linspace(0, 1, settings.limb_samples)
    samples = np.rint(starts[:, None, None, :2] + vector[:, :, None] * steps[:, None]).astype(int)
    along = (field[samples[..., 1], samples[..., 0]] * unit[:, :, None]).sum(axis=3)
    qualifies = along > settings.paf_threshold
    count = qualifies.sum(axis=2)
    score = (along * qualifies).sum(axis=2) / (count + 1e-6)
    accepted = np.argwhere((score > 0) & (count >= settings.limb_samples_needed))
    candidates = sorted(((score[i, j], i, j) for i, j in accepted), reverse=True)
    connections = np.zeros((0, 3))
    used: tuple[set[int], set[int]] = (set(), set())
    for value, i, j in candidates:
        if i not in used[0] and j not in used[1]:
            used[0].add(i)
            used[1].add(j)
            connections = np.vstack([connections, [starts[i, 3], ends[j, 3], value]])
    return connections


def assemble(
    connections: list[NDArray[np.float64]],
    peaks: list[NDArray[np.float64]],
    skeleton: Skeleton,
    settings: DecoderSettings,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Grow rows of K peak numbers (-1 missing), total score and count, limb by limb."""
    every = np.concatenate(peaks)
    joints = len(skeleton.joints)
    rows = np.zeros((0, joints + 2))
    for limb, (start, end) in enumerate(skeleton.limbs):
        for a, b, score in connections[limb]:
            hits = [number for number, row in enumerate(rows) if row[start] == a or row[end] == b]
            if len(hits) == 2 and not ((rows[hits[0], :joints] >= 0) & (rows[hits[1], :joints] >= 0)).any():
                rows[hits[0], :joints] = np.maximum(rows[hits[0], :joints], rows[hits[1], :joints])
                rows[hits[0], joints:] += rows[hits[1], joints:]
                rows[hits[0], joints] += score
                rows = np.delete(rows, hits[1], axis=0)
            elif len(hits) == 2 or (len(hits) == 1 and rows[hits[0], end] != b):
                rows[hits[0], end] = b
                rows[hits[0], joints:] += every[int(b), 2] + score, 1
            elif not hits and limb not in skeleton.redundant:
                row = np.full(joints + 2, -1.0)
                row[[start, end]] = a, b
                row[joints:] = every[int(a), 2] + every[int(b), 2] + score, 2
                rows = np.vstack([rows, row])
    rows = rows[(rows[:, -1] >= settings.min_joints) & (rows[:, -2] >= settings.min_score * rows[:, -1])]
    numbers = rows[:, :joints].astype(int)
    keypoints = np.where((numbers >= 0)[:, :, None], every[numbers, :2], np.nan)
    return keypoints, 1 - 1 / rows[:, -2]
