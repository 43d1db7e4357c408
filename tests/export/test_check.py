"""The check behind every export notices what it is there to notice."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from lively import STICK

from limbnet.errors import ModelFileError
from limbnet.export.check import check_tolerance, compare, match_people
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Maps

INFO = ModelInfo(STICK, stride=8, input_size=(64, 96))


def stick_maps(people: list[tuple[float, float]], hand: float = 1.0) -> Maps:
    """Maps of stick people with their necks at the given cells (x, y): head above, hands to the sides."""
    rows, columns = np.mgrid[0:8, 0:12].astype(np.float32)
    heat, paf = np.zeros((1, 5, 8, 12), np.float32), np.zeros((1, 6, 8, 12), np.float32)
    for x, y in people:
        places = [(x, y - 2), (x, y), (x - 2, y), (x + 2, y)]
        for joint, (column, row) in enumerate(places):
            peak = np.exp(-((columns - column) ** 2 + (rows - row) ** 2) / 3.0)
            heat[0, joint] = np.maximum(heat[0, joint], peak * (hand if joint == 3 else 1.0))
        for limb, (start, end) in enumerate(STICK.limbs):
            (x0, y0), (x1, y1) = places[start], places[end]
            direction = np.array([x1 - x0, y1 - y0]) / 2
            along = ((columns - x0) * direction[0] + (rows - y0) * direction[1]) / 2
            across = np.abs((columns - x0) * direction[1] - (rows - y0) * direction[0])
            inside = (along >= -0.2) & (along <= 1.2) & (across <= 1)
            paf[0, 2 * limb][inside], paf[0, 2 * limb + 1][inside] = direction
    return Maps(heat, paf)


@dataclass
class Fixed:
    """An engine that says the same about every picture."""

    maps: Maps
    name: str = "fixed"
    info: ModelInfo = INFO

    def run(self, images: np.ndarray) -> Maps:
        return Maps(self.maps.heatmaps.repeat(len(images), 0), self.maps.pafs.repeat(len(images), 0))


PICTURES = [("a.jpg", np.zeros((64, 96, 3), np.uint8))] * 3


def test_equal_maps_deviate_by_nothing() -> None:
    maps = stick_maps([(5, 4)])
    found = compare(Fixed(maps), Fixed(maps), PICTURES)
    assert found.people == (3, 3)
    assert (found.joints, found.moved, found.lost, found.gained, found.largest) == (12, 0, 0, 0, 0.0)


def test_deviations_are_shares_of_the_range() -> None:
    maps = stick_maps([(5, 4)])
    other = Maps(maps.heatmaps.copy(), maps.pafs.copy())
    other.heatmaps[0, 4, 7, 11] += 0.25
    other.pafs[0, 0, 7, 11] -= 0.5  # pafs span -1 to 1
    found = compare(Fixed(maps), Fixed(other), PICTURES, batch=2)
    assert found.heatmaps["largest"] == pytest.approx(0.25 / np.ptp(maps.heatmaps), rel=1e-4)
    assert found.heatmaps["mean"] == pytest.approx(0.25 / np.ptp(maps.heatmaps) / maps.heatmaps.size, rel=1e-4)
    assert found.pafs["largest"] == pytest.approx(0.25, rel=1e-4)


def test_moved_lost_and_gained_joints_are_counted() -> None:
    reference = Fixed(stick_maps([(5, 4)]))
    moved = compare(reference, Fixed(stick_maps([(5.4, 4)])), PICTURES[:1])
    assert moved.moved >= 3  # 0.4 cells are 3.2 pixels
    assert moved.largest_move > 1
    lost = compare(reference, Fixed(stick_maps([])), PICTURES[:1])
    assert (lost.people, lost.lost, lost.gained) == ((1, 0), 4, 0)
    gained = compare(reference, Fixed(stick_maps([(5, 4), (9, 4)])), PICTURES[:1])
    assert (gained.people, gained.lost) == ((1, 2), 0)


def test_a_joint_at_the_threshold_is_a_tie() -> None:
    info = replace(INFO, decoder=replace(INFO.decoder, min_joints=3))
    above = Fixed(stick_maps([(5, 4)], hand=0.1005), info=info)
    below = Fixed(stick_maps([(5, 4)], hand=0.0995), info=info)
    found = compare(above, below, PICTURES[:1])
    assert found.lost == 1
    assert found.ties == [("a.jpg", "right_hand", pytest.approx(0.1005, abs=1e-3))]
    assert compare(Fixed(stick_maps([(5, 4)], hand=0.2), info=info), below, PICTURES[:1]).ties == []


def test_maps_that_are_not_finite_are_refused() -> None:
    maps = stick_maps([(5, 4)])
    bad = Maps(maps.heatmaps.copy(), maps.pafs)
    bad.heatmaps[0, 0, 0, 0] = np.nan
    with pytest.raises(ModelFileError, match="heatmaps that are not finite"):
        compare(Fixed(maps), Fixed(bad), PICTURES)


def test_float_files_have_a_tolerance_and_int8_has_none() -> None:
    maps = stick_maps([(5, 4)])
    far = Maps(maps.heatmaps + np.float32(1e-3), maps.pafs)
    deviation = compare(Fixed(maps), Fixed(far), PICTURES[:1])
    with pytest.raises(ModelFileError, match="Nothing was written"):
        check_tolerance(deviation, "fp32")
    check_tolerance(deviation, "fp16")
    check_tolerance(deviation, "int8")


def test_people_are_matched_nearest_first() -> None:
    first = np.array([[[0.0, 0.0], [10, 0]], [[50, 50], [60, 50]]])
    second = np.array([[[51.0, 50], [np.nan, np.nan]], [[300, 300], [310, 300]], [[1, 0], [11, 0]]])
    assert sorted(match_people(first, second)) == [(0, 2), (1, 0)]
    assert match_people(first[:0], second) == []
    missing = np.full((1, 2, 2), np.nan)
    assert match_people(missing, second) == []
