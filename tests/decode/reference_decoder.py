"""The slow clear twin of `limbnet.decode`: BodyPoseNet's own procedure on maps upsampled by the stride.

Every number comes from code that can be read beside the description: upsample bicubically, smooth with the 5x5 kernel,
take whole pixels that equal the maximum of their 3x3 neighbourhood, sample the upsampled field at ten rounded points,
match greedily, join and merge. One rule is mended, as in the product: of equal neighbouring pixels the first is a peak.
"""

from __future__ import annotations

from itertools import product

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

Peak = tuple[int, int, float]  # column, row of the upsampled map, unsmoothed value


def smoothing_kernel() -> NDArray[np.float64]:
    """The 5x5 kernel: square root of the outer product of normal probabilities over five bins, sum 1."""
    bins = np.diff(norm.cdf([-3.7, -2.22, -0.74, 0.74, 2.22, 3.7]))
    kernel = np.sqrt(np.outer(bins, bins))
    return kernel / kernel.sum()


def upsample(maps: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    """Upsample (C, h, w) bicubically."""
    h, w = maps.shape[1:]
    size = (w * factor, h * factor)
    return np.stack([cv2.resize(one, size, interpolation=cv2.INTER_CUBIC) for one in maps])


def find_peaks(heatmap: NDArray[np.float32], threshold: float) -> list[Peak]:
    """Peaks of one upsampled map (H, W), in raster order."""
    smooth = cv2.filter2D(heatmap, -1, smoothing_kernel(), borderType=cv2.BORDER_CONSTANT)
    biggest = cv2.dilate(smooth, np.ones((3, 3)))
    peaks: list[Peak] = []
    taken: set[tuple[int, int]] = set()
    for row, column in np.argwhere((smooth == biggest) & (heatmap > threshold)).tolist():
        if not any((row + dr, column + dc) in taken for dr, dc in product((-1, 0, 1), repeat=2)):
            peaks.append((column, row, float(heatmap[row, column])))
        taken.add((row, column))
    return peaks


def pair_score(field: NDArray[np.float32], start: Peak, end: Peak, settings: DecoderSettings) -> tuple[float, int]:
    """Mean of the qualifying dot products along start-end, and their number; field is (2, H, W)."""
    steps = np.arange(settings.limb_samples)[:, None] / (settings.limb_samples - 1)
    vector = np.subtract(end[:2], start[:2])
    x, y = np.rint(start[:2] + steps * vector).astype(int).T
    along = vector / (np.hypot(*vector) + 1e-6) @ field[:, y, x]
    along = along[along > settings.paf_threshold]
    return float(along.sum()) / (len(along) + 1e-6), len(along)


def connect(
    field: NDArray[np.float32], starts: list[Peak], ends: list[Peak], settings: DecoderSettings
) -> list[tuple[int, int, float]]:
    """Connections of one limb: accepted pairs by descending score, every start and end used once."""
    pairs = []
    for i, j in product(range(len(starts)), range(len(ends))):
        score, count = pair_score(field, starts[i], ends[j], settings)
        if score > 0 and count >= settings.limb_samples_needed:
            pairs.append((score, i, j))
    chosen: list[tuple[int, int, float]] = []
    for score, i, j in sorted(pairs, key=lambda pair: -pair[0]):
        if all(i != a and j != b for a, b, _ in chosen):
            chosen.append((i, j, score))
    return chosen


def assemble(
    connections: list[list[tuple[int, int, float]]], peaks: list[list[Peak]], skeleton: Skeleton
) -> list[dict[str, object]]:
    """Rows {parts: {joint: peak}, total, count}, grown limb by limb."""
    rows: list[dict] = []
    for limb, (start, end) in enumerate(skeleton.limbs):
        for a, b, score in connections[limb]:
            hits = [row for row in rows if row["parts"].get(start) == a or row["parts"].get(end) == b]
            merge = len(hits) == 2 and not (hits[0]["parts"].keys() & hits[1]["parts"].keys())
            if merge:
                hits[0]["parts"].update(hits[1]["parts"])
                hits[0]["count"] += hits[1]["count"]
                hits[0]["total"] += hits[1]["total"] + score
                rows = [row for row in rows if row is not hits[1]]
            elif len(hits) == 2 or (len(hits) == 1 and hits[0]["parts"].get(end) != b):
                hits[0]["parts"][end] = b
                hits[0]["count"] += 1
                hits[0]["total"] += peaks[end][b][2] + score
            elif not hits and limb not in skeleton.redundant:
                total = peaks[start][a][2] + peaks[end][b][2] + score
                rows.append({"parts": {start: a, end: b}, "total": total, "count": 2})
    return rows


def decode(
    heatmaps: NDArray[np.float32], pafs: NDArray[np.float32], skeleton: Skeleton, stride: int, settings: DecoderSettings
) -> People:
    """The people of one picture; a pixel of the upsampled map is a pixel of the network's input."""
    joints = len(skeleton.joints)
    peaks = [find_peaks(one, settings.heatmap_threshold) for one in upsample(heatmaps[:joints], stride)]
    fields = upsample(pafs, stride).reshape(len(skeleton.limbs), 2, *(side * stride for side in pafs.shape[1:]))
    connections = [
        connect(fields[limb], peaks[start], peaks[end], settings) for limb, (start, end) in enumerate(skeleton.limbs)
    ]
    rows = [
        row
        for row in assemble(connections, peaks, skeleton)
        if row["count"] >= settings.min_joints and row["total"] / row["count"] >= settings.min_score
    ]
    rows.sort(key=lambda row: -row["total"])
    keypoints = np.full((len(rows), joints, 2), np.nan, np.float32)
    joint_scores = np.zeros((len(rows), joints), np.float32)
    for number, row in enumerate(rows):
        for joint, peak in row["parts"].items():
            keypoints[number, joint] = peaks[joint][peak][:2]
            joint_scores[number, joint] = peaks[joint][peak][2]
    return People(keypoints, joint_scores, np.array([1 - 1 / row["total"] for row in rows], np.float32))
