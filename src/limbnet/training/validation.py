"""Validation while training: average precision on the test data, measured as `limbnet evaluate` measures it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from limbnet.errors import LimbnetError, TrainingError
from limbnet.evaluation.coco import evaluate_keypoints
from limbnet.evaluation.dataset import TestData, load_test_data
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.info import ModelInfo
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.torch_engine import TorchEngine
from limbnet.skeleton import Skeleton
from limbnet.specs.inference import InferenceSpec
from limbnet.specs.load import load_dataset_spec, load_inference_spec
from limbnet.specs.train import TrainSpec

log = logging.getLogger(__name__)


class Validator:
    """Measures the average precision of a network on the test data of a train spec's datasets.

    Args:
        spec: its `inference_spec` says how pictures are fitted; without one the training's input size is used. Its
            `validation_datasets` name the datasets, all of them when None.
        skeleton: what the network has learned.

    Raises:
        TrainingError: test data are missing or wrong.
    """

    def __init__(self, spec: TrainSpec, skeleton: Skeleton) -> None:
        self.settings = load_inference_spec(spec.inference_spec) if spec.inference_spec else InferenceSpec()
        config = spec.dataloader.dataset_config
        names = config.dataset_specs if config.validation_datasets is None else config.validation_datasets
        self.data = {name: checked_test_data(name, config.dataset_specs[name], skeleton) for name in names}

    def rehearse(self, model: nn.Module, info: ModelInfo, device: torch.device) -> None:
        """Find people in one picture, so that mistakes show before the training; `model` is taken over."""
        first = next(iter(self.data.values())).images[0].path
        for result in self.estimator(model, info, device).stream([first]):
            if result.error:
                raise result.error

    def estimator(self, model: nn.Module, info: ModelInfo, device: torch.device) -> PoseEstimator:
        """Put a network, which is taken over, behind the estimator that every command uses."""
        return PoseEstimator.from_spec(TorchEngine(cast(BodyPoseNet, model), info, device), self.settings)

    def score(self, model: nn.Module, info: ModelInfo, device: torch.device) -> dict[str, float]:
        """Return `{"AP": ..., "AP50": ..., "AR": ...}`, means over the datasets; `model` is taken over."""
        estimator = self.estimator(model, info, device)
        scores = [_score(estimator, data) for data in self.data.values()]
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}


def checked_test_data(name: str, path: Path, skeleton: Skeleton) -> TestData:
    """Read the test data of the dataset `name`.

    Raises:
        TrainingError: they are missing or wrong.
    """
    try:
        return load_test_data(load_dataset_spec(path, quiet=True), skeleton)  # the training data told of its keys
    except LimbnetError as error:
        raise TrainingError(
            f"Validation needs the test data of dataset '{name}': {error}",
            "Set validation_every_n_epoch to 0 to train without validation.",
        ) from error


def _score(estimator: PoseEstimator, data: TestData) -> dict[str, float]:
    results: list[dict[str, Any]] = []
    for image, result in zip(data.images, estimator.stream(image.path for image in data.images), strict=True):
        if result.poses is None:
            log.warning("Validation counts no detections for a picture: %s", result.error)
            continue
        results += result.poses.to_coco(image.id, data.joints, data.category_id)
    scores = evaluate_keypoints(data.annotation_file, results, data.sigmas, data.category_id)
    return {"AP": scores.ap, "AP50": float(scores.values[1]), "AR": float(scores.values[5])}
