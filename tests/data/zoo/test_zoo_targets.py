"""Target encodings against slow twins, values by hand, and the decoders that must give the joints back."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbnet.data.zoo.targets import joint_targets, offset_targets, tag_cells, tag_heatmaps, within
from limbnet.decode.dekr import decode_offsets
from limbnet.decode.offsets import offset_view
from limbnet.decode.topdown import decode_crops

SIZE = (16, 12)  # height, width

Array = NDArray[np.float64]


def slow_joint(x: float, y: float, size: tuple[int, int], sigma: float, unbiased: bool) -> tuple[Array, float]:
    """Draw one joint's map cell by cell, after the text of HRNet's and DARK's papers and code."""
    heatmap = np.zeros(size)
    if not unbiased:
        x, y = int(x + 0.5), int(y + 0.5)
    for low, high, side in (
        (int(x - 3 * sigma), int(x + 3 * sigma + 1), size[1]),
        (int(y - 3 * sigma), int(y + 3 * sigma + 1), size[0]),
    ):
        if low >= side or high < 0:
            return heatmap, 0.0
    for row in range(size[0]):
        for column in range(size[1]):
            if unbiased or max(abs(row - y), abs(column - x)) <= 3 * sigma:
                heatmap[row, column] = math.exp(-((column - x) ** 2 + (row - y) ** 2) / (2 * sigma**2))
    return heatmap, 1.0


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(st.tuples(st.floats(-15, 30), st.floats(-15, 30), st.booleans()), min_size=1, max_size=4),
    sigma=st.sampled_from([1.0, 2.0, 3.0]),
    unbiased=st.booleans(),
)
def test_joint_maps_equal_the_slow_twin(points: list[tuple[float, float, bool]], sigma: float, unbiased: bool) -> None:
    cells, used = np.array([point[:2] for point in points]), np.array([point[2] for point in points])
    maps, weights = joint_targets(cells, used, SIZE, sigma, unbiased)
    assert maps.dtype == weights.dtype == np.float32
    for number, (x, y, labelled) in enumerate(points):
        expected, weight = slow_joint(x, y, SIZE, sigma, unbiased) if labelled else (np.zeros(SIZE), 0.0)
        assert weights[number] == weight
        np.testing.assert_allclose(maps[number], expected, atol=1e-6)


def test_joint_maps_by_hand() -> None:
    """Cell (5.5, 7.4): HRNet rounds it to (6, 7), DARK keeps it; sigma 2."""
    cells, used = np.array([[5.5, 7.4]]), np.array([True])
    maps, _ = joint_targets(cells, used, SIZE, 2.0, unbiased=False)
    assert maps[0, 7, 6] == 1
    assert maps[0, 7, 8] == pytest.approx(math.exp(-0.5))
    assert maps[0, 7, 0] == pytest.approx(math.exp(-4.5))  # 3 sigma away, the last cell that is drawn
    assert maps[0, 14, 6] == 0
    unbiased, _ = joint_targets(cells, used, SIZE, 2.0, unbiased=True)
    assert unbiased[0, 7, 5] == pytest.approx(math.exp(-(0.25 + 0.16) / 8))
    assert unbiased[0, 15, 6] > 0


def test_joints_beyond_reach_do_not_count() -> None:
    cells = np.array([[-7.6, 5.0], [-6.5, 5.0], [11.0, 5.0], [18.0, 5.0]])
    maps, weights = joint_targets(cells, np.ones(4, bool), SIZE, 2.0, unbiased=False)
    assert weights.tolist() == [1, 1, 1, 0]  # -7.6 becomes -7, whose last cell is -1: nothing is drawn, but it counts
    assert maps[0].max() == 0
    assert maps[1, 5, 0] == pytest.approx(math.exp(-4.5))


@settings(max_examples=40, deadline=None)
@given(x=st.floats(2.6, 9.4), y=st.floats(2.6, 13.4))
def test_decoders_find_the_joint_again(x: float, y: float) -> None:
    cells, used = np.array([[x, y]]), np.array([True])
    biased, _ = joint_targets(cells, used, SIZE, 2.0, unbiased=False)
    found, values = decode_crops(biased[None], "quarter")
    assert np.abs(found[0, 0] - cells[0]).max() <= 0.5
    assert values[0, 0] == 1
    unbiased, _ = joint_targets(cells, used, (48, 48), 2.0, unbiased=True)
    moved, _ = joint_targets(cells + 16, used, (48, 48), 2.0, unbiased=True)
    found, _ = decode_crops(moved[None], "dark")
    assert np.abs(found[0, 0] - 16 - cells[0]).max() < 0.02, unbiased.shape


def test_tag_heatmaps_equal_the_slow_twin() -> None:
    rng = np.random.default_rng(1)
    cells = rng.uniform(-3, 20, (5, 3, 2))
    used = rng.uniform(size=(5, 3)) < 0.8
    maps = tag_heatmaps(cells, used, SIZE, 2.0)
    expected = np.zeros((3, *SIZE))
    for person in range(5):
        for joint in range(3):
            x, y = cells[person, joint]
            if not used[person, joint] or not (0 <= x < SIZE[1] and 0 <= y < SIZE[0]):
                continue
            for row in range(SIZE[0]):
                for column in range(SIZE[1]):
                    if max(abs(row - int(y)), abs(column - int(x))) <= 7:  # 3 sigma + 1
                        value = math.exp(-((row - int(y)) ** 2 + (column - int(x)) ** 2) / 8)
                        expected[joint, row, column] = max(expected[joint, row, column], value)
    assert expected.any()
    np.testing.assert_allclose(maps, expected, atol=1e-6)


def test_tags_are_read_in_the_cell_that_holds_the_joint() -> None:
    cells = np.array([[[3.9, 2.1], [0.0, 0.0]], [[12.0, 1.0], [5.0, 15.99]]])
    used = np.array([[True, True], [True, True]])
    places = tag_cells(cells, used, SIZE)
    assert places.tolist() == [[2 * 12 + 3, 16 * 12], [-1, 16 * 12 + 15 * 12 + 5]]
    assert tag_cells(cells, ~used, SIZE).max() == -1
    assert within(np.array([[0, 0], [11.9, 15.9], [-0.1, 3], [12, 3]]), SIZE).tolist() == [True, True, False, False]


def dekr(cells: Array, used: NDArray[np.bool_], diagonals: Array, centred: NDArray[np.bool_], size: tuple[int, int]):  # type: ignore[no-untyped-def]
    return offset_targets(
        cells, used, diagonals, centred, size, sigma=2.0, centre_sigma=4.0, background_weight=0.1, radius=4
    )


def test_offsets_by_hand() -> None:
    """Joints at (10, 10) and (13.5, 12): the centre (11.75, 11), whose cell is (11, 11)."""
    cells = np.array([[[10.0, 10.0], [13.5, 12.0]]])
    drawn = dekr(cells, np.ones((1, 2), bool), np.array([40.0]), np.array([True]), (32, 32))
    assert drawn.heatmaps[0, 10, 10] == 1
    assert drawn.heatmaps[1, 12, 13] == pytest.approx(math.exp(-0.25 / 8))
    assert drawn.heatmaps[2, 11, 12] == pytest.approx(math.exp(-(0.25**2) / 32))
    assert drawn.offset_weights[0, 7:15, 7:15].min() == pytest.approx(1 / 40)
    assert np.count_nonzero(drawn.offset_weights[0]) == 64
    assert drawn.offset_weights[0, 15, 11] == 0
    # offset = cell - joint; channels x0 y0 x1 y1
    assert drawn.offsets[:, 9, 8].tolist() == [-2, -1, -5.5, -3]
    # a window of 3 sigma + 1 (before) and + 2 (behind, rounded up) around the joint weighs 1, the rest 0.1
    assert drawn.heatmap_weights[0, 10, 3] == 1
    assert drawn.heatmap_weights[0, 10, 2] == pytest.approx(0.1)
    assert drawn.heatmap_weights[0, 17, 10] == 1
    assert drawn.heatmap_weights[0, 18, 10] == pytest.approx(0.1)
    assert drawn.heatmaps[0, 10, 2] == 0


def test_small_people_win_where_areas_overlap_and_tiny_ones_have_no_centre() -> None:
    cells = np.array([[[10.0, 10.0]], [[12.0, 10.0]], [[25.0, 25.0]]])
    used = np.ones((3, 1), bool)
    drawn = dekr(cells, used, np.array([30.0, 90.0, 5.0]), np.array([True, True, False]), (32, 32))
    assert drawn.offset_weights[0, 10, 10] == pytest.approx(1 / 30)
    assert drawn.offset_weights[0, 10, 15] == pytest.approx(1 / 90)
    assert drawn.offsets[0, 10, 10] == 0
    assert drawn.offsets[0, 10, 15] == 3
    assert drawn.offset_weights[0, 25, 25] == 0
    assert drawn.heatmaps[0, 25, 25] == 1
    assert drawn.heatmaps[1, 25, 25] < 0.01


def test_joints_outside_the_map_and_people_without_joints_draw_nothing() -> None:
    cells = np.array([[[10.0, 10.0], [40.0, 10.0]], [[5.0, 5.0], [6.0, 6.0]]])
    used = np.array([[True, True], [False, False]])
    drawn = dekr(cells, used, np.array([30.0, 0.0]), np.array([True, True]), (32, 32))
    assert drawn.heatmaps[1].max() == 0
    assert drawn.heatmaps[2, 10, 25] == 1  # the centre is the mean of labelled joints, seen or not
    assert drawn.offset_weights[2:].max() == 0
    assert drawn.offset_weights[0, 10, 25] > 0


def test_dekr_finds_people_again() -> None:
    rng = np.random.default_rng(3)
    middles = np.array([[20.0, 20.0], [45.0, 40.0]])
    cells = middles[:, None] + rng.uniform(-10, 10, (2, 17, 2))
    drawn = dekr(cells, np.ones((2, 17), bool), np.full(2, 80.0), np.ones(2, bool), (64, 64))
    heat, offsets = drawn.heatmaps, drawn.offsets
    people = decode_offsets([offset_view(1.0, (heat, offsets), None, np.arange(17))])
    found = people.keypoints[np.argsort(people.keypoints[:, :, 0].mean(axis=1))]
    assert len(found) == 2
    np.testing.assert_allclose(found, cells * 4, atol=1e-3)
