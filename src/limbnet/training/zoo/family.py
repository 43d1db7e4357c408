"""Published networks, as `training.family.Family` describes a kind of network."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbnet.errors import ModelFileError, SpecError
from limbnet.models.checkpoint import ZOO, read_weights, save_weights
from limbnet.models.info import ModelInfo
from limbnet.models.zoo import create_model, find
from limbnet.models.zoo.weights import load_start, load_weights
from limbnet.runtime.zoo.network import NORMALISATIONS
from limbnet.runtime.zoo.topdown import HRNET, RULES
from limbnet.skeleton import Skeleton
from limbnet.specs.load import training_skeleton
from limbnet.specs.zoo_train import ZooTrainSpec
from limbnet.training.zoo.objective import JointObjective, OffsetObjective, TagObjective, ZooObjective

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedZooModel:
    """A weight file of a published network that limbnet wrote.

    Attributes:
        model: the network with its weights.
        info: what the file says about it; `extra["zoo"]` is its name.
        training: the training state that was saved with it, or None.
    """

    model: nn.Module
    info: ModelInfo
    training: dict[str, Any] | None


class ZooFamily:
    """Published networks. Their files are safetensors with the official names, so that every reader takes them."""

    suffix = ".safetensors"

    def info(self, spec: ZooTrainSpec, skeleton: Skeleton) -> ModelInfo:
        """Return what the model files of a run say about themselves."""
        mean, deviation = NORMALISATIONS[spec.model.entry.normalisation]
        offset = tuple(m / d for m, d in zip(mean, deviation, strict=True))
        return ModelInfo(
            skeleton=skeleton,
            stride=4,
            input_size=spec.input_size,
            image_scale=deviation,
            image_offset=(offset[0], offset[1], offset[2]),
            spec=spec.model_dump(mode="json", by_alias=True),
            extra={ZOO: spec.model.zoo},
        )

    def first_model(self, spec: ZooTrainSpec, skeleton: Skeleton, key: str | None, speaks: bool) -> nn.Module:  # noqa: ARG002
        """Return a network with initial weights, or what fits of those in a file."""
        model = create_model(
            spec.model.zoo, joints=len(skeleton.joints), input_size=spec.input_size, seed=spec.random_seed
        )
        if spec.pretrained_weights is not None:
            report = load_start(model, spec.model.entry, spec.pretrained_weights)
            if speaks:
                log.info("%s", report)
        return model

    def objective(self, spec: ZooTrainSpec, model: nn.Module, device: torch.device) -> ZooObjective[Any]:  # noqa: ARG002
        """Return the loss of a run."""
        info = self.info(spec, training_skeleton(spec))
        head = spec.model.entry.head
        if head == "joint_maps":
            return JointObjective(info, spec.loss, teacher_of(spec, device))
        return TagObjective(info, spec.loss) if head == "tag_maps" else OffsetObjective(info, spec.loss)

    def save(
        self, path: Path, model: nn.Module, info: ModelInfo, key: str | None, training: dict[str, Any] | None
    ) -> None:
        """Write a weight file."""
        architecture = {ZOO: info.extra[ZOO], "joints": len(info.skeleton.joints), "input_size": list(info.input_size)}
        save_weights(path, model.state_dict(), architecture, info, key=key, training=training)

    def load(self, path: Path, key: str | None) -> LoadedZooModel:
        """Read a weight file that limbnet wrote."""
        stored = read_weights(path, key)
        name = stored.architecture.get(ZOO)
        if name is None:
            raise ModelFileError(f"'{path}' holds a BodyPoseNet, not a published network.")
        model = create_model(name, joints=len(stored.info.skeleton.joints), input_size=stored.info.input_size)
        try:
            model.load_state_dict(stored.weights)
        except RuntimeError as error:
            raise ModelFileError(f"The weights in '{path}' do not fit '{name}': {error}") from None
        return LoadedZooModel(model, stored.info, stored.training)


def teacher_of(spec: ZooTrainSpec, device: torch.device) -> nn.Module | None:
    """Return the network that a spec distils from, None without distillation.

    Raises:
        SpecError: it crops otherwise than the student, so that their heatmaps do not lie over each other.
        ModelFileError: its file does not fit.
    """
    distillation = spec.loss.distillation
    if distillation is None:
        return None
    if RULES.get(distillation.teacher, HRNET).unbiased != RULES.get(spec.model.zoo, HRNET).unbiased:
        raise SpecError(
            f"loss.distillation.teacher is '{distillation.teacher}', which crops otherwise than '{spec.model.zoo}': "
            "their heatmaps do not lie over each other.",
            "Take a teacher and a student that both follow HRNet, or both DARK.",
        )
    joints = len(training_skeleton(spec).joints)
    teacher = create_model(distillation.teacher, joints=joints, input_size=spec.input_size)
    load_weights(teacher, find(distillation.teacher), distillation.checkpoint)
    return teacher.requires_grad_(False).to(device)
