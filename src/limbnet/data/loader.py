"""The training data of a BodyPoseNet: pictures, heatmaps, part affinity fields and loss masks, batch by batch."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from limbnet.data.augment import (
    MASK_BACKGROUND,
    draw_spatial,
    needed_size,
    spatial_transform,
    transform_joints,
    warp_mask,
    warp_picture,
)
from limbnet.data.colour import change_colours
from limbnet.data.masks import picture_mask
from limbnet.data.mixing import Piece, corner_sizes, mosaic
from limbnet.data.order import SampleKey
from limbnet.data.pasting import Scissors
from limbnet.data.people import VISIBILITY_NAMES
from limbnet.data.pictures import read_picture_reduced
from limbnet.data.samples import Samples, training_samples
from limbnet.data.stream import BatchStream, Maker, to_device
from limbnet.data.targets import make_targets
from limbnet.data.weights import label_weights
from limbnet.errors import DataError
from limbnet.skeleton import Skeleton
from limbnet.specs.train import TrainSpec


class Batch(NamedTuple):
    """B samples of the training data.

    Attributes:
        images: (B, H, W, 3) uint8 RGB; `network_input` normalises them on the training device.
        heatmaps: (B, K + 1, h, w) float32.
        pafs: (B, 2 L, h, w) float32.
        masks: (B, 1, h, w) float32, 1 where the loss counts, 0 where it does not; with label weights
            (B, K + 1 + 2 L, h, w), one for each map.
        samples: (B,) int64 the numbers of the samples.
    """

    images: torch.Tensor
    heatmaps: torch.Tensor
    pafs: torch.Tensor
    masks: torch.Tensor
    samples: torch.Tensor

    def to(self, device: torch.device | str) -> Batch:
        """Return the batch on a device; from pinned memory the copy overlaps with what the device does."""
        return to_device(self, device)


def network_input(
    images: torch.Tensor, scale: tuple[float, float, float], offset: tuple[float, float, float]
) -> torch.Tensor:
    """Turn (B, H, W, 3) uint8 RGB into the network's (B, 3, H, W) float32: value / scale - offset by channel."""
    channels = images.permute(0, 3, 1, 2).to(torch.float32)
    shape = (1, 3, 1, 1)
    scales = torch.tensor(scale, dtype=torch.float32, device=images.device).view(shape)
    offsets = torch.tensor(offset, dtype=torch.float32, device=images.device).view(shape)
    return (channels / scales - offsets).contiguous()


class BatchMaker(Maker[Batch]):
    """Makes the batch of a list of `SampleKey`s."""

    def __init__(self, samples: Samples, spec: TrainSpec, skeleton: Skeleton) -> None:
        super().__init__(samples, spec.random_seed, spec.dataloader.dataset_config.dataset_weights)
        self.spec = spec.dataloader
        self.skeleton = skeleton
        self.stride = spec.model.backbone_attributes.stride
        dims = self.spec.image_config.image_dims
        self.input_size = (dims.height, dims.width)
        pasting = self.spec.augmentation_config.copy_paste_params
        self.scissors = Scissors(samples, skeleton, pasting) if pasting is not None else None

    def batch(self, keys: list[SampleKey]) -> Batch:
        """Make a batch."""
        made = [self.make(key) for key in keys]
        images, heatmaps, pafs, masks = (torch.from_numpy(np.stack(part)) for part in zip(*made, strict=True))
        numbers = torch.tensor([key.number for key in keys], dtype=torch.int64)
        return Batch(images, heatmaps, pafs, masks, numbers)

    def make(
        self, key: SampleKey
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Make one sample: image (H, W, 3), heatmaps (K + 1, h, w), pafs (2 L, h, w) and mask (1 or all, h, w)."""
        rng = key.generator(self.seed)
        size = key.size or self.input_size
        augmentation = self.spec.augmentation_config
        mixing = augmentation.mosaic_params
        if mixing is not None and rng.uniform() < mixing.prob:
            numbers = [key.number, *self._others(3, rng)]
            corners = corner_sizes(size, self.stride, mixing, rng)
            piece = mosaic([self._piece(number, corner, rng) for number, corner in zip(numbers, corners, strict=True)])
        else:
            piece = self._piece(key.number, size, rng)
        if self.scissors is not None and rng.uniform() < self.scissors.params.prob:
            piece = self.scissors.paste(piece, rng)
        image = piece.image
        if augmentation.colour_aug_params is not None:
            image = change_colours(image, augmentation.colour_aug_params, rng)
        labels = self.spec.label_processor_config
        map_size = (size[0] // self.stride, size[1] // self.stride)
        shape = {"sigma": labels.heatmap_gaussian_sigma, "paf_distance": labels.paf_ortho_dist_thresh}
        heatmaps, pafs = make_targets(piece.joints, self.skeleton, map_size, self.stride, **shape)
        mask = piece.cells[None] / np.float32(MASK_BACKGROUND)
        if labels.hidden_joints or labels.use_confidence:
            hidden = frozenset(VISIBILITY_NAMES.index(name) for name in labels.hidden_joints)
            confidence = piece.confidence if labels.use_confidence else None
            mask = mask * label_weights(
                piece.joints, confidence, self.skeleton, map_size, self.stride, hidden=hidden, **shape
            )
        return image, heatmaps, pafs, mask

    def _others(self, count: int, rng: np.random.Generator) -> list[int]:
        """Draw the samples that share a mosaic with one; each is drawn as often as the passes visit it."""
        if self.weights is None:
            return [int(other) for other in rng.integers(len(self.samples), size=count)]
        sizes = [size for _, size in self.samples.datasets]
        starts = np.cumsum([0, *sizes])
        chosen = rng.choice(len(sizes), size=count, p=self.weights)
        return [int(starts[dataset] + rng.integers(sizes[dataset])) for dataset in chosen]

    def _piece(self, number: int, input_size: tuple[int, int], rng: np.random.Generator) -> Piece:
        """Bring one sample to (a part of) the network's input."""
        sample = self.samples[number]
        picture = sample.picture
        size = picture.size
        augmentation = self.spec.augmentation_config
        draw = draw_spatial(augmentation.spatial_aug_params, size, rng)
        transform = spatial_transform(
            augmentation.spatial_augmentation_mode,
            draw,
            sample,
            input_size,
            augmentation.spatial_aug_params.target_person_scale,
        )
        pixels, found = read_picture_reduced(picture.path, needed_size(transform, size))
        if found != size:
            raise wrong_size(picture.path, found, size)
        confidence = sample.confidence
        if confidence is not None and draw.flip_lr:
            confidence = confidence[:, self.skeleton.flip_index]
        mask = picture_mask(picture.mask, size)
        map_size = (input_size[0] // self.stride, input_size[1] // self.stride)
        if mask is None:
            cells = np.full(map_size, MASK_BACKGROUND, dtype=np.float32)
        else:
            cells = warp_mask(mask, transform, map_size, self.stride)
        return Piece(
            warp_picture(pixels, transform, size, input_size),
            transform_joints(sample.joints, transform, draw.flip_lr, self.skeleton),
            confidence,
            cells,
        )


def wrong_size(path: str, found: tuple[int, int], annotated: tuple[int, int]) -> DataError:
    """Build the error for a picture that is not the one that was annotated."""
    return DataError(
        f"The picture '{path}' is {found[0]}x{found[1]} pixels (height x width, turned as its EXIF tag says), "
        f"but the annotations say {annotated[0]}x{annotated[1]}.",
        "Annotations must be made on the picture as it is shown.",
    )


class TrainingData(BatchStream[Batch]):
    """The batches of a BodyPoseNet that one of `world_size` training processes sees; see `BatchStream`.

    Args:
        spec: the train spec.
        skeleton: what the network learns.
        rank: this process's number.
        world_size: the number of processes.
        samples: those to train on; None reads the ones the spec names.

    Raises:
        SpecError: a dataset spec is wrong.
        DataError: records, annotations, pictures or masks are missing or wrong, or nobody is there to train on.
    """

    def __init__(
        self,
        spec: TrainSpec,
        skeleton: Skeleton,
        rank: int = 0,
        world_size: int = 1,
        samples: Samples | None = None,
    ) -> None:
        loader = spec.dataloader
        pastes = loader.augmentation_config.copy_paste_params is not None
        samples = training_samples(loader.dataset_config, skeleton, pastes) if samples is None else samples
        super().__init__(
            BatchMaker(samples, spec, skeleton),
            skeleton,
            batch_size=loader.batch_size,
            samples_per_epoch=loader.dataset_config.samples_per_epoch,
            workers=loader.workers,
            growing=loader.image_config.growing_sizes,
            rank=rank,
            world_size=world_size,
        )
