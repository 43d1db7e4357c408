"""What the training loop asks of a kind of network: its files, its first weights, its loss and its validation.

The loop itself knows neither maps nor joints: BodyPoseNets (`training.bodypose`) and published networks
(`training.zoo`) each answer these questions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from limbnet.models.info import ModelInfo
from limbnet.skeleton import Skeleton
from limbnet.specs.train import TrainSpec
from limbnet.specs.zoo_train import ZooTrainSpec
from limbnet.training.precision import Precision

AnyTrainSpec = TrainSpec | ZooTrainSpec

SpecKind_contra = TypeVar("SpecKind_contra", TrainSpec, ZooTrainSpec, contravariant=True)


class BatchLosses(Protocol):
    """What one batch costs, in float32 scalars."""

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        ...

    def named(self) -> dict[str, Tensor]:
        """Return the detached scalars by name, `total_loss` among them."""
        ...


class Objective(Protocol):
    """From a batch to its losses; the one place where a network's outputs and a batch's labels meet."""

    def __call__(self, network: nn.Module, batch: Any, precision: Precision) -> BatchLosses:
        """Run the network on a batch on its device, and compare."""
        ...


class Loaded(Protocol):
    """What a model file of the family holds."""

    @property
    def model(self) -> nn.Module: ...  # noqa: D102
    @property
    def info(self) -> ModelInfo: ...  # noqa: D102
    @property
    def training(self) -> dict[str, Any] | None: ...  # noqa: D102


class Measure(Protocol):
    """Measures a network on the test data."""

    def rehearse(self, model: nn.Module, info: ModelInfo, device: torch.device) -> None:
        """Find people in one picture, so that mistakes show before the training; `model` is taken over."""
        ...

    def score(self, model: nn.Module, info: ModelInfo, device: torch.device) -> dict[str, float]:
        """Return `{"AP": ..., "AP50": ..., "AR": ...}`; `model` is taken over."""
        ...


class Family(Protocol[SpecKind_contra]):
    """A kind of network.

    Attributes:
        suffix: of its model files.
    """

    suffix: str

    def info(self, spec: SpecKind_contra, skeleton: Skeleton) -> ModelInfo:
        """Return what the model files of a run say about themselves."""
        ...

    def first_model(self, spec: SpecKind_contra, skeleton: Skeleton, key: str | None, speaks: bool) -> nn.Module:
        """Return the network that a new run begins with."""
        ...

    def objective(self, spec: SpecKind_contra, model: nn.Module, device: torch.device) -> Objective:
        """Return the loss of a run."""
        ...

    def save(
        self, path: Path, model: nn.Module, info: ModelInfo, key: str | None, training: dict[str, Any] | None
    ) -> None:
        """Write a model file."""
        ...

    def load(self, path: Path, key: str | None) -> Loaded:
        """Read a model file.

        Raises:
            ModelFileError: it is missing, damaged or of another kind.
        """
        ...
