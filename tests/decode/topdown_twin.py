"""Top-down decoding and suppression written slowly and plainly, one joint at a time."""

from __future__ import annotations

import math

import cv2
import numpy as np


def quarter(heatmap):
    """Return x, y, value of one heatmap (h, w)."""
    h, w = heatmap.shape
    y, x = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    value = heatmap[y, x]
    if value <= 0:
        return 0.0, 0.0, value
    dx = dy = 0.0
    if 1 < x < w - 1 and 1 < y < h - 1:
        dx = 0.25 * np.sign(heatmap[y, x + 1] - heatmap[y, x - 1])
        dy = 0.25 * np.sign(heatmap[y + 1, x] - heatmap[y - 1, x])
    return x + dx, y + dy, value


def dark(heatmap, kernel=11):
    """The same with a Gaussian over the whole map, the former maximum restored, and a Newton step on the logarithm."""
    h, w = heatmap.shape
    y, x = np.unravel_index(np.argmax(heatmap), heatmap.shape)
    value = heatmap[y, x]
    if value <= 0:
        return 0.0, 0.0, value
    border = kernel // 2
    padded = np.zeros((h + 2 * border, w + 2 * border))
    padded[border:-border, border:-border] = heatmap
    smooth = cv2.GaussianBlur(padded, (kernel, kernel), 0)[border:-border, border:-border]
    log = np.log(np.maximum(smooth * (value / smooth.max()), 1e-10))
    if not (1 < x < w - 2 and 1 < y < h - 2):
        return float(x), float(y), value
    gradient = np.array([log[y, x + 1] - log[y, x - 1], log[y + 1, x] - log[y - 1, x]]) / 2
    dxx = (log[y, x + 2] - 2 * log[y, x] + log[y, x - 2]) / 4
    dyy = (log[y + 2, x] - 2 * log[y, x] + log[y - 2, x]) / 4
    dxy = (log[y + 1, x + 1] - log[y - 1, x + 1] - log[y + 1, x - 1] + log[y - 1, x - 1]) / 4
    if dxx * dyy - dxy * dxy == 0:
        return float(x), float(y), value
    step = -np.linalg.inv([[dxx, dxy], [dxy, dyy]]) @ gradient
    return x + step[0], y + step[1], value


def three_point_crop(box, input_size, unbiased):
    """Return the 2x3 matrix from the picture to the input through three points: centre, above it, and the corner."""
    x, y, w, h = box
    height, width = input_size
    less = 1 if unbiased else 0
    centre = np.array([x + (w - less) / 2, y + (h - less) / 2])
    aspect = width / height
    if w > aspect * h:
        h = w / aspect
    else:
        w = h * aspect
    w *= 1.25
    half, half_input = (w - less) / 2, (width - less) / 2
    middle = np.array([half_input, (height - less) / 2])
    source = [centre, centre - np.array([0, half]), centre - half]
    target = [middle, middle - np.array([0, half_input]), middle - half_input]
    return cv2.getAffineTransform(np.float32(source), np.float32(target))


def oks(one, other, area_one, area_other, sigmas):
    """Object keypoint similarity of two poses (K, 2)."""
    total = 0.0
    for (xa, ya), (xb, yb), sigma in zip(one, other, sigmas, strict=True):
        squared = (xa - xb) ** 2 + (ya - yb) ** 2
        total += math.exp(-squared / (2 * ((area_one + area_other) / 2) * (2 * sigma) ** 2))
    return total / len(sigmas)


def greedy_nms(poses, scores, areas, sigmas, threshold):
    """Keep the best, strike out what is too similar to it, go on."""
    left = sorted(range(len(scores)), key=lambda n: -scores[n])
    kept = []
    while left:
        best = left.pop(0)
        kept.append(best)
        left = [n for n in left if oks(poses[best], poses[n], areas[best], areas[n], sigmas) <= threshold]
    return kept
