"""DEKR from views to people: proposals of all scales, suppression, scores (Geng et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.matching import MatchSettings, match_to_heatmaps
from limbnet.decode.offsets import (
    OffsetSettings,
    OffsetView,
    find_centres,
    mean_heatmaps,
    merge_scales,
    pose_nms,
    values_at,
)
from limbnet.decode.people import People
from limbnet.skeleton import Skeleton

#: The limbs whose mean length measures a pose for the rescoring network: the sides of the trunk.
TRUNK_SIDES = (("left_shoulder", "left_hip"), ("right_shoulder", "right_hip"))


def decode_offsets(
    views: Sequence[OffsetView],
    settings: OffsetSettings | None = None,
    stride: int = 4,
    match: MatchSettings | None = None,
) -> People:
    """Find the people in the views of one picture.

    Args:
        views: one for each scale.
        settings: thresholds; DEKR's for one scale when None.
        stride: pixels of the network's input a cell.
        match: how joints are matched to the heatmaps; they are not when None, as in the published settings.

    Returns:
        The people, in pixels of the network's input at scale 1, best first. A joint's score is the centre's value times
        the mean heatmap at the joint, a person's score the mean of them.

    Raises:
        ValueError: there are several scales and none is 1, whose centres the others are measured by.
    """
    settings = settings or OffsetSettings()
    scales = [view.scale for view in views]
    if 1 not in scales:
        raise ValueError("the centres of other scales are measured by those of scale 1, which is not among the scales")
    found = merge_scales(scales, [find_centres(view, settings, stride) for view in views], settings)
    heat = values_at(views, found.points, stride)
    kept = pose_nms(found.points, heat, settings)
    joint_scores = found.centres[kept, None] * heat[kept]
    scores = joint_scores.mean(axis=1) if len(kept) else np.zeros(0, np.float32)
    best = np.argsort(-scores, kind="stable")
    points, joint_scores = found.points[kept][best], joint_scores[best]
    if match is not None:
        points = match_to_heatmaps(points, joint_scores, mean_heatmaps(views, stride)[:-1], match)
    return People(points, joint_scores, scores[best])


def rescoring_features(
    points: NDArray[np.floating], joint_scores: NDArray[np.floating], skeleton: Skeleton
) -> NDArray[np.float32]:
    """Return (P, 3L + K) what DEKR's rescoring network reads of poses.

    L limb vectors (x, y), from end to start, L lengths, both in units of the mean length of the trunk's sides (at least
    one pixel), then the K joint scores.

    Args:
        points: (P, K, 2) in pixels of the original picture.
        joint_scores: (P, K).
        skeleton: names joints and limbs; `skeleton.COCO_17` for the published network.

    Raises:
        ValueError: the skeleton lacks a side of the trunk.
    """
    sides = [tuple(skeleton.joints[joint] for joint in limb) for limb in skeleton.limbs]
    try:
        trunk = [sides.index(limb) for limb in TRUNK_SIDES]
    except ValueError:
        raise ValueError(f"the skeleton '{skeleton.name}' lacks a limb from shoulder to hip") from None
    vectors = points[:, skeleton.limb_starts] - points[:, skeleton.limb_ends]
    lengths = np.sqrt((vectors**2).sum(axis=-1))
    unit = np.maximum(lengths[:, trunk].mean(axis=1), 1.0)[:, None]
    flat = vectors.reshape(len(points), 2 * len(sides)) / unit
    return np.concatenate([flat, lengths / unit, joint_scores], axis=1).astype(np.float32)
