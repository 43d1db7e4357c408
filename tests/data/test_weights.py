"""Label weights: nothing is punished around a joint that nobody knows, and unsure labels count less."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from limbnet.data.targets import make_targets
from limbnet.data.weights import label_weights
from limbnet.skeleton import Skeleton

ARROW = Skeleton.from_names("arrow", ["tail", "shaft", "tip"], [("tail", "shaft"), ("shaft", "tip")])
SHAPE = {"map_size": (12, 16), "stride": 8, "sigma": 4.0, "paf_distance": 1.0}
HIDDEN = frozenset({4, 5})


def weights(joints, confidence=None, hidden=HIDDEN):
    found = label_weights(
        np.array(joints, dtype=float), confidence, ARROW, SHAPE["map_size"], SHAPE["stride"],
        sigma=SHAPE["sigma"], paf_distance=SHAPE["paf_distance"], hidden=hidden,
    )  # fmt: skip
    return found[:4], found[4:].reshape(2, 2, *SHAPE["map_size"])


def test_sure_and_complete_people_change_nothing():
    heat, pafs = weights([[[20, 20, 0], [60, 30, 1], [90, 60, 2]]], np.ones((1, 3)))
    assert (heat == 1).all()
    assert (pafs == 1).all()


def test_a_joint_nobody_knows_is_not_punished_around_its_person():
    """The used joints span 40 x 8 pixels, and 0.3 x 40 + 2.5 x 4 = 22 more on every side: x to 82, y to 50."""
    heat, pafs = weights([[[20, 20, 0], [60, 28, 0], [0, 0, 5]]])
    expected = np.ones((12, 16))
    expected[:6, :10] = 0  # centres 3.5, 11.5, ...: rows up to 43.5, columns up to 75.5
    assert (heat[2] == expected).all()
    assert (heat[3] == expected).all()  # the background, too
    assert (heat[:2] == 1).all()
    assert (pafs[1] == expected).all()  # the limb that ends there
    assert (pafs[0] == 1).all()


def test_only_the_codes_asked_for_hide():
    joints = [[[20, 20, 0], [60, 28, 0], [0, 0, 4]]]
    assert (weights(joints, hidden=frozenset({5}))[0] == 1).all()
    assert (weights(joints, hidden=frozenset({4}))[0][2] == 0).any()


def test_another_persons_label_holds_within():
    heat, _ = weights([[[20, 20, 0], [60, 28, 0], [0, 0, 5]], [[30, 24, 0], [34, 24, 0], [40, 24, 0]]])
    rows, columns = 2, 4  # the cell at (35.5, 19.5), 6.4 pixels from the other person's tip
    assert heat[2, rows, columns] == 1
    assert heat[2, 0, 0] == 0


def test_unsure_labels_count_by_their_confidence():
    """The loss squares what is multiplied: 0.25 of sureness is a factor of 0.5."""
    heat, pafs = weights([[[20, 20, 0], [60, 20, 0], [100, 20, 0]]], np.array([[1.0, 0.25, 0.64]]))
    assert heat[0].min() == 1
    assert sorted(set(heat[1].ravel())) == [0.5, 1]
    assert heat[1, 2, 7] == 0.5  # at (59.5, 19.5)
    assert heat[2, 2, 12] == pytest.approx(0.8)
    assert pafs[0, 0, 2, 5] == 0.5  # a limb is as sure as its less sure end
    assert pafs[1, 1, 2, 9] == 0.5


def test_nobody_and_nobody_labelled():
    assert (weights(np.zeros((0, 3, 3)))[0] == 1).all()
    assert (weights([[[5, 5, 4], [9, 9, 5], [3, 3, 3]]])[0] == 1).all()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), people=st.integers(1, 4))
@example(seed=568, people=2)
def test_every_label_keeps_its_weight(seed: int, people: int):
    """Wherever a target is more than a trace, some label vouches for it: the weight is the surest one's there."""
    rng = np.random.default_rng(seed)
    joints = rng.uniform(-20, 140, (people, 3, 3))
    joints[..., 2] = rng.integers(0, 6, (people, 3))
    confidence = rng.uniform(0.1, 1, (people, 3))
    heat, pafs = weights(joints, confidence)
    heatmaps, fields = make_targets(joints, ARROW, **SHAPE)
    for joint in range(3):
        used = joints[:, joint, 2] <= 2
        strong = heatmaps[joint] > 0.3
        assert (heat[joint][strong] >= np.sqrt(confidence[used, joint].min(initial=1)) - 1e-6).all()
    drawn = np.abs(fields.reshape(2, 2, 12, 16)).max(axis=1) > 0
    assert (pafs[:, 0][drawn] > 0).all()
    assert (heat >= 0).all()
    assert (heat <= 1).all()
