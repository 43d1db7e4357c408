"""Batches of published networks: pictures and what their heads should answer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from limbnet.data.loader import wrong_size
from limbnet.data.masks import MASK_THRESHOLD, picture_mask
from limbnet.data.order import SampleKey
from limbnet.data.people import NOT_LABELLED
from limbnet.data.pictures import read_picture
from limbnet.data.samples import Sample, Samples
from limbnet.data.stream import Maker, SomeBatch
from limbnet.data.zoo.augment import Matrix, draw_crop, draw_picture, moved_points
from limbnet.data.zoo.targets import joint_targets, offset_targets, tag_cells, tag_heatmaps
from limbnet.skeleton import Skeleton
from limbnet.specs.zoo_train import ZooTrainSpec

#: Input pixels per cell of the maps, the finer of HigherHRNet's two, and the others.
STRIDE, FINE_STRIDE = 4, 2

#: People of a smaller area have no centre (DEKR).
SMALLEST_AREA = 32**2


class JointBatch(NamedTuple):
    """B crops for a top-down network.

    Attributes:
        images: (B, H, W, 3) uint8 RGB.
        heatmaps: (B, K, h, w) float32.
        weights: (B, K) float32, 1 where a heatmap counts.
        samples: (B,) int64 the numbers of the samples.
    """

    images: Tensor
    heatmaps: Tensor
    weights: Tensor
    samples: Tensor


class TagBatch(NamedTuple):
    """B pictures for HigherHRNet.

    Attributes:
        images: (B, H, W, 3) uint8 RGB.
        coarse: (B, K, h, w) float32 heatmaps at stride 4.
        fine: (B, K, 2h, 2w) float32 heatmaps at stride 2.
        coarse_mask, fine_mask: (B, 1, h, w) and (B, 1, 2h, 2w) float32, 1 where the loss counts.
        cells: (B, P, K) int64, where each person's tags are read in the coarse maps laid out flat; -1 for none.
        samples: (B,) int64 the numbers of the samples.
    """

    images: Tensor
    coarse: Tensor
    fine: Tensor
    coarse_mask: Tensor
    fine_mask: Tensor
    cells: Tensor
    samples: Tensor


class OffsetBatch(NamedTuple):
    """B pictures for DEKR.

    Attributes:
        images: (B, H, W, 3) uint8 RGB.
        heatmaps, heatmap_weights: (B, K + 1, h, w) float32.
        offsets, offset_weights: (B, 2K, h, w) float32.
        samples: (B,) int64 the numbers of the samples.
    """

    images: Tensor
    heatmaps: Tensor
    heatmap_weights: Tensor
    offsets: Tensor
    offset_weights: Tensor
    samples: Tensor


class _ZooMaker(Maker[SomeBatch]):
    """What the makers have in common.

    Args:
        samples: what `limbnet.data.zoo.samples` gathered.
        spec: the train spec.
        skeleton: what the network learns.
    """

    def __init__(self, samples: Samples, spec: ZooTrainSpec, skeleton: Skeleton) -> None:
        super().__init__(samples, spec.random_seed, spec.dataloader.dataset_config.dataset_weights)
        self.spec = spec
        self.skeleton = skeleton
        self.flip_prob = spec.dataloader.augmentation_config.flip_lr_prob
        self.labels = spec.dataloader.label_processor_config

    def batch(self, keys: list[SampleKey]) -> SomeBatch:
        """Make a batch."""
        made = [self.make(self.samples[key.number], key.generator(self.seed)) for key in keys]
        parts = [torch.from_numpy(_stacked(part)) for part in zip(*made, strict=True)]
        return self.joined([*parts, torch.tensor([key.number for key in keys], dtype=torch.int64)])

    @abstractmethod
    def make(self, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Make the arrays of one sample, in the order of the batch."""

    @abstractmethod
    def joined(self, parts: list[Tensor]) -> SomeBatch:
        """Name the parts of a batch."""


class JointMaker(_ZooMaker[JointBatch]):
    """Makes batches for top-down networks; `unbiased` ones for DARK."""

    def __init__(self, samples: Samples, spec: ZooTrainSpec, skeleton: Skeleton, unbiased: bool) -> None:
        super().__init__(samples, spec, skeleton)
        self.unbiased = unbiased

    def make(self, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Make an image (H, W, 3), heatmaps (K, h, w) and weights (K,)."""
        assert sample.boxes is not None
        size = self.spec.input_size
        joints, used = sample.joints[0, :, :2], sample.joints[0, :, 2] < NOT_LABELLED
        view = draw_crop(
            sample.boxes[0], joints, used, picture=sample.picture.size, input_size=size, skeleton=self.skeleton,
            unbiased=self.unbiased, params=self.spec.crop_params, flip_prob=self.flip_prob, rng=rng,
        )  # fmt: skip
        image = _warped(_pixels(sample), view.matrix(size), size)
        map_size = (size[0] // STRIDE, size[1] // STRIDE)
        cells = moved_points(joints, view.matrix(map_size))
        if view.flip:
            cells, used = cells[self.skeleton.flip_index], used[self.skeleton.flip_index]
        return image, *joint_targets(cells, used, map_size, self.spec.sigma, self.unbiased)

    def joined(self, parts: list[Tensor]) -> JointBatch:
        """Name the parts of a batch."""
        return JointBatch(*parts)


class _PictureMaker(_ZooMaker[SomeBatch]):
    """What the bottom-up makers have in common."""

    def make(self, sample: Sample, rng: np.random.Generator) -> tuple[NDArray[Any], ...]:
        """Make the image (H, W, 3) and the targets."""
        side = self.spec.input_size[0]
        view = draw_picture(sample.picture.size, self.spec.picture_params, self.flip_prob, rng)
        image = _warped(_pixels(sample), view.matrix(side), (side, side))
        joints = sample.joints[:, self.skeleton.flip_index] if view.flip else sample.joints
        return image, *self.targets(sample, view.matrix, joints, view.scale(side))

    @abstractmethod
    def targets(
        self, sample: Sample, matrix: Any, joints: NDArray[np.float64], scale: float
    ) -> tuple[NDArray[Any], ...]:
        """Draw the targets of joints (P, K, 3); `matrix(side)` leads from the picture to maps, `scale` to the input."""


class TagMaker(_PictureMaker[TagBatch]):
    """Makes batches for HigherHRNet."""

    def targets(
        self,
        sample: Sample,
        matrix: Any,
        joints: NDArray[np.float64],
        scale: float,  # noqa: ARG002
    ) -> tuple[NDArray[Any], ...]:
        """Draw heatmaps and masks at both resolutions, and the places of the tags."""
        used = joints[..., 2] < NOT_LABELLED
        heatmaps, masks, places = [], [], []
        for stride in (STRIDE, FINE_STRIDE):
            side = self.spec.input_size[0] // stride
            cells = moved_points(joints[..., :2], matrix(side))
            heatmaps.append(tag_heatmaps(cells, used, (side, side), self.spec.sigma))
            masks.append(_mask(sample, matrix(side), side))
            places.append(tag_cells(cells, used, (side, side)))
        return *heatmaps, *masks, places[0]

    def joined(self, parts: list[Tensor]) -> TagBatch:
        """Name the parts of a batch."""
        return TagBatch(*parts)


class OffsetMaker(_PictureMaker[OffsetBatch]):
    """Makes batches for DEKR."""

    def targets(
        self, sample: Sample, matrix: Any, joints: NDArray[np.float64], scale: float
    ) -> tuple[NDArray[Any], ...]:
        """Draw heatmaps and offsets with their weights."""
        assert sample.areas is not None
        side = self.spec.input_size[0] // STRIDE
        used = joints[..., 2] < NOT_LABELLED
        drawn = offset_targets(
            moved_points(joints[..., :2], matrix(side)), used, _diagonals(joints[..., :2], used) * scale,
            sample.areas >= SMALLEST_AREA, (side, side), sigma=self.spec.sigma,
            centre_sigma=self.labels.centre_gaussian_sigma, background_weight=self.labels.background_weight,
            radius=self.labels.offset_radius,
        )  # fmt: skip
        weights = drawn.heatmap_weights * _mask(sample, matrix(side), side)
        return drawn.heatmaps, weights, drawn.offsets, drawn.offset_weights

    def joined(self, parts: list[Tensor]) -> OffsetBatch:
        """Name the parts of a batch."""
        return OffsetBatch(*parts)


def _pixels(sample: Sample) -> NDArray[np.uint8]:
    """Read a sample's picture (h, w, 3), whole: what it looks like made small must be what the network meets later."""
    pixels = read_picture(sample.picture.path)
    if pixels.shape[:2] != sample.picture.size:
        raise wrong_size(sample.picture.path, (pixels.shape[0], pixels.shape[1]), sample.picture.size)
    return pixels


def _warped(pixels: NDArray[np.uint8], matrix: Matrix, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Warp a picture to an input of (height, width): bilinear, black beyond its border."""
    return np.asarray(cv2.warpAffine(pixels, matrix[:2], size[::-1], flags=cv2.INTER_LINEAR), np.uint8)


def _mask(sample: Sample, matrix: Matrix, side: int) -> NDArray[np.float32]:
    """Return (1, side, side): 1 where the loss counts, 0 in what is hidden and beyond the picture's border."""
    hidden = picture_mask(sample.picture.mask, sample.picture.size)
    mask = np.full(sample.picture.size, 255, np.uint8) if hidden is None else hidden
    warped = cv2.warpAffine(mask, matrix[:2], (side, side), flags=cv2.INTER_LINEAR)
    return (warped > MASK_THRESHOLD).astype(np.float32)[None]


def _diagonals(points: NDArray[np.float64], used: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return (P,) diagonals of the boxes around the used points (P, K, 2), 0 for nobody."""
    low = np.where(used[..., None], points, np.inf).min(axis=1, initial=np.inf)
    high = np.where(used[..., None], points, -np.inf).max(axis=1, initial=-np.inf)
    return np.where(used.any(axis=1), np.hypot(*np.maximum(high - low, 0).T), 0.0)


def _stacked(arrays: tuple[NDArray[Any], ...]) -> NDArray[Any]:
    """Stack the arrays of B samples; people (the first axis of places of tags) are filled up with nobody (-1)."""
    if arrays[0].dtype != np.int64:
        return np.stack(arrays)
    most = max(len(array) for array in arrays)
    return np.stack([np.pad(array, ((0, most - len(array)), (0, 0)), constant_values=-1) for array in arrays])
