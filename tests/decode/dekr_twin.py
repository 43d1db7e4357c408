"""DEKR's decoding in torch and plain loops, whole maps and all."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F


def enlarged(maps, factor):
    """Interpolate so that the last cell stands at the last pixel but factor - 1, and repeat the edge."""
    h, w = maps.shape[1:]
    inner = F.interpolate(
        torch.tensor(maps)[None],
        (h * factor - factor + 1, w * factor - factor + 1),
        mode="bilinear",
        align_corners=True,
    )
    return F.pad(inner, (0, factor - 1, 0, factor - 1), mode="replicate")[0].numpy()


def posed(offsets, flip_index=None):
    """Return (h, w, K, 2) poses of offsets (2K, h, w), those of a mirrored picture brought back."""
    _, h, w = offsets.shape
    poses = np.zeros((h, w, len(offsets) // 2, 2), np.float32)
    for y in range(h):
        for x in range(w):
            for joint in range(poses.shape[2]):
                poses[y, x, joint] = x - offsets[2 * joint, y, x], y - offsets[2 * joint + 1, y, x]
    if flip_index is not None:
        poses = poses[:, ::-1, flip_index].copy()
        poses[..., 0] = w - poses[..., 0] - 1
    return poses


def centres(heatmap, most=30, threshold=0.01):
    """Return (x, y, value) of the best local maxima."""
    h, w = heatmap.shape
    mean = (h + w) / 2
    window = 7 if mean > 300 else 5 if mean > 200 else 3
    pooled = F.max_pool2d(torch.tensor(heatmap)[None, None], window, 1, window // 2)[0, 0].numpy()
    found = [(x, y, heatmap[y, x]) for y, x in np.argwhere((pooled == heatmap) & (heatmap > threshold)).tolist()]
    return sorted(found, key=lambda one: -one[2])[:most]


def decoded(views, nms=0.05, nms_joints=8, most=30, decrease=0.9):
    """views: (scale, heatmaps (K + 1, h, w), poses (h, w, K, 2)). Return list of (points, joint scores, score)."""
    total = sum(enlarged(heatmaps, int(4 / scale)) for scale, heatmaps, _ in views) / len(views)
    candidates = []
    best = max([c[2] for scale, maps, _ in views if scale == 1 for c in centres(maps[-1], most)], default=1)
    for scale, heatmaps, poses in views:
        own = centres(heatmaps[-1], most)
        for x, y, value in own:
            score = value if scale == 1 else value / own[0][2] * best * decrease
            candidates.append((poses[y, x] * (4 / scale), score))
    heats = []
    for points, _ in candidates:
        heat = []
        for joint, (x, y) in enumerate(points):
            row = min(max(math.floor(y), 0), total.shape[1] - 1)
            column = min(max(math.floor(x), 0), total.shape[2] - 1)
            heat.append(total[joint, row, column])
        heats.append(heat)
    ignored, kept = set(), []
    for first, (points, _) in enumerate(candidates):
        if first in ignored:
            continue
        reach = nms * math.hypot(*(points.max(axis=0) - points.min(axis=0)))
        group = []
        for second, (other, _) in enumerate(candidates):
            close = sum(math.hypot(*(a - b)) < reach for a, b in zip(points, other, strict=True))
            if close > nms_joints or second == first:
                group.append(second)
        winner = max(group, key=lambda n: np.mean(heats[n]))
        if winner in ignored:
            continue
        kept.append(winner)
        ignored |= set(group)
    if len(kept) > most:
        kept = sorted(kept, key=lambda n: -np.mean(heats[n]))[:most]
    people = []
    for number in kept:
        points, score = candidates[number]
        joint_scores = [score * heat for heat in heats[number]]
        people.append((points, joint_scores, float(np.mean(joint_scores))))
    return people
