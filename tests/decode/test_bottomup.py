"""From maps to people: the same people as the original procedure, and sane answers to bad input."""

from __future__ import annotations

import numpy as np
import pytest
import reference_decoder
from agreement import disagreements, is_tie
from crowds import STRIDE, Crowd, drawn, random_crowd, render, upright
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.decode.bottomup import Candidates, decode_maps, find_candidates, group_candidates
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18, Skeleton

pytestmark = pytest.mark.usefixtures("both_decoders")

SETTINGS = DecoderSettings()


def decode(crowd: Crowd, settings: DecoderSettings = SETTINGS) -> People:
    return decode_maps(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, settings)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    people=st.integers(1, 30),
    missing=st.sampled_from([0.0, 0.1, 0.4]),
    noise=st.sampled_from([0.0, 0.0, 0.01, 0.02]),
)
def test_same_people_as_the_original_procedure(seed: int, people: int, missing: float, noise: float) -> None:
    crowd = random_crowd(seed, people, missing=missing, noise=noise)
    expected = reference_decoder.decode(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, SETTINGS)
    found = disagreements(decode(crowd), expected)
    assert not found or is_tie(crowd, SETTINGS)


@pytest.mark.long
def test_a_thousand_crowds() -> None:
    different, mine, theirs = [], [], []
    for seed in range(1000):
        crowd = random_crowd(10**7 + seed, 1 + seed % 30, noise=(0.0, 0.01, 0.02)[seed % 3])
        people = decode(crowd)
        expected = reference_decoder.decode(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, SETTINGS)
        found = disagreements(people, expected)
        if found and not is_tie(crowd, SETTINGS):
            different.append((seed, found))
        mine.append(mean_error(people, crowd))
        theirs.append(mean_error(expected, crowd))
    assert len(different) <= 2, different
    assert np.nanmean(mine) < 0.7 * np.nanmean(theirs)


def mean_error(people: People, crowd: Crowd) -> float:
    """Mean distance of found joints to the nearest true joint of their kind."""
    apart = np.linalg.norm(people.keypoints[:, None] - crowd.joints[None], axis=-1)
    nearest = np.nan_to_num(apart, nan=np.inf).min(axis=1, initial=np.inf)
    return float(np.mean(nearest[np.isfinite(nearest)])) if np.isfinite(nearest).any() else np.nan


def test_one_person_to_a_tenth_of_a_pixel() -> None:
    truth = upright(100.3, 70.7)
    people = decode(drawn(truth))
    assert len(people) == 1
    np.testing.assert_allclose(people.keypoints[0], truth, atol=0.1)
    assert people.keypoints.dtype == people.joint_scores.dtype == people.scores.dtype == np.float32
    assert people.joint_scores.min() > 0.85
    assert people.joint_scores.max() <= 1
    assert 0.9 < people.scores[0] < 1
    assert people.warnings == ()


def test_missing_joints_are_nan_and_score_zero() -> None:
    truth = upright(100, 70)
    truth[[4, 10]] = np.nan
    people = decode(drawn(truth))
    assert np.isnan(people.keypoints[0]).all(axis=-1).nonzero()[0].tolist() == [4, 10]
    assert people.joint_scores[0, [4, 10]].tolist() == [0, 0]


def test_two_people_side_by_side_best_first() -> None:
    whole, cut = upright(90, 70), upright(270, 70)
    cut[8:] = np.nan
    people = decode(drawn(cut, whole))
    assert len(people) == 2
    assert people.scores[0] > people.scores[1]
    np.testing.assert_allclose(people.keypoints[0], whole, atol=0.1)


def test_any_skeleton_and_stride() -> None:
    hand = Skeleton("hand", ("palm", "thumb", "tip", "end"), ((0, 1), (1, 2), (2, 3)))
    joints = np.array(
        [[(20, 20), (60, 30), (90, 60), (110, 100)], [(30, 110), (50, 130), (80, 140), (115, 145)]], float
    )
    for stride in (4, 8, 16):
        scaled = (joints + 0.5) * stride / 8 - 0.5
        heatmaps, pafs = render(scaled, hand, (20, 18), stride, sigma=0.875 * stride)
        people = decode_maps(heatmaps, pafs, hand, stride)
        assert len(people) == 2
        for person in people.keypoints:
            assert np.abs(scaled - person).max(axis=(1, 2)).min() < 0.05 * stride


def test_nobody() -> None:
    people = decode(drawn())
    assert people.keypoints.shape == (0, 18, 2)
    assert people.joint_scores.shape == (0, 18)
    assert people.scores.shape == (0,)
    assert people.warnings == ()


def test_one_joint_only_is_nobody() -> None:
    lone = np.full((18, 2), np.nan)
    lone[0] = 100, 100
    assert len(decode(drawn(lone))) == 0


def test_more_peaks_than_the_cap_are_reported_with_its_name() -> None:
    crowd = random_crowd(3, 12, missing=0.0, height=(60, 90))
    assert decode(crowd).warnings == ()
    people = decode(crowd, DecoderSettings(max_peaks=4))
    assert len(people) <= 4
    assert len(people.warnings) == 1
    assert "max_peaks = 4" in people.warnings[0]
    assert "weaker candidates for '" in people.warnings[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_count_as_empty_and_are_reported(value: float) -> None:
    truth = upright(100, 70)
    crowd = drawn(truth)
    crowd.heatmaps[4] = value  # a wrist, the end of its chain
    crowd.pafs[:, 0, 40:] = value
    people = decode(crowd)
    assert len(people) == 1
    truth[4] = np.nan
    np.testing.assert_allclose(people.keypoints[0], truth, atol=0.1)
    assert [warning.split(" values")[0] for warning in people.warnings] == ["1728 of 31104", "304 of 65664"]
    assert not np.isfinite(crowd.heatmaps[4]).any(), "the caller's maps stay as they are"


def test_all_nan_is_nobody_and_a_warning() -> None:
    people = decode_maps(np.full((19, 6, 6), np.nan, np.float32), np.full((38, 6, 6), np.nan, np.float32), BODY_18, 8)
    assert len(people) == 0
    assert len(people.warnings) == 2


@pytest.mark.parametrize("kind", ["uniform", "normal", "flat"])
def test_maps_full_of_noise_stay_within_the_cap(kind: str) -> None:
    rng = np.random.default_rng(0)
    draw = {"uniform": rng.random, "normal": rng.standard_normal, "flat": np.ones}[kind]
    heatmaps, pafs = draw((19, 36, 48)).astype(np.float32), draw((38, 36, 48)).astype(np.float32)
    candidates = find_candidates(heatmaps, pafs, BODY_18, 8, SETTINGS)
    assert candidates.peaks.shape[1] <= SETTINGS.max_peaks
    people = group_candidates(candidates, BODY_18, SETTINGS)
    assert "max_peaks = 64" in people.warnings[0]
    assert np.isfinite(people.scores).all()


@pytest.mark.parametrize("size", [(1, 1), (1, 20), (20, 1), (2, 2), (3, 5)])
def test_tiny_maps(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    heatmaps, pafs = rng.random((19, *size), dtype=np.float32), rng.random((38, *size), dtype=np.float32)
    people = decode_maps(heatmaps, pafs, BODY_18, 8)
    places = people.keypoints[~np.isnan(people.keypoints)]
    assert len(people) <= 8 * 8 * size[0] * size[1]
    assert places.min(initial=0) >= -0.5
    assert places.max(initial=0) <= 8 * max(size) - 0.5


def test_views_and_half_precision_are_taken() -> None:
    crowd = drawn(upright(100, 70))
    once = decode(crowd)
    mirrored_twice = decode_maps(
        np.ascontiguousarray(crowd.heatmaps[:, :, ::-1])[:, :, ::-1], crowd.pafs.astype(np.float64), BODY_18, 8
    )
    np.testing.assert_array_equal(once.keypoints, mirrored_twice.keypoints)
    half = decode_maps(crowd.heatmaps.astype(np.float16), crowd.pafs.astype(np.float16), BODY_18, 8)
    np.testing.assert_allclose(half.keypoints, once.keypoints, atol=0.2)


def test_maps_of_another_skeleton_are_refused() -> None:
    with pytest.raises(ValueError, match=r"K\+1=19.*got \(18, 6, 6\)"):
        decode_maps(np.zeros((18, 6, 6), np.float32), np.zeros((38, 6, 6), np.float32), BODY_18, 8)
    with pytest.raises(ValueError, match="2L=38"):
        decode_maps(np.zeros((19, 6, 6), np.float32), np.zeros((38, 6, 5), np.float32), BODY_18, 8)


def test_padded_candidates_group_to_the_same_people() -> None:
    crowd = random_crowd(11, 6)
    exact = find_candidates(crowd.heatmaps, crowd.pafs, BODY_18, 8, SETTINGS)
    more = 64 - exact.peaks.shape[1]
    padded = Candidates(
        np.pad(exact.peaks, ((0, 0), (0, more), (0, 0))), np.pad(exact.limb_scores, ((0, 0), (0, more), (0, more))),
        exact.found,
    )  # fmt: skip
    one, other = (group_candidates(candidates, BODY_18, SETTINGS) for candidates in (exact, padded))
    np.testing.assert_array_equal(one.keypoints, other.keypoints)
    np.testing.assert_array_equal(one.scores, other.scores)


def test_thresholds_are_honoured() -> None:
    crowd = drawn(upright(100, 70))
    faint = Crowd(crowd.joints, crowd.heatmaps * np.float32(0.5), crowd.pafs * np.float32(0.5))
    assert len(decode(faint)) == 1
    assert len(decode(faint, DecoderSettings(heatmap_threshold=0.6))) == 0
    assert len(decode(faint, DecoderSettings(paf_threshold=0.7))) == 0
    assert len(decode(faint, DecoderSettings(min_joints=19))) == 0
    assert len(decode(faint, DecoderSettings(min_score=1.5))) == 0
