"""DEKR's decoding: people from centre heatmaps and joint offsets (Geng et al. 2021, sections 3.1 and 4.1).

Every high cell of the centre heatmap proposes a pose: the cell less its offsets. Poses that lie close together are one
person, of whom the one with the best joint heatmaps stays. All points are in the frame of the network's input at
scale 1, where cell c of a map of a scale stands at c times the stride over the scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.decode.flip import unmirror
from limbnet.decode.peaks import descending

#: Window of the centres' suppression by mean side of the map in cells: above 300, above 200, otherwise.
POOLING = ((300, 7), (200, 5), (0, 3))


@dataclass(frozen=True)
class OffsetSettings:
    """Thresholds of DEKR's decoding; the defaults are its own for one scale.

    Attributes:
        centre_threshold: a centre's value must exceed it.
        max_people: centres looked at per scale, best first, and people kept.
        nms_threshold: two joints are close if nearer than this share of the pose's diagonal; with several scales the
            published tests take 0.15.
        nms_joints: people of whom more joints than this are close are one. Of 17; for other skeletons a like share.
        other_scales: factor on the centre values of other scales than 1.
    """

    centre_threshold: float = 0.01
    max_people: int = 30
    nms_threshold: float = 0.05
    nms_joints: int = 8
    other_scales: float = 0.9


@dataclass(frozen=True)
class OffsetView:
    """What the network said about one scale of a picture.

    Attributes:
        scale: the scale.
        heatmaps: (K + 1, h, w) float32, the centre last.
        poses: (2K, h, w) float32, x and y of every joint that a cell proposes, in cells.
    """

    scale: float
    heatmaps: NDArray[np.float32]
    poses: NDArray[np.float32]


@dataclass(frozen=True)
class Proposals:
    """N poses in the frame of the network's input at scale 1.

    Attributes:
        points: (N, K, 2) float32 x, y.
        centres: (N,) float32 values of their centres.
    """

    points: NDArray[np.float32]
    centres: NDArray[np.float32]


def offset_view(
    scale: float,
    plain: tuple[NDArray[np.float32], NDArray[np.float32]],
    mirrored: tuple[NDArray[np.float32], NDArray[np.float32]] | None,
    flip_index: NDArray[np.intp],
) -> OffsetView:
    """Turn offsets into poses, and average with those of the mirrored picture.

    Args:
        scale: the scale of the picture.
        plain: heatmaps (K + 1, h, w) and offsets (2K, h, w); a joint stands at the cell less its offset.
        mirrored: the same of the mirrored picture.
        flip_index: (K,) joint that takes the place of each one in a mirror.
    """
    heatmaps, poses = plain[0], _poses(plain[1])
    if mirrored is not None:
        joints, width = len(flip_index), heatmaps.shape[2]
        heatmaps = (heatmaps + unmirror(mirrored[0], np.append(flip_index, joints))) * np.float32(0.5)
        channels = (2 * flip_index[:, None] + (0, 1)).ravel()
        other = unmirror(_poses(mirrored[1]), channels)
        other[0::2] = width - 1 - other[0::2]
        poses = (poses + other) * np.float32(0.5)
    return OffsetView(scale, heatmaps, poses)


def _poses(offsets: NDArray[np.float32]) -> NDArray[np.float32]:
    h, w = offsets.shape[1:]
    poses = -offsets
    poses[0::2] += np.arange(w, dtype=np.float32)
    poses[1::2] += np.arange(h, dtype=np.float32)[:, None]
    return poses


def mean_heatmaps(views: Sequence[OffsetView], stride: int = 4) -> NDArray[np.float32]:
    """Return (K + 1, H, W) the mean of all views' heatmaps at the size of the network's input at scale 1."""
    total: NDArray[np.float32] | None = None
    for view in views:
        larger = enlarge_maps(view.heatmaps, stride / view.scale)
        total = larger if total is None else np.add(total, larger, out=total)
    if total is None:
        raise ValueError("there are no views")
    return total if len(views) == 1 else total / np.float32(len(views))


def enlarge_maps(maps: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Enlarge maps (C, h, w) so that cell c stands at pixel c times a whole factor; the last one is repeated."""
    times = int(factor)
    channels, h, w = maps.shape
    shift = np.array([[times, 0, 0], [0, times, 0]], np.float64)
    enlarged = np.empty((channels, h * times, w * times), np.float32)
    for source, target in zip(np.ascontiguousarray(maps), enlarged, strict=True):
        cv2.warpAffine(source, shift, (w * times, h * times), dst=target, borderMode=cv2.BORDER_REPLICATE)
    return enlarged


def find_centres(view: OffsetView, settings: OffsetSettings, stride: int = 4) -> Proposals:
    """Return the poses that the highest centres of one scale propose, best first."""
    centre = np.ascontiguousarray(view.heatmaps[-1])
    h, w = centre.shape
    window = next(window for side, window in POOLING if (h + w) / 2 > side)
    largest = cv2.dilate(centre, np.ones((window, window), np.uint8))
    places = np.flatnonzero((centre == largest) & (centre > settings.centre_threshold))
    values = centre.ravel().take(places)
    best = descending(values)[: settings.max_people]
    points = view.poses.reshape(-1, 2, h * w)[:, :, places[best]] * np.float32(stride / view.scale)
    return Proposals(np.ascontiguousarray(points.transpose(2, 0, 1)), values[best])


def merge_scales(scales: Sequence[float], proposals: Sequence[Proposals], settings: OffsetSettings) -> Proposals:
    """Put the proposals of all scales together; another scale's highest centre counts as 0.9 of that of scale 1."""
    own = [found.centres for scale, found in zip(scales, proposals, strict=True) if scale == 1]
    goal = max((float(centres.max()) for centres in own if len(centres)), default=1.0)
    centres = []
    for scale, found in zip(scales, proposals, strict=True):
        factor = 1.0 if scale == 1 or not len(found.centres) else goal / found.centres.max() * settings.other_scales
        centres.append(found.centres * np.float32(factor))
    return Proposals(np.concatenate([found.points for found in proposals]), np.concatenate(centres))


def values_at(views: Sequence[OffsetView], points: NDArray[np.float32], stride: int = 4) -> NDArray[np.float32]:
    """Return (N, K) the mean of all views' joint heatmaps at the pixels that points (N, K, 2) fall in.

    The maps count as enlarged to the network's input at scale 1, as `enlarge_maps` does it; only the values that are
    asked for are computed. Points outside the input are taken at its border.
    """
    total = np.zeros(points.shape[:2], np.float32)
    joint = np.arange(points.shape[1])
    for view in views:
        _, h, w = view.heatmaps.shape
        times = int(stride / view.scale)
        sides = np.array([w, h])
        place = np.clip(np.floor(points), 0, sides * times - 1) / np.float32(times)
        place = np.minimum(place, (sides - 1).astype(np.float32))  # the last cell is repeated
        cell = place.astype(np.intp)
        x_share, y_share = np.moveaxis(place - cell, -1, 0)
        left, top = np.moveaxis(cell, -1, 0)
        right, bottom = np.minimum(left + 1, w - 1), np.minimum(top + 1, h - 1)
        flat = view.heatmaps.reshape(-1)
        upper, lower = (joint * h + top) * w, (joint * h + bottom) * w
        above = flat.take(upper + left) * (1 - x_share) + flat.take(upper + right) * x_share
        below = flat.take(lower + left) * (1 - x_share) + flat.take(lower + right) * x_share
        total += above * (1 - y_share) + below * y_share
    return total / np.float32(max(len(views), 1))


def pose_nms(
    points: NDArray[np.float32], joint_heat: NDArray[np.float32], settings: OffsetSettings
) -> NDArray[np.intp]:
    """Return which poses stay: of each group of close ones, in order, the one of the highest mean heatmap value.

    Args:
        points: (N, K, 2) x, y.
        joint_heat: (N, K) heatmap values at the joints.
        settings: what is close, and how many people stay.
    """
    mean = joint_heat.sum(axis=1) / np.float32(joint_heat.shape[1])
    apart = points[:, None] - points
    reach = settings.nms_threshold * np.sqrt((np.ptp(points, axis=1) ** 2).sum(axis=1))
    close = (np.sqrt((apart**2).sum(axis=-1)) < reach[:, None, None]).sum(axis=2) > settings.nms_joints
    np.fill_diagonal(close, True)  # a pose without extent is still its own
    gone = np.zeros(len(points), bool)
    kept = []
    for first, group in enumerate(close):
        if gone[first]:
            continue
        members = np.flatnonzero(group)
        best = int(members[mean[members].argmax()])
        if not gone[best]:
            kept.append(best)
            gone |= group
    chosen = np.array(kept, np.intp)
    if len(chosen) > settings.max_people:
        chosen = chosen[np.argsort(-mean[chosen], kind="stable")[: settings.max_people]]
    return chosen
