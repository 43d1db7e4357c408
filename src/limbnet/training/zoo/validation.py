"""Validation of published networks while they train: average precision with their own estimators."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from limbnet.data.boxes import PersonBoxes, true_boxes
from limbnet.errors import DataError
from limbnet.evaluation.coco import evaluate_keypoints
from limbnet.evaluation.dataset import TestData
from limbnet.models.info import ModelInfo
from limbnet.runtime.zoo.load import ZooEstimator, estimator_for
from limbnet.runtime.zoo.network import TorchZooNetwork
from limbnet.runtime.zoo.topdown import HRNET, RULES
from limbnet.skeleton import Skeleton
from limbnet.specs.zoo_train import ZooTrainSpec
from limbnet.training.validation import checked_test_data

log = logging.getLogger(__name__)

#: Crops that a top-down network sees at once.
CROPS = 16


class ZooValidator:
    """Measures a published network on the test data of a train spec's datasets.

    One scale, no flip test; top-down networks get the boxes of the ground truth, as their authors validate while
    training.

    Args:
        spec: `validation_datasets` name the datasets, all of them when None.
        skeleton: what the network has learned.

    Raises:
        TrainingError: test data are missing or wrong.
    """

    def __init__(self, spec: ZooTrainSpec, skeleton: Skeleton) -> None:
        self.entry = replace(spec.model.entry, input_size=spec.input_size)
        self.skeleton = skeleton
        config = spec.dataloader.dataset_config
        names = config.dataset_specs if config.validation_datasets is None else config.validation_datasets
        self.data = {name: checked_test_data(name, config.dataset_specs[name], skeleton) for name in names}
        self._wider = RULES.get(spec.model.zoo, HRNET).unbiased

    def estimator(self, model: nn.Module, device: torch.device) -> ZooEstimator:
        """Put a network, which is taken over, behind its system's estimator."""
        network = TorchZooNetwork(model, self.entry, device)
        return estimator_for(network, batch=CROPS if self.entry.head == "joint_maps" else 1, skeleton=self.skeleton)

    def rehearse(self, model: nn.Module, info: ModelInfo, device: torch.device) -> None:  # noqa: ARG002
        """Find people in one picture, so that mistakes show before the training; `model` is taken over."""
        data = next(iter(self.data.values()))
        self.estimator(model, device)(data.images[0].path, self._boxes(data, 0))

    def score(self, model: nn.Module, info: ModelInfo, device: torch.device) -> dict[str, float]:  # noqa: ARG002
        """Return `{"AP": ..., "AP50": ..., "AR": ...}`, means over the datasets; `model` is taken over."""
        estimator = self.estimator(model, device)
        scores = [self._score(estimator, data) for data in self.data.values()]
        return {name: sum(score[name] for score in scores) / len(scores) for name in scores[0]}

    def _score(self, estimator: ZooEstimator, data: TestData) -> dict[str, float]:
        results: list[dict[str, Any]] = []
        for number, image in enumerate(data.images):
            try:
                poses = estimator(image.path, self._boxes(data, number))
            except DataError as error:
                log.warning("Validation counts no detections for a picture: %s", error)
                continue
            results += poses.to_coco(image.id, data.joints, data.category_id)
        scores = evaluate_keypoints(data.annotation_file, results, data.sigmas, data.category_id)
        return {"AP": scores.ap, "AP50": float(scores.values[1]), "AR": float(scores.values[5])}

    def _boxes(self, data: TestData, number: int) -> PersonBoxes:
        image = data.images[number]
        return true_boxes(data.coco.annotations(number), (image.height, image.width), self._wider)
