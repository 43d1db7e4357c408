"""Schema of the train spec of a published network: `model: {zoo: NAME}`. All limbnet's own.

What is left out follows the network's publication: input size, augmentation, the shape of its targets, the weights of
its losses. The learning-rate schedule does not: it depends on the data, and the recipes in `specs/` give it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from limbnet.errors import nearest
from limbnet.models.zoo.catalogue import CATALOGUE, Head, ZooEntry
from limbnet.specs.base import Section, class_name
from limbnet.specs.optimiser import AdamW, OptimizerSpec, planning_mistakes
from limbnet.specs.trainer import DatasetChoice, TrainerSpec

#: Heads that there are targets and losses for.
TRAINABLE: tuple[Head, ...] = ("joint_maps", "tag_maps", "offset_maps")

#: Networks in this order are what error messages offer.
TRAINABLE_NETWORKS = tuple(name for name, entry in CATALOGUE.items() if entry.head in TRAINABLE)


class ZooModelSpec(Section):
    """Which published network is trained."""

    zoo: str

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.zoo not in TRAINABLE_NETWORKS:
            why = "cannot be trained here" if self.zoo in CATALOGUE else "is no network"
            yield (
                "zoo",
                f"'{self.zoo}' {why}.{nearest(self.zoo, TRAINABLE_NETWORKS)}"
                + (f" Known: {', '.join(TRAINABLE_NETWORKS)}"),
            )

    @property
    def entry(self) -> ZooEntry:
        """What the catalogue says about it, at the published input size."""
        return CATALOGUE[self.zoo]


class ZooImageDims(Section):
    """Size of the network's input in training and validation."""

    height: int = Field(gt=0)
    width: int = Field(gt=0)


class ZooImageConfig(Section):
    """The network's input pictures; the published size when `image_dims` is null."""

    image_dims: ZooImageDims | None = None


class ZooPoseConfig(Section):
    """Which joints are learnt; COCO's 17 when null."""

    pose_config_path: Path | None = None


class CropParams(Section):
    """Random changes of a person's crop (top-down networks).

    The crop grows or shrinks by a normally distributed share, `scale_factor` being both its deviation and its limit.
    With `rotate_prob` it is turned by normally distributed degrees of the deviation `rotate_factor`, at most twice
    that. People with more than `half_body_joints` labelled joints are, with `half_body_prob`, cropped to their upper or
    lower half.
    """

    scale_factor: float = Field(0.35, ge=0, lt=1)
    rotate_factor: float = Field(45.0, ge=0, le=90)
    rotate_prob: float = Field(0.6, ge=0, le=1)
    half_body_prob: float = Field(0.3, ge=0, le=1)
    half_body_joints: int = Field(8, ge=0)


class PictureParams(Section):
    """Random changes of a whole picture (bottom-up networks).

    The input shows `scale_min` to `scale_max` times the picture's short side, about a centre moved by up to the share
    `translate_ratio` of what it shows, turned by up to `rotate_deg_max`.
    """

    scale_min: float = Field(0.75, gt=0)
    scale_max: float = Field(1.5, gt=0)
    rotate_deg_max: float = Field(30.0, ge=0, le=180)
    translate_ratio: float = Field(0.2, ge=0, le=1)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.scale_min > self.scale_max:
            yield "scale_min", f"is {self.scale_min:g}, above scale_max {self.scale_max:g}"


class ZooAugmentation(Section):
    """Random changes of what is learnt; null are the published ones of the network."""

    flip_lr_prob: float = Field(0.5, ge=0, le=1)
    crop_params: CropParams | None = None
    picture_params: PictureParams | None = None


class ZooLabels(Section):
    """Shape of the targets, in map cells. `centre_...`, `offset_radius` and `background_weight` are DEKR's."""

    heatmap_gaussian_sigma: float | None = Field(None, gt=0, description="null: 2, top-down above 256 rows 3")
    centre_gaussian_sigma: float = Field(4.0, gt=0)
    offset_radius: int = Field(4, gt=0)
    background_weight: float = Field(0.1, ge=0, le=1)


class ZooDataloaderSpec(Section):
    """Training data: batches, input size, skeleton, datasets, augmentation and targets."""

    batch_size: int = Field(32, gt=0)
    image_config: ZooImageConfig = ZooImageConfig()
    pose_config: ZooPoseConfig = ZooPoseConfig()
    dataset_config: DatasetChoice
    augmentation_config: ZooAugmentation = ZooAugmentation()
    label_processor_config: ZooLabels = ZooLabels()
    workers: int | None = Field(None, ge=0)


class Distillation(Section):
    """Learn from a trained network too (FPD: Zhang et al. 2019): `weight` is its share of the loss."""

    teacher: str
    checkpoint: Path
    weight: float = Field(0.5, ge=0, le=1)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        entry = CATALOGUE.get(self.teacher)
        if entry is None or entry.head != "joint_maps":
            known = [name for name, other in CATALOGUE.items() if other.head == "joint_maps"]
            yield "teacher", f"'{self.teacher}' is no top-down network.{nearest(self.teacher, known)}"


class ZooLossSpec(Section):
    """Weights of the losses beside the heatmaps': tags of HigherHRNet (push, pull), offsets of DEKR; distillation."""

    push_weight: float = Field(1e-3, ge=0)
    pull_weight: float = Field(1e-3, ge=0)
    offset_weight: float = Field(0.03, ge=0)
    distillation: Distillation | None = None


class ZooTrainSpec(TrainerSpec):
    """The train spec of a published network."""

    class_name: Literal["ZooTrainer"] = class_name("ZooTrainer")
    final_model_name: str = "pose_model"
    batch_norm_momentum: float = Field(0.1, gt=0, le=1)
    dataloader: ZooDataloaderSpec
    model: ZooModelSpec
    optimizer: OptimizerSpec = AdamW(weight_decay=0.0)
    loss: ZooLossSpec = ZooLossSpec()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from super().mistakes()
        yield from planning_mistakes(self.optimizer, self.num_epoch)
        entry, augmentation = self.model.entry, self.dataloader.augmentation_config
        top_down = entry.head == "joint_maps"
        if top_down and augmentation.picture_params is not None:
            yield "dataloader.augmentation_config.picture_params", f"{entry.system} sees crops: give crop_params"
        if not top_down and augmentation.crop_params is not None:
            yield (
                "dataloader.augmentation_config.crop_params",
                f"{entry.system} sees whole pictures: give picture_params",
            )
        if not top_down and self.loss.distillation is not None:
            yield "loss.distillation", f"is for top-down networks, and {entry.system} is none"
        yield from self._size_mistakes()

    def _size_mistakes(self) -> Iterator[tuple[str, str]]:
        entry, (height, width) = self.model.entry, self.input_size
        where, size = "dataloader.image_config.image_dims", f"is {height}x{width} (height x width)"
        if entry.name.startswith("transpose") and (height, width) != entry.input_size:
            yield where, f"{size}, but {entry.system} is built for {'x'.join(map(str, entry.input_size or ()))} alone"
        elif height % entry.multiple or width % entry.multiple:
            yield where, f"{size}, but both sides must be multiples of {entry.multiple}"
        elif entry.head != "joint_maps" and height != width:
            yield where, f"{size}, but {entry.system} learns squares"
        elif entry.head != "joint_maps" and height % 64:
            yield where, f"{size}, but {entry.system} fits pictures to multiples of 64"

    @property
    def input_size(self) -> tuple[int, int]:
        """(height, width) of the network's input."""
        dims = self.dataloader.image_config.image_dims
        height, width = (dims.height, dims.width) if dims else self.model.entry.input_size or (0, 0)
        return height, width

    @property
    def sigma(self) -> float:
        """Deviation of the heatmaps' Gaussians in cells."""
        given = self.dataloader.label_processor_config.heatmap_gaussian_sigma
        large = self.model.entry.head == "joint_maps" and self.input_size[0] > 256
        return given or (3.0 if large else 2.0)

    @property
    def crop_params(self) -> CropParams:
        """Augmentation of crops: what the spec says, or what the network's authors did."""
        given = self.dataloader.augmentation_config.crop_params
        lite = "litehrnet" in self.model.zoo
        return given or (CropParams(scale_factor=0.25, rotate_factor=30.0) if lite else CropParams())

    @property
    def picture_params(self) -> PictureParams:
        """Augmentation of whole pictures: what the spec says, or what the network's authors did."""
        return self.dataloader.augmentation_config.picture_params or PictureParams()


def is_zoo_recipe(content: Any) -> bool:
    """Tell whether the plain values of a train spec name a published network."""
    model = content.get("model") if isinstance(content, dict) else None
    return isinstance(model, dict) and "zoo" in model
