"""Matching of poses to heatmaps: against SciPy's fit, on Gaussians whose middle is known, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import curve_fit

from limbnet.decode.matching import MatchSettings, match_to_heatmaps


def gaussian(place, a, x0, y0, sigma):
    x, y = place
    return a * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))


def scene(rng, count, size=(60, 80), noise=0.01):
    """Return heatmaps (K, H, W) with one Gaussian each, and their middles (K, 2)."""
    y, x = np.mgrid[: size[0], : size[1]]
    middles = rng.uniform((2, 2), (size[1] - 3, size[0] - 3), (count, 2))
    maps = [gaussian((x, y), rng.uniform(0.3, 1), *middle, rng.uniform(1.5, 3)) for middle in middles]
    return (np.array(maps) + rng.normal(0, noise, (count, *size))).astype(np.float32), middles


def test_middles_are_those_of_scipys_fit() -> None:
    rng = np.random.default_rng(0)
    heatmaps, middles = scene(rng, 30)
    start = (middles + rng.uniform(-1, 1, middles.shape)).astype(np.float32)[None]
    settings = MatchSettings(distance=0.0)  # no peaks: the fit alone
    found = match_to_heatmaps(start, np.ones((1, 30), np.float32), heatmaps, settings)[0]
    for number in range(30):
        x, y = np.trunc(start[0, number] + 0.5).astype(int)
        low_x, low_y = max(x - 6, 0), max(y - 6, 0)
        window = heatmaps[number, low_y : y + 7, low_x : x + 7]
        v, u = np.indices(window.shape)
        guess = (heatmaps[number, y, x], x - low_x, y - low_y, 2.0)
        best, _ = curve_fit(gaussian, (u.ravel(), v.ravel()), window.ravel(), p0=guess)
        assert found[number] == pytest.approx((best[1] + low_x, best[2] + low_y), abs=2e-3)
    assert np.abs(found - middles).max() < 0.3


def test_joints_move_to_the_nearest_peak_within_reach() -> None:
    rng = np.random.default_rng(1)
    heatmaps, middles = scene(rng, 3, noise=0.0)
    far = middles + np.array([[5, 0], [0, -20], [30, 30]])
    settings = MatchSettings(distance=25.0, score_threshold=0.5)
    scores = np.array([[1.0, 0.2, 1.0]], np.float32)
    found = match_to_heatmaps(far[None].astype(np.float32), scores, heatmaps, settings)[0]
    np.testing.assert_allclose(found[0], middles[0], atol=1e-3)
    assert np.abs(found[1] - middles[1]).max() <= 0.5  # its score is too low for a fit: the peak's pixel
    assert np.array_equal(found[1], np.rint(found[1]))
    assert np.abs(found[2] - far[2]).max() <= 0.5 + 1e-3  # too far, and nothing to fit there


def test_flat_maps_move_nothing() -> None:
    points = np.random.default_rng(2).uniform(0, 40, (2, 3, 2)).astype(np.float32)
    found = match_to_heatmaps(points, np.ones((2, 3), np.float32), np.zeros((3, 40, 40), np.float32))
    assert np.isfinite(found).all()
    assert np.abs(found - points).max() <= 0.5 + 1e-3
    nobody = match_to_heatmaps(points[:0], np.ones((0, 3), np.float32), np.zeros((3, 40, 40), np.float32))
    assert nobody.shape == (0, 3, 2)
