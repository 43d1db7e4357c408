"""What a perfect network would say about a picture: maps drawn from the ground truth, in the shapes of its answer.

A network with initial weights finds nothing, and decoding nothing takes no time. So the decoders of such rows see these
maps in the place of the network's, and the network's own are thrown away. One function for each kind of head.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.benchmark.study_data import placed
from limbnet.data.targets import make_targets
from limbnet.decode.shortside import ShortSideFit
from limbnet.runtime.zoo.bottomup import OffsetEstimator, PartEstimator, PictureInputs, TagEstimator
from limbnet.runtime.zoo.load import ZooEstimator
from limbnet.runtime.zoo.network import Tensors
from limbnet.runtime.zoo.topdown import CropInputs, TopDownEstimator
from limbnet.skeleton import Skeleton

#: Standard deviation of the joints' Gaussians in cells.
SIGMA = 2.0

#: Gaussians end so many standard deviations from their middle.
REACH = 4

#: Tags and offsets are drawn so many cells around joints and centres.
RADIUS = 6

#: Joints that are not labelled stand at least so many pixels of the picture from the person's middle.
LEAST_RADIUS = 16.0

#: Between the tags of two people.
TAG_STEP = 2.0

#: Of OpenPose's targets: in pixels of the input, and in cells.
PART_SIGMA, PAF_DISTANCE = 7.0, 1.0


def render_answer(
    estimator: ZooEstimator, inputs: Any, answer: list[Tensors], joints: NDArray[np.float64]
) -> list[Tensors]:
    """Return what the estimator's `run` would return if its network were perfect.

    Args:
        estimator: whose `decode` will read it.
        inputs: what its `prepare` returned.
        answer: what its `run` returned; only its shapes count.
        joints: (P, K, 3) in pixels of the picture, with visibility codes.
    """
    if isinstance(estimator, TopDownEstimator):
        return _crops(estimator, inputs, answer, placed(joints))
    if isinstance(estimator, TagEstimator | OffsetEstimator):
        return _scales(estimator, inputs, answer, joints)
    return _parts(estimator, inputs, answer, joints)


def expected_answer(estimator: ZooEstimator, inputs: Any, tensors: Tensors, height: int) -> list[Tensors]:
    """Return zeros in the shapes of what the estimator's `run` would return.

    Args:
        estimator: runs the network.
        inputs: what its `prepare` returned.
        tensors: what the network said about one image, a batch of one.
        height: of that image.
    """
    if isinstance(estimator, TopDownEstimator):
        count, views = len(inputs.crops), 1 + estimator.flip
        return [tuple(np.zeros((count, *tensor.shape[1:]), np.float32) for tensor in tensors)] * views
    strides = [height // tensor.shape[2] for tensor in tensors]
    return [
        tuple(
            np.zeros((1, tensor.shape[1], image.shape[0] // stride, image.shape[1] // stride), np.float32)
            for tensor, stride in zip(tensors, strides, strict=True)
        )
        for image in inputs.images
    ]


def _crops(
    estimator: TopDownEstimator, inputs: CropInputs, answer: list[Tensors], joints: NDArray[np.float64]
) -> list[Tensors]:
    """Draw in every crop the joints of the person whose middle is nearest to it."""
    if not answer or not len(joints):
        return answer
    shape = answer[0][0].shape
    middles = np.nanmean(joints, axis=1)
    nearest = np.linalg.norm(inputs.crops.centres[:, None] - middles, axis=-1).argmin(axis=1)
    corners = np.broadcast_to(np.array([[0.0, 0.0], [1.0, 1.0]]), (shape[0], 2, 2))
    origin, one = np.moveaxis(inputs.crops.to_picture(corners, shape[2:]), 1, 0)  # the way there is linear
    cells = (joints[nearest] - origin[:, None]) / (one - origin)[:, None]
    views = [cells]
    if estimator.flip:
        mirrored = cells[:, estimator.skeleton.flip_index]
        mirrored[..., 0] = _mirrored_column(estimator, shape[3]) - mirrored[..., 0]
        views.append(mirrored)
    bells = [(_bells(view[..., 1], shape[2]), _bells(view[..., 0], shape[3])) for view in views]
    return [((down[..., :, None] * across[..., None, :]).astype(np.float32),) for down, across in bells]


def _mirrored_column(estimator: TopDownEstimator, width: int) -> float:
    """Return where column 0 of a crop's map stands in the map of the mirrored crop.

    Unbiased crops mirror cell by cell. In HRNet's, cell c is pixel c times the stride, so the last pixel lies beyond
    the last cell, and the whole mirrored map too far left: what the flip test's shift is for.
    """
    return width - 1.0 if estimator.rule.unbiased else (estimator.input_size[1] - 1) * width / estimator.input_size[1]


def _bells(places: NDArray[np.float64], side: int) -> NDArray[np.float64]:
    """Return (..., side) Gaussians around places (...), zero where there is no place."""
    return np.exp(-((np.arange(side) - np.nan_to_num(places, nan=-1e6)[..., None]) ** 2) / (2 * SIGMA**2))


def _scales(
    estimator: TagEstimator | OffsetEstimator,
    inputs: PictureInputs[ShortSideFit],
    answer: list[Tensors],
    joints: NDArray[np.float64],
) -> list[Tensors]:
    """Draw every scale, and what a mirror makes of it where the estimator flips."""
    draw, mirror = (_tags, _mirrored_tags) if isinstance(estimator, TagEstimator) else (_offsets, _mirrored_offsets)
    points, drawn = placed(joints), []
    if isinstance(estimator, OffsetEstimator):
        points = _completed(points)
    views = 1 + estimator.flip
    for number, scale in enumerate(estimator.scales):
        matrix = inputs.fit.matrix(scale)
        sizes = [tensor.shape[2:] for tensor in answer[number * views]]
        plain = draw(points @ matrix[:, :2].T + matrix[:, 2], sizes)
        drawn.append(tuple(maps[None] for maps in plain))
        if estimator.flip:
            drawn.append(tuple(maps[None] for maps in mirror(plain, estimator.skeleton)))
    return drawn


def _tags(points: NDArray[np.float64], sizes: list[tuple[int, int]]) -> Tensors:
    """Return coarse (2K, h, w) heatmaps and tags, and fine (K, 2h, 2w) heatmaps of joints (P, K, 2) of the input."""
    coarse, fine = ((points + 0.5) / stride - 0.5 for stride in (4, 2))
    tags = np.zeros((points.shape[1], *sizes[0]), np.float32)
    for person, cells in enumerate(coarse):
        for joint, place in enumerate(cells):
            if (window := _window(place, RADIUS, sizes[0])) is not None:
                tags[joint][window] = TAG_STEP * (person + 1)
    return np.concatenate([_heatmaps(coarse, sizes[0]), tags]), _heatmaps(fine, sizes[1])


def _mirrored_tags(plain: Tensors, skeleton: Skeleton) -> Tensors:
    coarse, fine = plain
    index = skeleton.flip_index
    both = np.append(index, index + len(index))
    return np.ascontiguousarray(coarse[both, :, ::-1]), np.ascontiguousarray(fine[index, :, ::-1])


def _completed(points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give joints without a place in (P, K, 2) one on a circle around the person, in pixels of the picture.

    DEKR proposes whole poses, and its suppression measures them by their extent: a person of one labelled joint alone
    would have none, and every scale would find it anew.
    """
    if not len(points):
        return points
    angles = np.arange(points.shape[1]) * (2 * np.pi / points.shape[1])
    extent = (np.nanmax(points, axis=1) - np.nanmin(points, axis=1)).max(axis=1)
    radius = np.maximum(extent / 2, LEAST_RADIUS)[:, None, None]
    circle = np.nanmean(points, axis=1, keepdims=True) + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return np.where(np.isnan(points), circle, points)


def _offsets(points: NDArray[np.float64], sizes: list[tuple[int, int]]) -> Tensors:
    """Return heatmaps (K + 1, h, w), the centre last, and offsets (2K, h, w) of joints (P, K, 2) of the input."""
    height, width = sizes[0]
    cells = points / 4
    centres = cells.mean(axis=1, keepdims=True)
    offsets = np.zeros((points.shape[1], 2, height, width), np.float32)
    nearest = np.full((height, width), np.inf)
    rows, columns = np.mgrid[:height, :width]
    for person, (centre,) in zip(cells, centres, strict=True):
        if (window := _window(centre, RADIUS, sizes[0])) is None:
            continue
        away = np.hypot(columns[window] - centre[0], rows[window] - centre[1])
        own = away < nearest[window]  # a cell between two people belongs to the nearer one
        nearest[window][own] = away[own]
        for axis, places in enumerate((columns, rows)):
            part = offsets[:, axis][(slice(None), *window)]
            part[:, own] = (places[window] - person[:, axis, None, None])[:, own]
    heatmaps = _heatmaps(np.concatenate([cells, centres], axis=1), sizes[0])
    return heatmaps, offsets.reshape(-1, height, width)


def _mirrored_offsets(plain: Tensors, skeleton: Skeleton) -> Tensors:
    heatmaps, offsets = plain
    index = skeleton.flip_index
    pairs = offsets.reshape(len(index), 2, *offsets.shape[1:])[index, :, :, ::-1]
    signs = np.array([-1, 1], np.float32)[:, None, None]
    centred = np.append(index, len(index))
    return np.ascontiguousarray(heatmaps[centred, :, ::-1]), (pairs * signs).reshape(offsets.shape)


def _parts(estimator: PartEstimator, inputs: Any, answer: list[Tensors], joints: NDArray[np.float64]) -> list[Tensors]:
    """Draw OpenPose's maps, the part affinity fields in the network's order of channels."""
    scaled = joints * (inputs.fit.factor, inputs.fit.factor, 1)
    size = answer[0][0].shape[2:]
    stride = inputs.fit.size[0] // size[0]
    heatmaps, fields = make_targets(
        scaled, estimator.skeleton, size, stride, sigma=PART_SIGMA, paf_distance=PAF_DISTANCE
    )
    pafs = np.zeros_like(fields)
    pafs[estimator.paf_order] = fields
    return [(heatmaps[None], pafs[None])]


def _heatmaps(cells: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (K, h, w) the highest of all people's Gaussians around joints (P, K, 2) in cells."""
    maps = np.zeros((cells.shape[1], *size), np.float32)
    rows, columns = np.arange(size[0]), np.arange(size[1])
    for person in cells:
        for joint, place in enumerate(person):
            window = _window(place, round(REACH * SIGMA), size)
            if window is None:
                continue
            down, across = (
                np.exp(-((axis[part] - middle) ** 2) / (2 * SIGMA**2))
                for axis, part, middle in zip((rows, columns), window, place[::-1], strict=True)
            )
            np.maximum(maps[joint][window], np.outer(down, across), out=maps[joint][window])
    return maps


def _window(place: NDArray[np.float64], reach: int, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """Return rows and columns around a place x, y that lie in maps of (h, w); None if none do or there is no place."""
    if np.isnan(place).any():
        return None
    x, y = (round(float(value)) for value in place)
    low, high = (max(y - reach, 0), max(x - reach, 0)), (min(y + reach + 1, size[0]), min(x + reach + 1, size[1]))
    if low[0] >= high[0] or low[1] >= high[1]:
        return None
    return slice(low[0], high[0]), slice(low[1], high[1])
