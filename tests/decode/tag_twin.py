"""HigherHRNet's aggregation, grouping and refinement, step by step on whole maps, by torch and plain loops."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F


def resized(maps, size):
    return F.interpolate(torch.as_tensor(maps)[None], size, mode="bilinear", align_corners=False)[0].numpy()


def aggregated(views, size, flip_index):
    """Return heatmaps (K, H, W) and tags (F, K, H, W) of views (scale, [(coarse, fine), mirrored (coarse, fine)])."""
    joints, total, tags = len(flip_index), 0, []
    for scale, maps in views:
        mean = 0
        for number, (coarse, fine) in enumerate(maps):
            larger = resized(coarse, fine.shape[1:])
            heat, tag = (larger[:joints] + fine) / 2, larger[joints:]
            if number:
                heat, tag = heat[flip_index][:, :, ::-1].copy(), tag[flip_index][:, :, ::-1].copy()
            mean = mean + heat / len(maps)
            if scale == 1 or len(views) == 1:
                tags.append(resized(tag, size))
        total = total + resized(mean, size)
    return total / len(views), np.stack(tags)


def decoded(heatmaps, tags, order, threshold=0.1, tag_threshold=1.0, most=30, reach=2):
    """Return people as lists of (x, y, value) or None per joint, and their scores, in the order of their start."""
    joints = len(heatmaps)
    pooled = F.max_pool2d(torch.as_tensor(heatmaps)[None], 2 * reach + 1, 1, reach)[0].numpy()
    people, means = {}, {}
    for joint in order:
        peaks = np.argwhere((pooled[joint] == heatmaps[joint]) & (heatmaps[joint] > threshold))
        peaks = sorted(peaks.tolist(), key=lambda p: -heatmaps[joint, p[0], p[1]])[:most]
        if not peaks:
            continue
        found = [(x, y, heatmaps[joint, y, x]) for y, x in peaks]
        own = [tags[:, joint, y, x].astype(np.float64) for y, x in peaks]
        known = list(people)[:most]
        match = {}
        if known:
            distance = np.array([[np.linalg.norm(tag - np.mean(means[key], axis=0)) for key in known] for tag in own])
            cost = np.round(distance) * 100 - np.array([[peak[2]] for peak in found])
            if len(found) > len(known):
                cost = np.hstack([cost, np.full((len(found), len(found) - len(known)), 1e10)])
            for row, column in zip(*linear_sum_assignment(cost), strict=True):
                if column < len(known) and distance[row, column] < tag_threshold:
                    match[row] = known[column]
        for row, peak in enumerate(found):
            if row in match:
                people[match[row]][joint] = peak
                means[match[row]].append(own[row])
            else:
                key = float(own[row][0])
                people.setdefault(key, [None] * joints)[joint] = peak
                means[key] = [own[row]]
    scores = [sum(p[2] for p in person if p) / joints for person in people.values()]
    return [refined(person, heatmaps, tags) for person in people.values()], scores


def moved(heatmap, x, y):
    height, width = heatmap.shape
    right = heatmap[y, min(x + 1, width - 1)] > heatmap[y, max(x - 1, 0)]
    down = heatmap[min(y + 1, height - 1), x] > heatmap[max(y - 1, 0), x]
    return x + 0.5 + (0.25 if right else -0.25), y + 0.5 + (0.25 if down else -0.25)


def refined(person, heatmaps, tags):
    own = [tags[:, joint, peak[1], peak[0]] for joint, peak in enumerate(person) if peak]
    mean = np.mean(own, axis=0)
    result = []
    for joint, peak in enumerate(person):
        if peak:
            x, y, value = peak
        else:
            distance = np.sqrt(((tags[:, joint] - mean[:, None, None]) ** 2).sum(axis=0))
            y, x = np.unravel_index(np.argmax(heatmaps[joint] - np.round(distance)), heatmaps[joint].shape)
            value = heatmaps[joint, y, x]
        result.append((*moved(heatmaps[joint], x, y), value) if peak or value > 0 else None)
    return result
