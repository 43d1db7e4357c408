"""Who stands in the centre of a sample, who is labelled around, and the joints in the network's order."""

from __future__ import annotations

import random as python_random
from random import Random

import numpy as np
import pytest

from limbnet.data.coco import Annotations
from limbnet.data.people import (
    JointMapping,
    people_around,
    people_of_interest,
    seeded_random,
    shuffled,
    visibility_codes,
)
from limbnet.errors import DataError
from limbnet.skeleton import BODY_18, COCO_JOINTS, Skeleton
from limbnet.specs.dataset import DataFilteringParams, DatasetSpec

RULES = DataFilteringParams()


def annotations(
    boxes: list[tuple[float, float, float, float]], counts: list[int] | None = None, areas: list[float] | None = None
) -> Annotations:
    number = len(boxes)
    return Annotations(
        np.zeros((number, 17, 3)),
        np.array(counts or [17] * number),
        np.array(boxes, dtype=np.float64),
        np.array(areas or [5000.0] * number),
        np.zeros(number, dtype=bool),
        None,
        [],
    )


def test_keypoints_and_area_at_their_limits() -> None:
    """Five keypoints and 1024 square pixels are enough, less is not."""
    boxes = [(200.0 * n, 0.0, 50.0, 50.0) for n in range(4)]
    found = people_of_interest(annotations(boxes, [5, 4, 17, 17], [1024, 5000, 1023.9, 5000]), RULES)
    assert found == [0, 3]


def test_distance_uses_the_accepted_person() -> None:
    """A person needs 0.3 of the larger side of whoever was accepted before, exactly that much being enough."""
    boxes = [(0, 0, 100, 200), (59.9, 0, 100, 200), (60, 0, 100, 200), (800, 0, 10, 10)]
    assert people_of_interest(annotations(boxes), RULES) == [0, 2, 3]
    # The last annotation's size must not matter: it is huge here.
    assert people_of_interest(annotations([*boxes, (2000, 2000, 900, 900)]), RULES) == [0, 2, 3, 4]


def test_refused_people_do_not_push_others_away() -> None:
    boxes = [(0, 0, 100, 200), (30, 0, 100, 200), (61, 0, 100, 200)]
    assert people_of_interest(annotations(boxes), RULES) == [0, 2]


def test_sample_holds_everybody_labelled_main_person_first() -> None:
    assert people_around(annotations([(0, 0, 9, 9)] * 4, [3, 0, 17, 1]), 2) == [2, 0, 3]


def test_shuffle_is_fisher_yates_from_the_end() -> None:
    """With the draws 0, 0.99 and 0.5: swap 3 with 0, 2 with 2, 1 with 1."""

    class Scripted(Random):
        def __init__(self) -> None:
            super().__init__()
            self.draws = iter([0.0, 0.99, 0.5])

        def random(self) -> float:
            return next(self.draws)

    assert shuffled(4, Scripted()) == [3, 1, 2, 0]


def test_shuffle_goes_on_with_one_generator() -> None:
    generator = seeded_random()
    first, second = shuffled(50, generator), shuffled(50, generator)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    state = python_random.Random(42)
    assert generator.random() == [state.random() for _ in range(2 * 49 + 1)][-1]


def spec(**changes: object) -> DatasetSpec:
    part = {"images_root_dir_path": "i", "annotation_root_dir_path": "a"}
    content = {
        "root_directory_path": "r",
        "train_data": part,
        "test_data": part,
        "categories": [{"keypoints": list(COCO_JOINTS)}],
    }
    return DatasetSpec.model_validate(content | changes)


def keypoints(**flags: int) -> np.ndarray:
    """Return one person whose joint j stands at (10 j + 1, 10 j + 2), all visible but the named ones."""
    person = np.array([[10 * j + 1, 10 * j + 2, 2] for j in range(17)], dtype=np.float64)
    for name, flag in flags.items():
        person[COCO_JOINTS.index(name)] = (0, 0, 0) if flag == 0 else (*person[COCO_JOINTS.index(name), :2], flag)
    return person[None]


NECK = BODY_18.joints.index("neck")


def test_joints_come_by_name_and_flags_become_codes() -> None:
    """COCO's flags 2, 1 and 0 are visible (0), occluded (2) and not labelled (4)."""
    joints = JointMapping(spec(), BODY_18).joints(keypoints(left_wrist=1, nose=0))
    for name, code in (("left_wrist", 2), ("right_ankle", 0)):
        source = COCO_JOINTS.index(name)
        np.testing.assert_array_equal(joints[0, BODY_18.joints.index(name)], (10 * source + 1, 10 * source + 2, code))
    np.testing.assert_array_equal(joints[0, 0], (0, 0, 4))


@pytest.mark.parametrize(
    ("left", "right", "code"), [(2, 2, 0), (1, 2, 2), (2, 1, 2), (1, 1, 2), (0, 2, 4), (2, 0, 4), (0, 0, 4)]
)
def test_neck_needs_both_shoulders(left: int, right: int, code: int) -> None:
    joints = JointMapping(spec(), BODY_18).joints(keypoints(left_shoulder=left, right_shoulder=right))
    middle = (56, 57) if code != 4 else (0, 0)  # the shoulders are joints 5 and 6: (51, 52) and (61, 62)
    np.testing.assert_array_equal(joints[0, NECK], (*middle, code))


def test_joints_that_the_dataset_does_not_know() -> None:
    skeleton = Skeleton.from_names("odd", ["nose", "tail", "neck"], [("nose", "neck"), ("neck", "tail")])
    names = [name for name in COCO_JOINTS if name != "left_shoulder"]
    mapping = JointMapping(spec(categories=[{"keypoints": names}]), skeleton)
    joints = mapping.joints(keypoints()[:, :16])
    np.testing.assert_array_equal(joints[0, 1], (0, 0, 5))
    np.testing.assert_array_equal(joints[0, 2], (0, 0, 5))  # no neck without both shoulders in the dataset
    np.testing.assert_array_equal(mapping.confidence(np.full((1, 16), 0.5)), [[0.5, 0, 0]])


def test_neck_is_as_sure_as_the_less_sure_shoulder() -> None:
    confidence = np.ones((1, 17))
    confidence[0, COCO_JOINTS.index("left_shoulder")] = 0.25
    assert JointMapping(spec(), BODY_18).confidence(confidence)[0, NECK] == 0.25


def test_dataset_that_labels_the_neck_itself_keeps_it() -> None:
    names = [*COCO_JOINTS, "neck"]
    person = np.concatenate([keypoints(), [[[5.0, 6.0, 1.0]]]], axis=1)
    joints = JointMapping(spec(categories=[{"keypoints": names}]), BODY_18).joints(person)
    np.testing.assert_array_equal(joints[0, NECK], (5, 6, 2))


def test_flags_with_other_numbers() -> None:
    """Replacements never chain: 0 becomes occluded (2) while 2 becomes not labelled (4)."""
    flags = {
        "value": {"seen": 1, "hidden": 0, "none": 2},
        "mapping": {"seen": "visible", "hidden": "occluded", "none": "not_labeled"},
    }
    mapping = JointMapping(spec(visibility_flags=flags), BODY_18)
    np.testing.assert_array_equal(visibility_codes(mapping.spec, np.array([0.0, 1.0, 2.0])), [2, 0, 4])


def test_unexplained_flag() -> None:
    with pytest.raises(DataError, match="visibility flag 3"):
        JointMapping(spec(), BODY_18).joints(keypoints(nose=3))


def test_nothing_in_common() -> None:
    skeleton = Skeleton.from_names("hand", ["thumb", "palm"], [("thumb", "palm")])
    with pytest.raises(DataError, match="no joint in common"):
        JointMapping(spec(), skeleton)
