"""Associative embedding: grouping joints by their tags (Newell et al. 2017; HigherHRNet, Cheng et al. 2020).

The peaks of every joint carry a tag. Joint by joint, peaks are assigned to the people whose mean tag they are closest
to, at the least total cost; those that fit nobody start people of their own. Joints that a person still lacks are
then looked for where the heatmap is high and the tag is the person's (`limbnet.decode.tag_refine`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.multiresolution import TagFields
from limbnet.decode.people import People
from limbnet.decode.screen import local_maxima
from limbnet.decode.tag_refine import fill_missing, quarter_steps

#: HigherHRNet's order of grouping for COCO's joints: from the head outwards, because heads are found best.
GROUPING_ORDER = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
    "left_hip", "right_hip", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_knee", "right_knee", "left_ankle", "right_ankle",
)  # fmt: skip


@dataclass(frozen=True)
class TagSettings:
    """Thresholds of tag grouping; the defaults are HigherHRNet's.

    Attributes:
        heatmap_threshold: a peak's value must exceed it.
        tag_threshold: a peak's tag must be closer than this to a person's mean tag.
        max_people: peaks looked at per joint, best first, and people that later joints are assigned to.
        reach: a peak is the largest value within so many pixels along both axes.
        adjust: move joints a quarter of a pixel towards the larger neighbour.
        refine: look for the joints that a person lacks.
    """

    heatmap_threshold: float = 0.1
    tag_threshold: float = 1.0
    max_people: int = 30
    reach: int = 2
    adjust: bool = True
    refine: bool = True


@dataclass(frozen=True)
class TagPeaks:
    """N peaks, ordered by joint and falling value.

    Attributes:
        joint: (N,) which joint.
        place: (N,) where in a map, row after row.
        values: (N,) float32 heatmap values.
        tags: (N, F) float32.
    """

    joint: NDArray[np.intp]
    place: NDArray[np.intp]
    values: NDArray[np.float32]
    tags: NDArray[np.float32]


def decode_tags(
    fields: TagFields, order: NDArray[np.intp] | None = None, settings: TagSettings | None = None
) -> People:
    """Find the people in aggregated heatmaps and tags.

    Args:
        fields: what `aggregate` made.
        order: (K,) in which order joints are grouped; as they come when None.
        settings: thresholds; HigherHRNet's when None.

    Returns:
        The people in pixels of the fields. A person's score is the mean of all its joints' values, those that were
        filled in not counted.
    """
    settings = settings or TagSettings()
    joints, _, width = fields.heatmaps.shape
    peaks = find_tag_peaks(fields, settings)
    groups = group_by_tags(peaks, np.arange(joints) if order is None else order, settings)
    there = groups >= 0
    chosen = groups[there]
    values = np.zeros(groups.shape, np.float32)
    values[there] = peaks.values[chosen]
    scores = values.mean(axis=1)
    points = np.full((*groups.shape, 2), np.nan)
    cells = np.stack(np.divmod(peaks.place[chosen], width)[::-1], 1)
    if settings.adjust:
        points[there] = cells + 0.5 + quarter_steps(fields.heatmaps, peaks.joint[chosen], cells)
    else:
        points[there] = cells
    if settings.refine:
        mean_tags = _mean_tags(groups, peaks.tags)
        fill_missing(points, values, fields, mean_tags)
    best = np.argsort(-scores, kind="stable")
    return People(points[best].astype(np.float32), values[best], scores[best])


def grouping_order(joints: tuple[str, ...]) -> NDArray[np.intp]:
    """Return (K,) the order in which joints are grouped: those that HigherHRNet names, then the others."""
    named = [joints.index(name) for name in GROUPING_ORDER if name in joints]
    return np.array(named + [index for index in range(len(joints)) if index not in named], np.intp)


def find_tag_peaks(fields: TagFields, settings: TagSettings) -> TagPeaks:
    """Return the best peaks of every heatmap with their tags."""
    joint, place, values = local_maxima(
        fields.heatmaps, settings.heatmap_threshold, settings.reach, settings.max_people
    )
    tags = fields.tags_at(joint, *np.divmod(place, fields.heatmaps.shape[2])).T
    return TagPeaks(joint, place, values, tags)


def group_by_tags(peaks: TagPeaks, order: NDArray[np.intp], settings: TagSettings) -> NDArray[np.intp]:
    """Assign peaks to people, joint by joint.

    The cost of a pair is the rounded distance of the tags times 100, less the peak's value. An assigned pair counts if
    the distance itself is below the threshold; every other peak starts a person. People are known by the first tag
    they were started with: a peak with exactly that tag which would start another one joins it instead, and from then
    on the person's mean tag begins anew.

    Returns:
        (P, K) number of the peak of each joint, -1 where there is none, in the order in which people were started.
    """
    from scipy.optimize import linear_sum_assignment  # heavy to import

    groups: list[NDArray[np.intp]] = []
    by_first_tag: dict[float, int] = {}
    sums = np.zeros((0, peaks.tags.shape[1] + 1))  # of the tags of each person, and how many
    first = np.searchsorted(peaks.joint, np.arange(len(order) + 1))
    for joint in order.tolist():
        rows = np.arange(first[joint], first[joint + 1])
        if not len(rows):
            continue
        assigned = np.full(len(rows), -1)
        if groups:
            known = sums[: settings.max_people]
            mean = known[:, :-1] / known[:, -1:]
            distance = np.sqrt(((peaks.tags[rows, None].astype(np.float64) - mean) ** 2).sum(axis=-1))
            cost = np.rint(distance) * 100 - peaks.values[rows, None]
            row, column = linear_sum_assignment(cost)
            close = distance[row, column] < settings.tag_threshold
            assigned[row[close]] = column[close]
        started = []
        for place, (peak, person) in enumerate(zip(rows.tolist(), assigned.tolist(), strict=True)):
            if person < 0:
                person = by_first_tag.setdefault(float(peaks.tags[peak, 0]), len(groups))  # noqa: PLW2901
                if person == len(groups):
                    groups.append(np.full(len(order), -1, np.intp))
                    sums = np.vstack([sums, np.zeros(sums.shape[1])])
                started.append((place, person))
                sums[person] = (*peaks.tags[peak], 1)
            else:
                sums[person] += (*peaks.tags[peak], 1)
            groups[person][joint] = peak
    return np.array(groups, np.intp).reshape(len(groups), len(order))


def _mean_tags(groups: NDArray[np.intp], tags: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (P, F) mean tag of the peaks that each person has, -1 being none."""
    there = groups >= 0
    padded = np.vstack([tags, np.zeros((1, tags.shape[1]), tags.dtype)])
    return np.asarray(padded[groups].sum(axis=1) / np.maximum(there.sum(axis=1), 1)[:, None], np.float32)
