"""Each family's whole path on real pictures: answers of a perfect network, drawn from the labels, give them again."""

from __future__ import annotations

import numpy as np
import pytest
from rendered import joints_by_name, rendered_answer

from limbnet.data.boxes import true_boxes
from limbnet.data.coco import load_coco
from limbnet.data.pictures import read_picture
from limbnet.evaluation.coco import evaluate_keypoints
from limbnet.models.zoo import find
from limbnet.runtime.zoo.load import estimator_for
from limbnet.skeleton import COCO_17, COCO_JOINTS, OPENPOSE_25
from limbnet.specs.dataset import Category


class Silent:
    """A network that is never asked."""

    name = "silent"

    def __init__(self, name: str) -> None:
        self.entry = find(name)

    def run(self, images):
        raise AssertionError("the answers are rendered")


@pytest.fixture(scope="module")
def dataset(root):
    category = Category(keypoints=COCO_JOINTS)
    return load_coco(root / "examples/annotations/person_keypoints.json", root / "examples/images", category, False)


def average_precision(estimator, dataset, pictures=10) -> float:
    """AP of decoding the answers that are rendered from the labels of the first pictures that have some."""
    results, ids = [], []
    for number, image in enumerate(dataset.images[:pictures]):
        people = dataset.annotations(number)
        joints = np.where(people.keypoints[..., 2:] > 0, people.keypoints[..., :2], np.nan)
        joints = joints_by_name(joints, COCO_JOINTS, estimator.skeleton)
        wider = estimator.needs_boxes and estimator.rule.unbiased
        boxes = true_boxes(people, (image.height, image.width), wider)
        inputs = estimator.prepare(read_picture(image.path), boxes)
        results += estimator.decode(inputs, rendered_answer(estimator, inputs, joints)).to_coco(image.id, COCO_JOINTS)
        ids.append(image.id)
    scores = evaluate_keypoints(dataset.annotation_file, results, COCO_17.sigmas, image_ids=ids)
    return float(scores.values[0])


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("name", ["hrnet_w32_256x192", "darkpose_hrnet_w32_256x192", "darkpose_hrnet_w48_384x288"])
def test_top_down_systems_find_what_was_drawn(dataset, name, flip) -> None:
    assert average_precision(estimator_for(Silent(name), flip=flip), dataset) > 0.97


@pytest.mark.parametrize(
    ("name", "options", "least"),
    [
        ("higherhrnet_w32_512", {}, 0.97),
        ("higherhrnet_w32_512", {"flip": True, "scales": (0.5, 1.0, 2.0)}, 0.97),
        ("dekr_w32_512", {}, 0.97),
        ("dekr_w32_512", {"flip": True, "scales": (0.5, 1.0, 2.0)}, 0.85),
        ("openpose_coco", {}, 0.75),
        ("openpose_body25", {}, 0.75),
    ],
)
def test_bottom_up_systems_find_what_was_drawn(dataset, name, options, least) -> None:
    assert average_precision(estimator_for(Silent(name), **options), dataset, 6) > least


def test_joints_are_found_by_name_and_by_midpoint() -> None:
    joints = np.arange(34, dtype=float).reshape(1, 17, 2)
    joints[0, COCO_JOINTS.index("left_shoulder")] = np.nan
    found = joints_by_name(joints, COCO_JOINTS, OPENPOSE_25)[0]
    hips = joints[0, [COCO_JOINTS.index("left_hip"), COCO_JOINTS.index("right_hip")]]
    np.testing.assert_array_equal(found[OPENPOSE_25.joints.index("mid_hip")], hips.mean(axis=0))
    np.testing.assert_array_equal(found[OPENPOSE_25.joints.index("nose")], joints[0, 0])
    assert np.isnan(found[OPENPOSE_25.joints.index("neck")]).all()
    assert np.isnan(found[OPENPOSE_25.joints.index("left_heel")]).all()


def test_nobody_can_be_drawn(dataset) -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    for name in ("higherhrnet_w32_512", "dekr_w32_512", "openpose_coco"):
        estimator = estimator_for(Silent(name))
        inputs = estimator.prepare(picture)
        nobody = np.zeros((0, len(estimator.skeleton.joints), 2))
        assert len(estimator.decode(inputs, rendered_answer(estimator, inputs, nobody))) == 0
