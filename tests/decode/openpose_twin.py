"""OpenPose's decoding on whole enlarged maps, with plain loops over pixels, pairs and people."""

from __future__ import annotations

import math

import cv2
import numpy as np


def enlarged(maps, size):
    return np.stack([cv2.resize(one, size[::-1], interpolation=cv2.INTER_CUBIC) for one in maps])


def peaks_of(heatmap, offset, threshold=0.05, most=127):
    """Return [(x, y, value)] in the order of rows."""
    height, width = heatmap.shape
    found = []
    for y in range(height):
        for x in range(width):
            value = heatmap[y, x]
            inner = 1 < x < width - 2 and 1 < y < height - 2
            ring = x in (1, width - 2) or y in (1, height - 2)
            if value <= threshold or not (inner or ring):
                continue
            good = True
            for b in (-1, 0, 1):
                for a in (-1, 0, 1):
                    if a == b == 0:
                        continue
                    inside = 0 <= x + a < width and 0 <= y + b < height
                    other = heatmap[y + b, x + a] if inside else threshold
                    good = good and (value > other if inner else value >= other)
            if good:
                xs = ys = total = 0.0
                for v in range(max(y - 3, 0), min(y + 4, height)):
                    for u in range(max(x - 3, 0), min(x + 4, width)):
                        weight = max(float(heatmap[v, u]), 0)
                        xs, ys, total = xs + weight * u, ys + weight * v, total + weight
                found.append((xs / total + offset, ys / total + offset, float(value)))
    return found[:most]


def pair_score(a, b, field_x, field_y):
    """Return the score of a pair of peaks, 0 if they do not connect."""
    height, width = field_x.shape
    dx, dy = b[0] - a[0], b[1] - a[1]
    length = math.hypot(dx, dy)
    if length <= 1e-6:
        return 0.0
    samples = max(5, min(25, int(math.sqrt(5 * max(abs(dx), abs(dy))) + 0.5)))
    counted = []
    for n in range(samples):
        x = min(max(int(a[0] + n * dx / samples + 0.5), 0), width - 1)
        y = min(max(int(a[1] + n * dy / samples + 0.5), 0), height - 1)
        along = (dx * field_x[y, x] + dy * field_y[y, x]) / length
        if along > 0.05:
            counted.append(along)
    if len(counted) / samples > 0.95:
        return sum(counted) / len(counted)
    return 0.05 + 1e-6 if length < math.sqrt(width * height) / 150 else 0.0


def decoded(heatmaps, pafs, limbs, feet, size, offset=0.0):
    """Return people: a list of (x, y, value) or None per part, and their scores."""
    parts = len(heatmaps) - 1
    candidates = [peaks_of(one, offset) for one in enlarged(heatmaps[:-1], size)]
    fields = enlarged(pafs, size)
    pairs = []
    for limb, (start, end) in enumerate(limbs):
        for i, a in enumerate(candidates[start]):
            for j, b in enumerate(candidates[end]):
                score = pair_score(a, b, fields[2 * limb], fields[2 * limb + 1])
                if score > 1e-6:
                    pairs.append((score + 0.1 * a[2] + 0.1 * b[2], score, limb, i, j))
    people = []  # [{part: peak}, score]
    for _, score, limb, i, j in sorted(pairs, reverse=True):
        start, end = limbs[limb]
        one = next((p for p in people if p[0].get(start) == i), None)
        other = next((p for p in people if p[0].get(end) == j), None)
        if one is None and other is None:
            people.append([{start: i, end: j}, candidates[start][i][2] + candidates[end][j][2] + score])
        elif one is None:
            if start not in other[0]:
                other[0][start] = i
                other[1] += candidates[start][i][2] + score
        elif other is None:
            if end not in one[0]:
                one[0][end] = j
                one[1] += candidates[end][j][2] + score
        elif one is other:
            one[1] += score
        elif not set(one[0]) & set(other[0]):
            first, second = sorted((one, other), key=people.index)
            first[0].update(second[0])
            first[1] += second[1] + score
            people.remove(second)

    def enough(person, count):
        return count >= 3 and person[1] / count >= 0.4

    def without_feet(person):
        count = len([part for part in person[0] if part not in feet])
        return 0 if len(person[0]) > count and count <= 4 else count

    kept = [p for p in people if enough(p, without_feet(p))] or [p for p in people if enough(p, len(p[0]))]
    found = [
        [candidates[part][person[0][part]] if part in person[0] else None for part in range(parts)] for person in kept
    ]
    return found, [person[1] / (parts + len(limbs)) for person in kept]
