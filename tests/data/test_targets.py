"""Target maps: hand-derived values, and a slow twin that follows the formulas cell by cell."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbnet.data.targets import make_targets
from limbnet.skeleton import BODY_18, Skeleton

STAR = Skeleton.from_names("star", ["a", "b", "c"], [("a", "b"), ("c", "a")])


def slow_targets(
    joints: NDArray[np.float64],
    skeleton: Skeleton,
    map_size: tuple[int, int],
    stride: int,
    sigma: float,
    paf_distance: float,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw the maps as the formulas are written, one cell, joint and person after the other."""
    h, w = map_size
    middle = (stride - 1) / 2
    heat = np.zeros((len(skeleton.joints) + 1, h, w))
    for joint in range(len(skeleton.joints)):
        for r in range(h):
            for c in range(w):
                x, y = stride * c + middle, stride * r + middle
                for px, py, code in joints[:, joint]:
                    if code in (0, 1, 2):
                        value = math.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2))
                        heat[joint, r, c] = max(heat[joint, r, c], value)
                if heat[joint, r, c] < 0.001:
                    heat[joint, r, c] = 0
    for r in range(h):
        for c in range(w):
            heat[-1, r, c] = min(1, max(0, 1 - max(heat[:-1, r, c])))
    pafs = np.zeros((2 * len(skeleton.limbs), h, w))
    reach = stride * paf_distance
    for limb, (start, end) in enumerate(skeleton.limbs):
        count = np.zeros((h, w))
        for ax, ay, a_code, bx, by, b_code in np.concatenate([joints[:, start], joints[:, end]], axis=1):
            length = math.hypot(bx - ax, by - ay)
            if a_code not in (0, 1, 2) or b_code not in (0, 1, 2) or length == 0:
                continue
            columns = range(
                max(0, round((min(ax, bx) - reach) / stride)), min(w, round((max(ax, bx) + reach) / stride))
            )
            rows = range(max(0, round((min(ay, by) - reach) / stride)), min(h, round((max(ay, by) + reach) / stride)))
            for r in rows:
                for c in columns:
                    x, y = stride * c + middle, stride * r + middle
                    if abs((ay - y) * (bx - ax) - (ax - x) * (by - ay)) / length <= reach:
                        pafs[2 * limb, r, c] += (bx - ax) / length
                        pafs[2 * limb + 1, r, c] += (by - ay) / length
                        count[r, c] += 1
        pafs[2 * limb : 2 * limb + 2] /= np.maximum(count, 1)
    return heat, pafs


def people(*joints: tuple[float, float, int], count: int = len(BODY_18.joints)) -> NDArray[np.float64]:
    """Return one person whose first joints are given; the others are unlabelled."""
    return np.array([[*joints, *[(0.0, 0.0, 4)] * (count - len(joints))]], dtype=np.float64)


def test_gaussian_values_at_known_distances() -> None:
    """At sigma 7: 3.5 pixels off on both axes 0.7788008, on one axis 0.8824969, at the joint 1."""
    heat, _ = make_targets(
        people((80, 80, 0), (83.5, 80, 0), (83.5, 83.5, 2)), BODY_18, (32, 32), 8, sigma=7, paf_distance=1
    )
    assert heat[0, 10, 10] == pytest.approx(0.7788008, abs=1e-7)
    assert heat[1, 10, 10] == pytest.approx(0.8824969, abs=1e-7)
    assert heat[2, 10, 10] == 1
    assert heat.shape == (19, 32, 32)
    assert heat.dtype == np.float32


def test_gaussians_end_at_their_radius() -> None:
    """Values below 0.001, further than 26.018 pixels at sigma 7, are nothing."""
    near, far = 83.5 - 26.0, 83.5 - 26.05
    heat, _ = make_targets(people((near, 83.5, 0), (far, 83.5, 0)), BODY_18, (32, 32), 8, sigma=7, paf_distance=1)
    assert heat[0, 10, 10] == pytest.approx(math.exp(-(26**2) / 98), abs=1e-7)
    assert heat[1, 10, 10] == 0


def test_background_is_what_no_joint_covers() -> None:
    heat, _ = make_targets(people((83.5, 83.5, 0), (0, 0, 0)), BODY_18, (32, 32), 8, sigma=7, paf_distance=1)
    assert heat[-1, 10, 10] == 0
    assert heat[-1, 31, 31] == 1
    np.testing.assert_allclose(heat[-1], 1 - heat[:-1].max(axis=0), atol=1e-7)


def test_codes_above_occluded_are_not_learnt() -> None:
    for code in (3, 4, 5):
        heat, pafs = make_targets(people(*[(80, 80, code)] * 18), BODY_18, (32, 32), 8, sigma=7, paf_distance=1)
        assert not heat[:-1].any()
        assert not pafs.any()


def test_joint_outside_still_reaches_in() -> None:
    heat, _ = make_targets(people((-5, 20, 0)), BODY_18, (32, 32), 8, sigma=7, paf_distance=1)
    assert heat[0].max() == pytest.approx(math.exp(-((8.5**2) + 0.5**2) / 98), abs=1e-7)


def test_field_of_a_level_limb() -> None:
    """A limb along y = 83.5 covers rows whose centres are at most 8 pixels off, 8 included, inside its rectangle."""
    joints = np.array([[(43.5, 83.5, 0), (123.5, 83.5, 0), (0, 0, 4)]])
    _, pafs = make_targets(joints, STAR, (32, 32), 8, sigma=7, paf_distance=1)
    rows, columns = np.nonzero(pafs[0])
    # Rows round((83.5 - 8) / 8) = round(9.4375) = 9 up to round((83.5 + 8) / 8) = round(11.4375) = 11, excluded; the
    # centre of row 9, 75.5, is exactly 8 away. Columns likewise from round(4.4375) = 4 up to round(16.4375) = 16.
    assert set(rows) == {9, 10}
    assert (columns.min(), columns.max()) == (4, 15)
    assert (pafs[0][pafs[0] != 0] == 1).all()
    assert not pafs[1:].any()


def test_overlapping_people_share_a_field() -> None:
    """Where two limbs cross, the field is the mean of their unit vectors, and nobody erases anybody."""
    level = [(43.5, 83.5, 0), (123.5, 83.5, 0), (0, 0, 4)]
    upright = [(83.5, 43.5, 0), (83.5, 123.5, 0), (0, 0, 4)]
    both, one = np.array([level, upright], float), np.array([level], float)
    _, pafs = make_targets(both, STAR, (32, 32), 8, sigma=7, paf_distance=1)
    _, alone = make_targets(one, STAR, (32, 32), 8, sigma=7, paf_distance=1)
    assert pafs[:2, 10, 10] == pytest.approx([0.5, 0.5])
    apart = (alone[0] != 0) & (pafs[1] == 0)
    assert apart.any()
    assert (pafs[0][apart] == 1).all()


def test_limb_without_length_is_left_out() -> None:
    joints = np.array([[(50, 50, 0), (50, 50, 0), (90, 50, 0)]], float)
    _, pafs = make_targets(joints, STAR, (32, 32), 8, sigma=7, paf_distance=1)
    assert not pafs[:2].any()
    assert pafs[2].min() == -1


def test_nobody() -> None:
    heat, pafs = make_targets(np.zeros((0, 18, 3)), BODY_18, (4, 6), 8, sigma=7, paf_distance=1)
    assert heat.shape == (19, 4, 6)
    assert (heat[-1] == 1).all()
    assert not heat[:-1].any()
    assert pafs.shape == (38, 4, 6)
    assert not pafs.any()


coordinates = st.floats(-60, 160, allow_nan=False) | st.integers(-8, 16).map(lambda n: 8.0 * n + 3.5)


@settings(max_examples=40, deadline=None)
@given(
    joints=st.lists(
        st.lists(st.tuples(coordinates, coordinates, st.integers(0, 5)), min_size=3, max_size=3), min_size=0, max_size=4
    ),
    map_size=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    stride=st.sampled_from([1, 4, 8, 16]),
    sigma=st.floats(0.8, 20),
    paf_distance=st.floats(0.3, 3),
)
def test_agrees_with_the_slow_twin(
    joints: list[list[tuple[float, float, int]]],
    map_size: tuple[int, int],
    stride: int,
    sigma: float,
    paf_distance: float,
) -> None:
    array = np.array(joints, dtype=np.float64).reshape(-1, 3, 3)
    heat, pafs = make_targets(array, STAR, map_size, stride, sigma=sigma, paf_distance=paf_distance)
    slow_heat, slow_pafs = slow_targets(array, STAR, map_size, stride, sigma, paf_distance)
    # A value within rounding of the cut-off may fall to either side.
    undecided = (np.abs(slow_heat - 0.001) < 1e-9) | ((slow_heat == 0) & (np.abs(heat - 0.001) < 1e-6))
    undecided[-1] |= undecided[:-1].any(axis=0)
    np.testing.assert_allclose(np.where(undecided, 0, heat), np.where(undecided, 0, slow_heat), atol=1e-6)
    np.testing.assert_allclose(pafs, slow_pafs, atol=1e-6)


def test_agrees_with_the_slow_twin_on_whole_people() -> None:
    rng = np.random.default_rng(3)
    joints = np.concatenate([rng.uniform(-20, 148, (4, 18, 2)), rng.integers(0, 6, (4, 18, 1))], axis=2)
    heat, pafs = make_targets(joints, BODY_18, (16, 16), 8, sigma=7, paf_distance=1)
    slow_heat, slow_pafs = slow_targets(joints, BODY_18, (16, 16), 8, 7, 1)
    np.testing.assert_allclose(heat, slow_heat, atol=1e-6)
    np.testing.assert_allclose(pafs, slow_pafs, atol=1e-6)


def test_five_people_take_milliseconds_at_most() -> None:
    """The promise is 1 ms (`benchmarks/labels.py`); a machine that others use is given more here."""
    rng = np.random.default_rng(0)
    joints = np.concatenate([rng.uniform(0, 256, (5, 18, 2)), np.zeros((5, 18, 1))], axis=2)
    times = []
    for _ in range(40):
        started = time.perf_counter()
        make_targets(joints, BODY_18, (32, 32), 8, sigma=7, paf_distance=1)
        times.append(time.perf_counter() - started)
    assert min(times) < 5e-3
