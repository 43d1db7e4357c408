"""The skeleton: BodyPoseNet's numbers, flips, and every way to get one wrong."""

from __future__ import annotations

import numpy as np
import pytest

from limbnet.errors import SpecError
from limbnet.skeleton import BODY_18, COCO_JOINTS, Skeleton, default_sigmas


def test_bodyposenets_skeleton() -> None:
    assert (len(BODY_18.joints), len(BODY_18.limbs)) == (18, 19)
    assert (BODY_18.heat_channels, BODY_18.paf_channels) == (19, 38)
    assert [BODY_18.limbs[k] for k in (0, 7, 14, 17, 18)] == [(1, 8), (2, 3), (1, 0), (14, 16), (15, 17)]
    assert BODY_18.flip_pairs == ((5, 2), (6, 3), (7, 4), (11, 8), (12, 9), (13, 10), (15, 14), (17, 16))
    assert BODY_18.redundant == {17, 18}
    assert set(COCO_JOINTS) == set(BODY_18.joints) - {"neck"}
    assert COCO_JOINTS[:3] == ("nose", "left_eye", "right_eye")
    assert BODY_18.sigmas[BODY_18.joints.index("left_hip")] == 0.107


def test_mirroring_twice_changes_nothing() -> None:
    joints = np.arange(18)
    np.testing.assert_array_equal(BODY_18.flip_index[BODY_18.flip_index], joints)
    limbs, signs = BODY_18.flip_limbs
    np.testing.assert_array_equal(limbs[limbs], np.arange(19))
    assert (signs == 1).all()
    for number, (start, end) in enumerate(BODY_18.limbs):
        assert BODY_18.limbs[limbs[number]] == (BODY_18.flip_index[start], BODY_18.flip_index[end])


def test_a_limb_across_the_body_turns_round_in_the_mirror() -> None:
    hips = Skeleton.from_names("hips", ["left_hip", "right_hip"], [("left_hip", "right_hip")])
    limbs, signs = hips.flip_limbs
    assert (limbs.tolist(), signs.tolist()) == ([0], [-1.0])


def test_round_trip() -> None:
    assert Skeleton.from_dict(BODY_18.to_dict()) == BODY_18
    hand = Skeleton.from_names("hand", ["wrist", "thumb"], [("wrist", "thumb")])
    assert hand.sigmas == ()
    assert Skeleton.from_dict(hand.to_dict()) == hand


def test_colours_differ() -> None:
    assert len(set(BODY_18.limb_colours)) == 19


def test_sigmas_of_coco_by_name() -> None:
    assert default_sigmas(("nose", "neck")) == (0.026, 0.079)
    assert default_sigmas(("nose", "tail")) == ()


@pytest.mark.parametrize(
    ("joints", "limbs", "said"),
    [
        (("a", "b", "a"), ((0, 1), (1, 2)), "'a' is named twice"),
        (("a", "b"), ((0, 2),), "limb 1 joins 1 and 3, but there are 2 joints"),
        (("a", "b"), ((1, 1),), "joins 'b' to itself"),
        (("a", "b", "c", "d"), ((0, 1), (2, 3)), "no chain of limbs reaches joint 'c'"),
        (("a", "b"), (), "no limbs"),
    ],
)
def test_mistakes(joints: tuple[str, ...], limbs: tuple[tuple[int, int], ...], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Skeleton("wrong", joints, limbs)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(SpecError) as caught:
        Skeleton("wrong", ("a", "b", "b"), ((0, 5), (1, 1)), sigmas=(0.1,))
    assert str(caught.value).count("\n") == 3


def test_names_of_unknown_joints() -> None:
    with pytest.raises(SpecError, match=r"'left_hipp'\. Did you mean 'left_hip'"):
        Skeleton.from_names("x", ["left_hip", "nose"], [("nose", "left_hipp")])
