"""Networks that answer with their own targets: the real estimators must find everybody where the ground truth is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from limbnet.data.boxes import PersonBoxes, people_with_boxes
from limbnet.data.people import NOT_LABELLED, JointMapping
from limbnet.data.zoo.targets import joint_targets, offset_targets
from limbnet.evaluation.coco import evaluate_keypoints
from limbnet.evaluation.dataset import TestData, load_test_data
from limbnet.models.zoo import find
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.zoo.bottomup import OffsetEstimator
from limbnet.runtime.zoo.load import estimator_for
from limbnet.runtime.zoo.network import Tensors
from limbnet.runtime.zoo.topdown import HRNET, RULES, TopDownEstimator
from limbnet.skeleton import COCO_17
from limbnet.specs.load import load_dataset_spec


class Silent:
    """Stands in a network's place; it is never asked."""

    name = "perfect"

    def __init__(self, zoo: str) -> None:
        self.entry = find(zoo)

    def run(self, images: NDArray[np.uint8]) -> Tensors:
        raise AssertionError


@pytest.fixture(scope="module")
def data(four_pictures: Path) -> TestData:
    return load_test_data(load_dataset_spec(four_pictures, quiet=True), COCO_17)


def ap(data: TestData, results: list[dict[str, Any]]) -> float:
    return evaluate_keypoints(data.annotation_file, results, data.sigmas, data.category_id).ap


@pytest.mark.parametrize("zoo", ["hrnet_w32_256x192", "darkpose_hrnet_w32_256x192", "darkpose_hrnet_w48_384x288"])
def test_top_down_targets(zoo: str, data: TestData, four_pictures: Path) -> None:
    rule = RULES.get(zoo, HRNET)
    estimator = estimator_for(Silent(zoo))
    assert isinstance(estimator, TopDownEstimator)
    mapping = JointMapping(load_dataset_spec(four_pictures, quiet=True), COCO_17)
    height, width = estimator.input_size
    results = []
    for number, image in enumerate(data.images):
        people = data.coco.annotations(number)
        rows, boxes = people_with_boxes(people, (image.height, image.width), rule.unbiased)
        inputs = estimator.prepare(as_picture(image.path), PersonBoxes(boxes, np.ones(len(boxes))))
        joints = mapping.joints(people.keypoints[rows])
        cells = inputs.crops.from_picture(joints[..., :2], (height // 4, width // 4))
        maps = [
            joint_targets(points, used, (height // 4, width // 4), 2.0, rule.unbiased)[0]
            for points, used in zip(cells, joints[..., 2] < NOT_LABELLED, strict=True)
        ]
        results += estimator.decode(inputs, [(np.stack(maps),)]).to_coco(image.id, data.joints, data.category_id)
    assert ap(data, results) > 0.99


def test_offset_targets(data: TestData, four_pictures: Path) -> None:
    estimator = estimator_for(Silent("dekr_w32_512"))
    assert isinstance(estimator, OffsetEstimator)
    mapping = JointMapping(load_dataset_spec(four_pictures, quiet=True), COCO_17)
    results = []
    for number, image in enumerate(data.images):
        inputs = estimator.prepare(as_picture(image.path))
        matrix, (height, width) = inputs.fit.matrix(), inputs.fit.size()
        people = mapping.joints(data.coco.annotations(number).keypoints)
        used = people[..., 2] < NOT_LABELLED
        cells = (people[..., :2] * matrix[0, 0] + matrix[:, 2]) / 4
        drawn = offset_targets(
            cells, used, np.full(len(people), 100.0), np.ones(len(people), bool), (height // 4, width // 4),
            sigma=2.0, centre_sigma=4.0, background_weight=0.1, radius=4,
        )  # fmt: skip
        answer = [(drawn.heatmaps[None], drawn.offsets[None])]
        results += estimator.decode(inputs, answer).to_coco(image.id, data.joints, data.category_id)
    assert ap(data, results) > 0.99
