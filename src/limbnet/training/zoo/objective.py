"""From a batch to the losses of a published network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Generic

import torch
from torch import Tensor, nn

from limbnet.data.loader import network_input
from limbnet.data.stream import SomeBatch
from limbnet.data.zoo.batches import JointBatch, OffsetBatch, TagBatch
from limbnet.models.info import ModelInfo
from limbnet.specs.zoo_train import ZooLossSpec
from limbnet.training.precision import Precision
from limbnet.training.zoo.losses import heatmap_loss, joint_loss, offset_loss, tag_losses


@dataclass(frozen=True)
class ZooLosses:
    """What one batch costs.

    Attributes:
        parts: float32 scalars by name, weighted as they add up to the total.
    """

    parts: dict[str, Tensor]

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return torch.stack(list(self.parts.values())).sum()

    def named(self) -> dict[str, Tensor]:
        """Return the detached scalars by name."""
        return {"total_loss": self.total.detach()} | {name: part.detach() for name, part in self.parts.items()}


class ZooObjective(ABC, Generic[SomeBatch]):
    """Runs a network on a batch and compares.

    Args:
        info: how pictures are normalised.
        weights: of the losses.
    """

    def __init__(self, info: ModelInfo, weights: ZooLossSpec) -> None:
        self.info = info
        self.weights = weights

    def __call__(self, network: nn.Module, batch: Any, precision: Precision) -> ZooLosses:
        """Run the network on a batch on its device, and compare."""
        images = network_input(batch.images, self.info.image_scale, self.info.image_offset)
        images = images.contiguous(memory_format=torch.channels_last)
        with precision.forward():
            outputs = self.outputs(network, images)
        return ZooLosses(self.losses(outputs, batch))

    def outputs(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Return what the network says about normalised images (B, 3, H, W)."""
        said: tuple[Tensor, ...] = network(images)
        return said

    @abstractmethod
    def losses(self, outputs: tuple[Tensor, ...], batch: SomeBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""


class JointObjective(ZooObjective[JointBatch]):
    """Top-down networks, with a teacher or without (FPD: Zhang et al. 2019).

    Args:
        info, weights: as `ZooObjective`.
        teacher: a trained network in evaluation mode whose heatmaps are learnt too.
    """

    def __init__(self, info: ModelInfo, weights: ZooLossSpec, teacher: nn.Module | None = None) -> None:
        super().__init__(info, weights)
        self.teacher = teacher

    def outputs(self, network: nn.Module, images: Tensor) -> tuple[Tensor, ...]:
        """Return the network's heatmaps, and the teacher's."""
        if self.teacher is None:
            return super().outputs(network, images)
        with torch.no_grad():
            taught = self.teacher(images)[0]
        return network(images)[0], taught

    def losses(self, outputs: tuple[Tensor, ...], batch: JointBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        heatmaps, *taught = outputs
        pose = joint_loss(heatmaps, batch.heatmaps, batch.weights)
        if not taught or self.weights.distillation is None:
            return {"heatmap_loss": pose}
        share = self.weights.distillation.weight
        distilled = joint_loss(heatmaps, taught[0].float(), batch.weights)
        return {"heatmap_loss": (1 - share) * pose, "distillation_loss": share * distilled}


class TagObjective(ZooObjective[TagBatch]):
    """HigherHRNet."""

    def losses(self, outputs: tuple[Tensor, ...], batch: TagBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        coarse, fine = outputs
        joints = fine.shape[1]
        push, pull = tag_losses(coarse[:, joints:], batch.cells)
        return {
            "coarse_heatmap_loss": heatmap_loss(coarse[:, :joints], batch.coarse, batch.coarse_mask),
            "fine_heatmap_loss": heatmap_loss(fine, batch.fine, batch.fine_mask),
            "push_loss": self.weights.push_weight * push,
            "pull_loss": self.weights.pull_weight * pull,
        }


class OffsetObjective(ZooObjective[OffsetBatch]):
    """DEKR."""

    def losses(self, outputs: tuple[Tensor, ...], batch: OffsetBatch) -> dict[str, Tensor]:
        """Return the weighted losses by name."""
        heatmaps, offsets = outputs
        return {
            "heatmap_loss": heatmap_loss(heatmaps, batch.heatmaps, batch.heatmap_weights),
            "offset_loss": self.weights.offset_weight * offset_loss(offsets, batch.offsets, batch.offset_weights),
        }
