"""Label weights: where a joint's own maps must not, or hardly, count, because nobody knows where the joint is.

A crowd or an unlabelled person is hidden from the loss altogether (`masks`). Here a labelled person lacks single
joints: the network may find them, and is not punished for it. Labels that are less sure count less.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.data.targets import LAST_USED_CODE
from limbnet.skeleton import Skeleton

#: A person reaches beyond the box of the used joints by this share of the box's longer side.
MARGIN = 0.3

#: A joint's label holds this many sigmas around it.
REACH = 2.5


def label_weights(
    joints: NDArray[np.float64],
    confidence: NDArray[np.float64] | None,
    skeleton: Skeleton,
    map_size: tuple[int, int],
    stride: int,
    *,
    sigma: float,
    paf_distance: float,
    hidden: frozenset[int],
) -> NDArray[np.float32]:
    """Return the factor on the error of every map and cell, (K + 1 + 2 L, h, w) float32: heatmaps, then fields.

    Around every person, a joint whose code is in `hidden` has weight 0 in its heatmap and in the fields of its limbs,
    and so has the background's map. Around every used joint, and along every limb between used ones, the weight is the
    root of its confidence (the loss squares it); where labels overlap, the surest one holds.

    Args:
        joints: (P, K, 3) x and y in pixels of the network's input, and the visibility code.
        confidence: (P, K), 0 to 1, or None where every label is sure. A limb is as sure as its less sure end.
        skeleton: its K joints and L limbs.
        map_size: (h, w) of the maps.
        stride: pixels of the input per map cell.
        sigma: of the Gaussians, in pixels of the input.
        paf_distance: half the width of a limb's field, in map cells.
        hidden: visibility codes of joints that nobody knows.
    """
    count = len(skeleton.joints)
    weights = np.ones((count + 1 + 2 * len(skeleton.limbs), *map_size), np.float32)
    fields = weights[count + 1 :].reshape(len(skeleton.limbs), 2, *map_size)
    used = joints[..., 2] <= LAST_USED_CODE
    unknown = np.isin(joints[..., 2], list(hidden))
    starts, ends = skeleton.limb_starts, skeleton.limb_ends
    sure = np.ones(used.shape) if confidence is None else confidence
    labels: list[tuple[float, NDArray[np.float32], tuple[slice, slice]]] = []
    for person in np.flatnonzero(used.any(axis=1)):
        points = joints[person, :, :2]
        known = points[used[person]]
        low, high = known.min(axis=0), known.max(axis=0)
        margin = MARGIN * (high - low).max() + REACH * sigma
        (whole,) = _cells((low - margin)[None], (high + margin)[None], map_size, stride)
        missing = np.flatnonzero(unknown[person])
        weights[missing, *whole] = 0
        if len(missing):
            weights[count, *whole] = 0
        fields[unknown[person, starts] | unknown[person, ends], :, *whole] = 0
        there = np.flatnonzero(used[person])
        regions = _cells(points[there] - REACH * sigma, points[there] + REACH * sigma, map_size, stride)
        for joint, region in zip(there.tolist(), regions, strict=True):
            labels.append((sure[person, joint], weights[joint], region))
        drawn = np.flatnonzero(used[person, starts] & used[person, ends])
        both = points[np.stack([starts[drawn], ends[drawn]])]  # (2, N, 2)
        reach = stride * paf_distance + 0.5  # the field's cells are rounded, half a pixel outwards at most
        regions = _cells(both.min(axis=0) - reach, both.max(axis=0) + reach, map_size, stride)
        for limb, region in zip(drawn.tolist(), regions, strict=True):
            labels.append((min(sure[person, starts[limb]], sure[person, ends[limb]]), fields[limb], region))
    for certainty, where, region in sorted(labels, key=lambda label: label[0]):
        where[..., *region] = np.sqrt(certainty)
    return weights


def _cells(
    low: NDArray[np.float64], high: NDArray[np.float64], map_size: tuple[int, int], stride: int
) -> list[tuple[slice, slice]]:
    """Return (rows, columns) of the cells whose centres lie between N pairs of corners (N, 2), x and y."""
    limits = (map_size[1], map_size[0])
    first = np.clip(np.ceil((low - (stride - 1) / 2) / stride), 0, limits).astype(int).tolist()
    last = np.clip(np.floor((high - (stride - 1) / 2) / stride) + 1, 0, limits).astype(int).tolist()
    return [(slice(y0, y1), slice(x0, x1)) for (x0, y0), (x1, y1) in zip(first, last, strict=True)]
