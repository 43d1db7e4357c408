"""Random crowds for HigherHRNet and DEKR: joints of any skeleton, and the maps that a perfect network would give."""

from __future__ import annotations

import numpy as np


def random_people(rng, people, joints, size, missing=0.1, spread=0.06):
    """Return joints (P, K, 2) in pixels of an input of (height, width), NaN where missing; nobody lacks joint 0.

    People stand on a jittered grid, so that most of their joints can be told apart.
    """
    height, width = size
    columns = int(np.ceil(np.sqrt(people)))
    cells = rng.permutation(columns * columns)[:people]
    grid = np.stack([cells % columns, cells // columns], 1) + rng.uniform(0.35, 0.65, (people, 2))
    points = (grid / columns * (width, height))[:, None] + rng.normal(0, spread * min(size), (people, joints, 2))
    points = np.clip(points, 2, (width - 3, height - 3))
    lost = rng.random((people, joints)) < missing
    lost[:, 0] = False
    points[lost] = np.nan
    return points


def heatmaps_at(points, size, stride, sigma=2.0):
    """Draw (K, h, w) heatmaps at a stride: joint (x, y) of the input stands in cell (x / stride, y / stride)."""
    h, w = size[0] // stride, size[1] // stride
    x, y = np.arange(w), np.arange(h)[:, None]
    maps = np.zeros((points.shape[1], h, w))
    for person in points:
        for joint, (jx, jy) in enumerate(person):
            if not np.isnan(jx):
                cx, cy = (jx + 0.5) / stride - 0.5, (jy + 0.5) / stride - 0.5
                np.maximum(maps[joint], np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * sigma**2)), out=maps[joint])
    return maps.astype(np.float32)


def tags_at(points, size, stride, tags, radius=6):
    """Draw (K, h, w) tag maps: around joints the tag of the person whose joint is nearest, 0 elsewhere."""
    h, w = size[0] // stride, size[1] // stride
    x, y = np.arange(w), np.arange(h)[:, None]
    maps = np.zeros((points.shape[1], h, w), np.float32)
    nearest = np.full(maps.shape, radius**2, np.float32)
    for person, tag in zip(points, tags, strict=True):
        for joint, (jx, jy) in enumerate(person):
            if not np.isnan(jx):
                squares = (x - jx / stride) ** 2 + (y - jy / stride) ** 2
                maps[joint][squares < nearest[joint]] = tag
                np.minimum(nearest[joint], squares, out=nearest[joint])
    return maps


def tag_network_output(rng, people=30, joints=17, size=(512, 512), noise=0.01, missing=0.1):
    """Return joints (P, K, 2), and coarse (2K, h, w) and fine (K, 2h, 2w) maps with noise on all of them."""
    points = random_people(rng, people, joints, size, missing)
    tags = rng.permutation(people) * 2.0 + rng.normal(0, 0.05, people) + 3
    coarse = np.concatenate([heatmaps_at(points, size, 4, 1.0), tags_at(points, size, 4, tags)])
    fine = heatmaps_at(points, size, 2)
    coarse += rng.normal(0, noise, coarse.shape).astype(np.float32)
    fine += rng.normal(0, noise, fine.shape).astype(np.float32)
    return points, coarse, fine


def offset_network_output(rng, people=30, joints=17, size=(512, 512), noise=0.01, scale=1.0, points=None):
    """Return joints (P, K, 2) at scale 1, and heatmaps (K + 1, h, w) and offsets (2K, h, w) at stride 4.

    Cell c stands at 4 c, as DEKR has it. Cells near a person's centre hold the offsets to its joints, with errors that
    grow with the noise.
    """
    points = random_people(rng, people, joints, size, 0.0) if points is None else points
    at_scale = points * scale
    size = tuple(int(side * scale) for side in size)
    with_centre = np.concatenate([at_scale, at_scale.mean(axis=1, keepdims=True)], axis=1)
    heatmaps = heatmaps_at(with_centre + 1.5, size, 4)  # from corners of cells to DEKR's frame
    h, w = heatmaps.shape[1:]
    y, x = np.mgrid[:h, :w]
    offsets = np.zeros((joints, 2, h, w), np.float32)
    nearest = np.full((h, w), np.inf)
    for person, centre in zip(at_scale / 4, with_centre[:, -1] / 4, strict=True):
        squares = (x - centre[0]) ** 2 + (y - centre[1]) ** 2
        own = squares < nearest
        offsets[:, 0, own] = (x - person[:, 0, None, None])[:, own]
        offsets[:, 1, own] = (y - person[:, 1, None, None])[:, own]
        nearest[own] = squares[own]
    offsets += rng.normal(0, 20 * noise, offsets.shape).astype(np.float32)
    heatmaps += rng.normal(0, noise, heatmaps.shape).astype(np.float32)
    return points, heatmaps, offsets.reshape(2 * joints, h, w)
