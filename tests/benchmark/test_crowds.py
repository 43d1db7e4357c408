"""Crowds of any skeleton: as many people as asked for, and the decoder finds them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.benchmark.crowds import crowd, crowd_maps, standing
from limbnet.decode.bottomup import decode_maps
from limbnet.skeleton import BODY_18, Skeleton

STAR = Skeleton.from_names(
    "star", ("hub", "north", "east", "south", "west"), [("hub", end) for end in ("north", "east", "south", "west")]
)


@st.composite
def trees(draw: st.DrawFn) -> Skeleton:
    """Skeletons of 2 to 20 joints: random trees with up to two limbs more."""
    count = draw(st.integers(2, 20))
    limbs = [(draw(st.integers(0, joint - 1)), joint) for joint in range(1, count)]
    turned = [limb[::-1] if draw(st.booleans()) else limb for limb in limbs]
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)).filter(lambda pair: pair[0] != pair[1])
    more = [pair for pair in draw(st.lists(pairs, max_size=2)) if not {pair, pair[::-1]} & set(turned)]
    return Skeleton("tree", tuple(f"joint{number}" for number in range(count)), tuple(dict.fromkeys(turned + more)))


@given(trees())
def test_joints_of_any_skeleton_stand_apart(skeleton: Skeleton) -> None:
    places = standing(skeleton)
    assert places.shape == (len(skeleton.joints), 2)
    assert (places >= 0).all()
    assert (places <= 1).all()
    apart = np.abs(places[:, None] - places[None]).max(axis=-1)
    assert apart[~np.eye(len(places), dtype=bool)].min() > 0.01


def test_the_tree_hangs_from_the_joint_with_most_limbs() -> None:
    np.testing.assert_allclose(standing(STAR), [(0.5, 0), (0.125, 1), (0.375, 1), (0.625, 1), (0.875, 1)])
    assert standing(BODY_18)[BODY_18.joints.index("neck"), 1] == 0


@pytest.mark.parametrize("people", [1, 10, 30])
@pytest.mark.parametrize(("skeleton", "stride"), [(BODY_18, 8), (BODY_18, 4), (STAR, 8)])
def test_the_decoder_finds_everybody(skeleton: Skeleton, stride: int, people: int) -> None:
    heatmaps, pafs = crowd_maps(people, skeleton, (288, 384), stride)
    assert heatmaps.shape == (skeleton.heat_channels, 288 // stride, 384 // stride)
    assert pafs.shape == (skeleton.paf_channels, 288 // stride, 384 // stride)
    assert len(decode_maps(heatmaps, pafs, skeleton, stride)) == people


def test_a_crowd_is_always_the_same_and_inside() -> None:
    first, second = (crowd(12, BODY_18, (224, 320), np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert first.shape == (12, 18, 2)
    assert (first.min(axis=(0, 1)) > 0).all()
    assert (first.max(axis=(0, 1)) < (320, 224)).all()
    np.testing.assert_array_equal(crowd_maps(3, STAR, (64, 96), 8)[0], crowd_maps(3, STAR, (64, 96), 8)[0])
