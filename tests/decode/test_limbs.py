"""Limb scores: the values of the original procedure, pair by pair."""

from __future__ import annotations

import numpy as np
import pytest
import reference_decoder
from crowds import random_crowd

from limbnet.decode import limbs as fast
from limbnet.decode.limbs import score_limbs
from limbnet.decode.peaks import find_peaks
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18, Skeleton

STICK = Skeleton("stick", ("a", "b"), ((0, 1),))
SETTINGS = DecoderSettings()

pytestmark = pytest.mark.usefixtures("both_decoders")


def stick_score(field_x: np.ndarray, settings: DecoderSettings = SETTINGS) -> float:
    """Score of a pair from column 3 to column 93 of points in row 20, in a field (h, w) of x components."""
    pafs = np.stack([field_x, np.zeros_like(field_x)]).astype(np.float32)
    points = np.array([[[3, 20]], [[93, 20]]], np.float32)
    return float(score_limbs(pafs, points, np.array([1, 1]), STICK, settings)[0, 0, 0])


def test_a_field_along_the_limb_scores_its_length() -> None:
    assert stick_score(np.full((5, 12), 0.6)) == pytest.approx(0.6, rel=1e-5)


def test_a_field_against_the_limb_scores_nothing() -> None:
    assert stick_score(np.full((5, 12), -0.6)) == 0
    assert stick_score(np.full((5, 12), 0.05)) == 0, "the threshold is strict"


@pytest.mark.parametrize(("dark_columns", "accepted"), [(1, True), (3, False)])
def test_nine_of_ten_samples_must_qualify(dark_columns: int, accepted: bool) -> None:
    # Samples stand ten points apart, a cell is eight points wide: one dark cell spoils one sample, three spoil two.
    field = np.ones((5, 12))
    field[:, 6 : 6 + dark_columns] = -1
    upsampled = reference_decoder.upsample(np.stack([field, 0 * field]).astype(np.float32), 8)
    score, count = reference_decoder.pair_score(upsampled, (3, 20, 1.0), (93, 20, 1.0), SETTINGS)
    assert (count >= 9) == accepted
    assert stick_score(field) == pytest.approx(score if accepted else 0, rel=1e-4)


def test_fewer_needed_samples_accept_more() -> None:
    field = np.ones((5, 12))
    field[:, 6:9] = -1
    assert stick_score(field, DecoderSettings(limb_samples_needed=6)) > 0
    assert stick_score(-field, DecoderSettings(limb_samples_needed=1)) > 0
    assert stick_score(field, DecoderSettings(limb_samples=1, limb_samples_needed=1)) > 0


@pytest.mark.parametrize("limit", [32766, 50, 90])
@pytest.mark.parametrize("noise", [0.0, 0.03])
def test_every_pair_scores_as_on_the_upsampled_field(limit: int, noise: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast, "ROWS", limit)  # small limits split the work as enormous maps would
    monkeypatch.setattr(fast, "SAMPLES", limit)
    crowd = random_crowd(5, 8, noise=noise)
    peaks = find_peaks(crowd.heatmaps[:-1], 8, 0.1, 64)
    scores = score_limbs(crowd.pafs, peaks.points, peaks.counts, BODY_18, SETTINGS)
    fields = reference_decoder.upsample(crowd.pafs, 8).reshape(19, 2, 288, 384)
    accepted = 0
    for limb, (start, end) in enumerate(BODY_18.limbs):
        for i in range(peaks.counts[start]):
            for j in range(peaks.counts[end]):
                a, b = (*peaks.points[start, i].astype(int), 0.0), (*peaks.points[end, j].astype(int), 0.0)
                score, count = reference_decoder.pair_score(fields[limb], a, b, SETTINGS)
                expected = score if count >= 9 and score > 0 else 0.0
                assert scores[limb, i, j] == pytest.approx(expected, abs=1e-4)
                accepted += expected > 0
    assert accepted > 50
    assert not scores[:, peaks.counts.max() :].any()


def test_both_ends_on_one_point_are_no_limb() -> None:
    points = np.full((2, 1, 2), 20, np.float32)
    assert not score_limbs(np.ones((2, 5, 5), np.float32), points, np.array([1, 1]), STICK, SETTINGS).any()


def test_no_peaks_no_scores() -> None:
    assert score_limbs(np.ones((2, 5, 5), np.float32), np.zeros((2, 0, 2), np.float32), np.zeros(2, int), STICK,
                       SETTINGS).shape == (1, 0, 0)  # fmt: skip
