"""Suppression by similarity, scores of people, and the flip test."""

from __future__ import annotations

import numpy as np
import pytest
import topdown_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.decode.flip import flip_average, unmirror
from limbnet.decode.nms import oks_matrix, oks_nms, person_scores
from limbnet.skeleton import COCO_17

SIGMAS = np.array(COCO_17.sigmas)


def similar_poses(seed, count):
    """Return poses that are copies of a few, moved by some pixels, with scores and areas."""
    rng = np.random.default_rng(seed)
    models = rng.uniform(0, 100, (3, 17, 2))
    poses = models[rng.integers(0, 3, count)] + rng.normal(0, 3, (count, 17, 2))
    return poses, rng.random(count), rng.uniform(2000, 9000, count)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(0, 12), st.sampled_from([0.3, 0.6, 0.9]))
def test_suppression_is_the_twins(seed, count, threshold) -> None:
    poses, scores, areas = similar_poses(seed, count)
    matrix = oks_matrix(poses, areas, SIGMAS)
    for n in range(count):
        for m in range(count):
            assert matrix[n, m] == pytest.approx(twin.oks(poses[n], poses[m], areas[n], areas[m], SIGMAS))
    kept = oks_nms(poses, scores, areas, SIGMAS, threshold)
    assert kept.tolist() == twin.greedy_nms(poses, np.float32(scores), areas, SIGMAS, threshold)


def test_equal_scores_keep_their_order_and_the_threshold_itself_stays() -> None:
    poses = np.zeros((2, 17, 2))
    assert oks_nms(poses, np.ones(2), np.ones(2), SIGMAS, 0.9).tolist() == [0]
    assert oks_nms(poses, np.ones(2), np.ones(2), SIGMAS, 1.0).tolist() == [0, 1]  # not above


def test_scores_by_hand() -> None:
    joints = np.array([[0.5, 0.7, 0.2], [0.1, 0.2, 0.0]], np.float32)
    np.testing.assert_allclose(person_scores(joints, np.array([0.5, 1.0])), [0.3, 0.0], rtol=1e-6)


def test_mirrored_maps_come_back() -> None:
    maps = np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3)
    back = unmirror(maps, np.array([1, 0]))
    assert back.tolist() == [[[[8, 7, 6], [11, 10, 9]], [[2, 1, 0], [5, 4, 3]]]]
    shifted = unmirror(maps, np.array([1, 0]), shift=1)
    assert shifted[0, 0].tolist() == [[8, 8, 7], [11, 11, 10]]  # the first column stays
    np.testing.assert_array_equal(unmirror(back, np.array([1, 0])), maps)
    np.testing.assert_array_equal(flip_average(maps, back, np.array([1, 0])), maps)
