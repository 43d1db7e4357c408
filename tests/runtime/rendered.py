"""Answers of a perfect network, rendered from the ground truth.

Each is drawn in the frame that its system's decoder reads, so that decoding it gives the labelled joints again.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.data.targets import make_targets
from limbnet.runtime.zoo.bottomup import OffsetEstimator, PartEstimator, PictureInputs, TagEstimator
from limbnet.runtime.zoo.load import ZooEstimator
from limbnet.runtime.zoo.network import Tensors
from limbnet.runtime.zoo.topdown import CropInputs, TopDownEstimator
from limbnet.skeleton import MIDPOINT_JOINTS, Skeleton

#: Deviation of the Gaussians of top-down networks, HigherHRNet and DEKR, in cells, as they are trained.
SIGMA = 2.0

#: Deviation and half the width of a limb of OpenPose's maps: pixels of the input, and cells.
PART_SIGMA, PAF_DISTANCE = 7.0, 1.0

#: HigherHRNet's maps have two strides, all others but OpenPose's this one.
STRIDE = 4

#: Cells around a joint that carry the person's tag; tags of two people differ by more than the decoder's threshold.
TAG_REACH, TAG_STEP = 6, 2.0

NOT_THERE = 5.0  # a visibility code that draws nothing


def joints_by_name(joints: NDArray[np.float64], names: Sequence[str], skeleton: Skeleton) -> NDArray[np.float64]:
    """Return (P, K, 2) the skeleton's joints of a dataset's (P, J, 2), NaN where unknown; necks are midpoints."""
    found = np.full((len(joints), len(skeleton.joints), 2), np.nan)
    for number, name in enumerate(skeleton.joints):
        ends = (name,) if name in names else MIDPOINT_JOINTS.get(name, ())
        if ends and set(ends) <= set(names):
            found[:, number] = joints[:, [list(names).index(end) for end in ends]].mean(axis=1)
    return found


@singledispatch
def rendered_answer(estimator: ZooEstimator, inputs: Any, joints: NDArray[np.float64]) -> list[Tensors]:
    """Return what `estimator.run(inputs)` would give if the network were perfect.

    Args:
        estimator: any of the zoo's.
        inputs: what its `prepare` returned.
        joints: (P, K, 2) x, y in pixels of the picture, in the order of the estimator's skeleton; NaN where missing.
    """
    raise TypeError(f"no answers of {len(joints)} people are rendered for {type(estimator).__name__} of {type(inputs)}")


@rendered_answer.register
def _(estimator: TopDownEstimator, inputs: CropInputs, joints: NDArray[np.float64]) -> list[Tensors]:
    """Draw into each crop the person whose joints' middle is nearest to the crop's."""
    if not len(inputs.crops):
        return []
    size = estimator.input_size[0] // STRIDE, estimator.input_size[1] // STRIDE
    maps = np.zeros((len(inputs.crops), len(estimator.skeleton.joints), *size), np.float32)
    seen = joints[np.isfinite(joints).any(axis=(1, 2))]
    if len(seen):
        apart = np.linalg.norm(np.nanmean(seen, axis=1) - inputs.crops.centres[:, None], axis=-1)
        cells = inputs.crops.from_picture(seen[apart.argmin(axis=1)], size)
        for target, own in zip(maps, cells, strict=True):
            target[:] = _heatmaps(own[None], size)
    if not estimator.flip:
        return [(maps,)]
    shift = estimator.rule.flip_shift
    moved = np.concatenate([maps[..., shift:], maps[..., -1:].repeat(shift, axis=-1)], axis=-1)
    return [(maps,), (np.ascontiguousarray(moved[:, estimator.skeleton.flip_index, :, ::-1]),)]


@rendered_answer.register
def _(estimator: TagEstimator, inputs: PictureInputs[Any], joints: NDArray[np.float64]) -> list[Tensors]:
    flip = estimator.skeleton.flip_index
    answer: list[Tensors] = []
    for scale in estimator.scales:
        matrix, (height, width) = inputs.fit.matrix(scale), inputs.fit.size(scale)
        points = joints @ matrix[:, :2].T + matrix[:, 2] - 0.5  # the decoder adds half a pixel
        sizes = {stride: (height // stride, width // stride) for stride in (STRIDE, STRIDE // 2)}
        cells = {stride: (points - (stride - 1) / 2) / stride for stride in sizes}
        coarse, fine = (_heatmaps(cells[stride], sizes[stride]) for stride in sizes)
        tags = _tags(cells[STRIDE], sizes[STRIDE])
        answer.append((np.concatenate([coarse, tags])[None], fine[None]))
        if estimator.flip:
            coarse, tags, fine = (np.ascontiguousarray(maps[flip, :, ::-1]) for maps in (coarse, tags, fine))
            answer.append((np.concatenate([coarse, tags])[None], fine[None]))
    return answer


@rendered_answer.register
def _(estimator: OffsetEstimator, inputs: PictureInputs[Any], joints: NDArray[np.float64]) -> list[Tensors]:
    """Draw people whole: a joint without a label stands in the person's middle, because offsets cannot miss."""
    flip = estimator.skeleton.flip_index
    whole = joints[np.isfinite(joints).any(axis=(1, 2))]
    if len(whole):
        whole = np.where(np.isnan(whole), np.nanmean(whole, axis=1, keepdims=True), whole)
    centred = np.concatenate([whole, whole.mean(axis=1, keepdims=True)], axis=1)
    answer: list[Tensors] = []
    for scale in estimator.scales:
        matrix, (height, width) = inputs.fit.matrix(scale), inputs.fit.size(scale)
        size = height // STRIDE, width // STRIDE
        cells = (centred @ matrix[:, :2].T + matrix[:, 2]) / STRIDE
        heatmaps, offsets = _heatmaps(cells, size), _offsets(cells, size)
        answer.append((heatmaps[None], offsets[None]))
        if estimator.flip:
            heatmaps = np.ascontiguousarray(heatmaps[np.append(flip, len(flip)), :, ::-1])
            other = offsets.reshape(-1, 2, *size)[flip, :, :, ::-1] * np.array([-1, 1], np.float32)[:, None, None]
            answer.append((heatmaps[None], other.reshape(1, -1, *size)))
    return answer


@rendered_answer.register
def _(estimator: PartEstimator, inputs: PictureInputs[Any], joints: NDArray[np.float64]) -> list[Tensors]:
    fit, stride = inputs.fit, 8
    size = fit.size[0] // stride, fit.size[1] // stride
    points = joints * fit.factor - fit.factor / 2  # the decoder adds half a pixel of the picture
    coded = np.concatenate([np.nan_to_num(points), np.where(np.isnan(points[..., :1]), NOT_THERE, 0)], axis=-1)
    heatmaps, pafs = make_targets(coded, estimator.skeleton, size, stride, sigma=PART_SIGMA, paf_distance=PAF_DISTANCE)
    channels = np.empty_like(pafs)
    channels[estimator.paf_order] = pafs
    return [(heatmaps[None], channels[None])]


def _heatmaps(cells: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (K, h, w) the largest of the Gaussians at cells (P, K, 2), NaN where missing."""
    maps = np.zeros((cells.shape[1], *size), np.float32)
    (down, across), width = (np.arange(side, dtype=np.float64) for side in size), 2 * SIGMA**2
    for person in cells:
        x, y = np.exp(-((across - person[:, :1]) ** 2) / width), np.exp(-((down - person[:, 1:]) ** 2) / width)
        np.fmax(maps, y[:, :, None] * x[:, None], out=maps, casting="same_kind")  # NaN gives way
    return maps


def _tags(cells: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (K, h, w) around each joint the tag of the person whose joint is nearest, 0 elsewhere."""
    maps = np.zeros((cells.shape[1], *size), np.float32)
    nearest = np.full(maps.shape, float(TAG_REACH**2))
    y, x = np.indices(size)
    for number, person in enumerate(cells, 1):
        squares = (x - person[:, 0, None, None]) ** 2 + (y - person[:, 1, None, None]) ** 2
        own = squares < nearest
        maps[own] = TAG_STEP * number
        nearest[own] = squares[own]
    return maps


def _offsets(cells: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (2K, h, w) from each cell's joints, those of the person with the nearest centre (last), to the cell."""
    y, x = np.indices(size)
    grid = np.stack([x, y]).astype(np.float64)
    if not len(cells):
        return np.zeros((2 * (cells.shape[1] - 1), *size), np.float32)
    apart = ((grid[None] - cells[:, -1, :, None, None]) ** 2).sum(axis=1)
    owner = apart.argmin(axis=0)
    joints = np.moveaxis(cells[owner, :-1], (2, 3), (0, 1))  # (K, 2, h, w)
    return (grid - joints).reshape(-1, *size).astype(np.float32)
