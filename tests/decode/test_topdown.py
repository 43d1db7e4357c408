"""Heatmaps of crops to joints: against the slow twin, by hand, and on Gaussians whose summit is known."""

from __future__ import annotations

import numpy as np
import pytest
import topdown_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from limbnet.decode.topdown import decode_crops


def gaussians(centres, size, sigma=2.0):
    """Return heatmaps (N, 1, h, w) with a Gaussian each at centres (N, 2) x, y."""
    y, x = np.mgrid[: size[0], : size[1]]
    squares = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    return np.exp(-squares / (2 * sigma**2)).astype(np.float32)[:, None]


@pytest.mark.parametrize(("refinement", "slow"), [("quarter", twin.quarter), ("dark", twin.dark)])
def test_agrees_with_the_slow_twin_everywhere_on_the_map(refinement, slow) -> None:
    rng = np.random.default_rng(0)
    maps = gaussians(rng.uniform(-2, (50, 66), (300, 2)), (64, 48)) * rng.uniform(0.05, 1.2, (300, 1, 1, 1))
    maps += rng.normal(0, 0.01, maps.shape)  # also below zero, as a network's
    maps = maps.astype(np.float32).reshape(100, 3, 64, 48)
    points, values = decode_crops(maps, refinement)
    for person in range(100):
        for joint in range(3):
            x, y, value = slow(maps[person, joint])
            assert points[person, joint] == pytest.approx((x, y), abs=2e-4)
            assert values[person, joint] == value


@settings(max_examples=60, deadline=None)
@given(arrays(np.float32, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=12), elements=st.integers(-2, 3)))
def test_any_small_map_decodes_as_the_twin_does(heatmap) -> None:
    """Flat, tied, empty and negative maps, and those smaller than any neighbourhood."""
    for refinement, slow in (("quarter", twin.quarter), ("none", None)):
        points, values = decode_crops(heatmap[None, None], refinement)
        if slow is not None:
            assert (*points[0, 0], values[0, 0]) == slow(heatmap)
        elif values[0, 0] > 0:
            assert heatmap[int(points[0, 0, 1]), int(points[0, 0, 0])] == heatmap.max()
    points, _ = decode_crops(heatmap[None, None], "dark")
    assert np.isfinite(points).all()


@pytest.mark.parametrize("sigma", [2.0, 3.0])
def test_dark_finds_the_summit_of_a_gaussian(sigma) -> None:
    """A Gaussian smoothed by a Gaussian is one, and its logarithm is the parabola that the step assumes."""
    centres = np.random.default_rng(1).uniform(12, 36, (200, 2))
    points, _ = decode_crops(gaussians(centres, (48, 48), sigma), "dark")
    assert np.abs(points[:, 0] - centres).max() < 0.01


def test_a_quarter_towards_the_larger_neighbour() -> None:
    heatmap = np.zeros((1, 4, 6, 6), np.float32)
    heatmap[:, :, 3, 2] = 1
    heatmap[0, 0, 3, 3], heatmap[0, 0, 2, 2] = 0.5, 0.2
    heatmap[0, 1, 3, 1] = 0.5
    heatmap[0, 2, 3, 1] = 2  # column 1 is too near the border
    points, values = decode_crops(heatmap)
    np.testing.assert_array_equal(points[0], [[2.25, 2.75], [1.75, 3], [1, 3], [2, 3]])
    np.testing.assert_array_equal(values[0], [1, 1, 2, 1])


def test_nothing_there() -> None:
    maps = np.zeros((1, 3, 8, 8), np.float32)
    maps[0, 1] = -1
    maps[0, 2] = np.nan
    for refinement in ("none", "quarter", "dark"):
        points, values = decode_crops(maps, refinement, empty_cell=-1)
        assert (points == -1).all()
        assert (values <= 0).all()
    points, values = decode_crops(maps[:0], "dark")
    assert points.shape == (0, 3, 2)
    assert values.shape == (0, 3)


def test_the_floor_of_the_logarithm_depends_on_the_former_maximum() -> None:
    """A narrow peak in a wide trough: two cells from it the smoothed map is negative, so the floor counts there."""
    peak, trough = gaussians(np.array([[15.3, 15.1]]), (30, 30), 1), gaussians(np.array([[15.5, 15.4]]), (30, 30), 3)
    heatmap = peak - np.float32(0.25) * trough
    points, _ = decode_crops(heatmap, "dark")
    slow = twin.dark(heatmap[0, 0])[:2]
    assert points[0, 0] == pytest.approx(slow, abs=1e-4)
    assert np.abs(points[0, 0] - (15, 15)).max() > 1e-3
