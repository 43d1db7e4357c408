"""Poses: names, orders, and what is written to files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from limbnet.poses import Poses
from limbnet.skeleton import BODY_18, COCO_JOINTS, Skeleton

STICK = Skeleton.from_names("stick", ("a", "b", "c"), [("a", "b"), ("b", "c")], sigmas=(0.1, 0.1, 0.1))
NAN = float("nan")
TWO = Poses(
    np.array([[[1.23456, 2], [3, 4], [NAN, NAN]], [[NAN, NAN], [7, 8], [9.5, 1]]], np.float32),
    np.array([[0.9, 0.8, 0], [0, 0.7, 0.6]], np.float32),
    np.array([0.95, 0.5], np.float32),
    STICK,
    (20, 30),
)


def test_results_are_by_name_in_the_order_of_the_dataset() -> None:
    first, second = TWO.to_coco(7, ("c", "a", "unknown"), category_id=3)
    assert first == {
        "image_id": 7,
        "category_id": 3,
        "keypoints": [0, 0, 0, 1.235, 2, 1, 0, 0, 0],
        "score": pytest.approx(0.95),
    }
    assert second["keypoints"] == [9.5, 1, 1, 0, 0, 0, 0, 0, 0]
    assert json.loads(json.dumps([first, second])) == [first, second]


def test_without_a_dataset_results_have_the_skeletons_joints() -> None:
    assert TWO.to_coco() == TWO.to_coco(0, STICK.joints)


def test_a_joint_at_the_corner_was_found_although_it_stands_at_zero() -> None:
    """The original takes 0, 0 for missing."""
    corner = Poses(np.zeros((1, 3, 2), np.float32), np.ones((1, 3), np.float32), np.ones(1, np.float32), STICK, (9, 9))
    assert corner.to_coco(1, STICK.joints)[0]["keypoints"] == [0, 0, 1] * 3


def test_detections_hold_all_joints_of_the_skeleton() -> None:
    assert TWO.to_detections() == {
        "keypoints": [[[1.235, 2], [3, 4], [0, 0]], [[0, 0], [7, 8], [9.5, 1]]],
        "scores": pytest.approx([0.95, 0.5]),
    }


def test_the_neck_is_dropped_for_coco() -> None:
    keypoints = np.arange(36, dtype=np.float32).reshape(1, 18, 2)
    poses = Poses(keypoints, np.ones((1, 18), np.float32), np.ones(1, np.float32), BODY_18, (100, 100))
    ordered = poses.in_order(COCO_JOINTS)
    assert ordered.shape == (1, 17, 3)
    np.testing.assert_array_equal(ordered[0, COCO_JOINTS.index("left_ankle"), :2], poses.joint("left_ankle")[0])
    assert not (ordered[0, :, :2] == poses.joint("neck")[0]).all(axis=1).any()


def test_boxes_found_and_length() -> None:
    np.testing.assert_allclose(TWO.boxes, [[1.23456, 2, 3, 4], [7, 1, 9.5, 8]])
    np.testing.assert_array_equal(TWO.found, [[True, True, False], [False, True, True]])
    assert (len(TWO), len(Poses.empty(STICK, (2, 3)))) == (2, 0)
    assert Poses.empty(STICK, (2, 3)).boxes.shape == (0, 4)
    assert repr(TWO) == "Poses(2 people of 3 joints in a picture of 30x20 pixels)"


def test_arrays_of_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected keypoints \(2, 3, 2\)"):
        Poses(TWO.keypoints[:1], TWO.joint_scores, TWO.scores, STICK, (20, 30))
