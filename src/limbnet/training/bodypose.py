"""BodyPoseNets in training: their files, their first weights, their loss on a batch."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from limbnet.data.loader import Batch, network_input
from limbnet.errors import ModelFileError
from limbnet.models.bodyposenet import BodyPoseNet, build_model
from limbnet.models.checkpoint import LoadedModel, load_model, save_model
from limbnet.models.info import ModelInfo
from limbnet.models.pretrained import load_pretrained
from limbnet.skeleton import Skeleton
from limbnet.specs.train import TrainSpec
from limbnet.training.loss import Losses, build_loss
from limbnet.training.precision import Precision

log = logging.getLogger(__name__)


class MapObjective:
    """The loss of heatmaps and part affinity fields."""

    def __init__(self, spec: TrainSpec, model: BodyPoseNet) -> None:
        self.loss = build_loss(spec, model)
        self.normalisation = spec.dataloader.normalization_params

    def __call__(self, network: nn.Module, batch: Batch, precision: Precision) -> Losses:
        """Run the network on a batch on its device, and compare."""
        images = network_input(batch.images, self.normalisation.image_scale, self.normalisation.image_offset)
        with precision.forward():
            maps = network(images.contiguous(memory_format=torch.channels_last))
        return self.loss(maps.heatmaps, maps.pafs, batch.heatmaps, batch.pafs, batch.masks)


class BodyPoseFamily:
    """BodyPoseNets, as `training.family.Family` describes a kind of network."""

    suffix = ".tlt"

    def info(self, spec: TrainSpec, skeleton: Skeleton) -> ModelInfo:
        """Return what the model files of a run say about themselves."""
        return model_info(spec, skeleton)

    def first_model(self, spec: TrainSpec, skeleton: Skeleton, key: str | None, speaks: bool) -> BodyPoseNet:
        """Return fresh weights, pretrained ones, or a pruned graph."""
        if spec.load_graph and spec.pretrained_weights:
            loaded = load_model(spec.pretrained_weights, key)
            check_fits(loaded, spec, skeleton, spec.pretrained_weights)
            if speaks:
                log.info("Retraining the graph and weights of '%s'.", spec.pretrained_weights)
            return loaded.model
        model = build_model(spec.model, skeleton)
        if spec.pretrained_weights:
            report = load_pretrained(model, spec.pretrained_weights, key)
            if speaks:
                log.info("%s", report)
        return model

    def objective(self, spec: TrainSpec, model: nn.Module, device: torch.device) -> MapObjective:  # noqa: ARG002
        """Return the loss of a run."""
        return MapObjective(spec, cast(BodyPoseNet, model))

    def save(
        self, path: Path, model: nn.Module, info: ModelInfo, key: str | None, training: dict[str, Any] | None
    ) -> None:
        """Write a model file."""
        save_model(path, cast(BodyPoseNet, model), info, key=key, training=training)

    def load(self, path: Path, key: str | None) -> LoadedModel:
        """Read a model file."""
        return load_model(path, key)


def model_info(spec: TrainSpec, skeleton: Skeleton) -> ModelInfo:
    """Return what the model files of a run say about themselves."""
    dims, norm = spec.dataloader.image_config.image_dims, spec.dataloader.normalization_params
    return ModelInfo(
        skeleton=skeleton,
        stride=spec.model.backbone_attributes.stride,
        input_size=(dims.height, dims.width),
        image_scale=norm.image_scale,
        image_offset=norm.image_offset,
        spec=spec.model_dump(mode="json", by_alias=True),
    )


def check_fits(loaded: LoadedModel, spec: TrainSpec, skeleton: Skeleton, path: Path) -> None:
    """Compare a loaded graph with what the spec says about it.

    Raises:
        ModelFileError: naming everything that differs.
    """
    theirs = loaded.info.skeleton
    problems = []
    if (theirs.joints, theirs.limbs) != (skeleton.joints, skeleton.limbs):
        problems.append(f"its skeleton is '{theirs.name}', the spec's '{skeleton.name}'")
    if len(loaded.model.stages) != spec.model.stages:
        problems.append(f"it has {len(loaded.model.stages)} stages, the spec {spec.model.stages}")
    if loaded.model.stride != spec.model.backbone_attributes.stride:
        problems.append(f"its stride is {loaded.model.stride}, the spec's {spec.model.backbone_attributes.stride}")
    if problems:
        raise ModelFileError(f"'{path}' does not fit the spec:\n  " + "\n  ".join(problems), "Make the spec follow it.")
