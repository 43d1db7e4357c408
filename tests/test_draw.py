"""Drawings: in place, in proportion, and on the edge."""

from __future__ import annotations

import itertools
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from limbnet.draw import (
    DrawStyle,
    contact_sheet,
    draw_heatmaps,
    draw_pafs,
    draw_poses,
    line_thickness,
    person_size,
)
from limbnet.poses import Poses
from limbnet.skeleton import BODY_18, Skeleton

STICK = Skeleton.from_names("stick", ("a", "b", "c"), [("a", "b"), ("b", "c")], sigmas=(0.1, 0.1, 0.1))
GREY = np.full((120, 160, 3), 128, np.uint8)


def stick(*points: tuple[float, float], shape: tuple[int, int] = (120, 160)) -> Poses:
    keypoints = np.array([points], np.float32)
    scores = np.where(np.isnan(keypoints[..., 0]), 0, 0.8).astype(np.float32)
    return Poses(keypoints, scores, np.array([0.9], np.float32), STICK, shape)


def changed(before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.bool_]:
    return np.abs(before.astype(int) - after.astype(int)).max(axis=-1) > 8


def test_the_picture_itself_is_left_alone() -> None:
    picture = GREY.copy()
    drawn = draw_poses(picture, stick((20, 20), (80, 60), (20, 100)))
    np.testing.assert_array_equal(picture, GREY)
    assert drawn.shape == GREY.shape
    assert drawn.dtype == np.uint8
    assert changed(GREY, drawn).any()


def test_everything_drawn_lies_along_limbs_and_all_limbs_are_drawn() -> None:
    points = [(20.3, 20.8), (120.5, 60.2), (30.1, 100.9)]
    mark = changed(GREY, draw_poses(GREY, stick(*points)))
    rows, columns = np.mgrid[:120, :160]
    distance = np.full(GREY.shape[:2], np.inf)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        along = ((columns - x0) * (x1 - x0) + (rows - y0) * (y1 - y0)) / ((x1 - x0) ** 2 + (y1 - y0) ** 2)
        along = np.clip(along, 0, 1)
        limb = np.hypot(columns - x0 - along * (x1 - x0), rows - y0 - along * (y1 - y0))
        distance = np.minimum(distance, limb)
    thickness = line_thickness(person_size(np.array(points)))
    assert mark[distance < thickness / 2].all()
    assert not mark[distance > 2 * thickness + 1].any()


def test_a_dot_is_centred_on_its_joint_below_a_pixel() -> None:
    """The centre of mass of what is drawn, for a lone joint at a third of a pixel."""
    white = np.zeros((40, 40, 3), np.uint8)
    alone = stick((20.33, 15.66), (np.nan, np.nan), (np.nan, np.nan), shape=(40, 40))
    weight = draw_poses(white, alone, DrawStyle(outline=False, joint_radius=4)).sum(axis=-1).astype(float)
    rows, columns = np.mgrid[:40, :40]
    centre = (weight * columns).sum() / weight.sum(), (weight * rows).sum() / weight.sum()
    assert centre == pytest.approx((20.33, 15.66), abs=0.1)


@settings(max_examples=60, deadline=None)
@given(
    points=st.lists(
        st.tuples(st.floats(-500, 500), st.floats(-500, 500)) | st.just((float("nan"), float("nan"))),
        min_size=3,
        max_size=3,
    ),
    shape=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    scores=st.booleans(),
)
def test_people_anywhere_on_pictures_of_any_size(
    points: list[tuple[float, float]], shape: tuple[int, int], scores: bool
) -> None:
    picture = np.full((*shape, 3), 128, np.uint8)
    drawn = draw_poses(picture, stick(*points, shape=shape), DrawStyle(show_scores=scores))
    assert drawn.shape == picture.shape


def test_arrays_files_and_pil_images_are_drawn_alike(tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    points = np.array([[[10, 10], [30, 30]]], np.float32)
    skeleton = Skeleton.from_names("stick", ("a", "b"), [("a", "b")])
    poses = Poses(points, np.ones((1, 2), np.float32), np.ones(1, np.float32), skeleton, (40, 60))
    Image.fromarray(picture).save(tmp_path / "picture.png")
    drawn = poses.draw(picture)
    assert (drawn != picture).any()
    for same in (Image.fromarray(picture), tmp_path / "picture.png", str(tmp_path / "picture.png")):
        np.testing.assert_array_equal(poses.draw(same), drawn)


def test_nobody_leaves_the_picture_as_it_is() -> None:
    np.testing.assert_array_equal(draw_poses(GREY, Poses.empty(BODY_18, (120, 160))), GREY)
    np.testing.assert_array_equal(draw_poses(GREY[..., 0], Poses.empty(BODY_18, (120, 160))), GREY)


def test_thickness_follows_the_person_and_is_never_below_one() -> None:
    sizes = [1, 20, 100, 400, 2000]
    thickness = [line_thickness(size) for size in sizes]
    assert thickness == sorted(thickness)
    assert thickness[0] == 1
    assert line_thickness(10_000, 0.0) == 1
    assert thickness[-1] / 2000 < thickness[2] / 100
    areas = []
    for scale in (1, 4):
        picture = np.full((120 * scale, 160 * scale, 3), 128, np.uint8)
        pose = stick((20 * scale, 20 * scale), (120 * scale, 60 * scale), (30 * scale, 100 * scale), shape=(1, 1))
        areas.append(changed(picture, draw_poses(picture, pose)).sum() / scale)
    assert areas[1] > 1.5 * areas[0]


def test_styles_do_what_they_say() -> None:
    pose = stick((20, 20), (80, 60), (20, 100))
    plain = draw_poses(GREY, pose)
    mid = np.s_[40, 50]  # the middle of the first limb
    np.testing.assert_allclose(
        draw_poses(GREY, pose, DrawStyle(colours=((0, 255, 0),) * 2, opacity=1))[mid], (0, 255, 0)
    )
    faint = draw_poses(GREY, pose, DrawStyle(opacity=0.3))
    assert 0 < np.abs(faint[mid].astype(int) - 128).max() < np.abs(plain[mid].astype(int) - 128).max()
    assert changed(GREY, draw_poses(GREY, pose, DrawStyle(thickness=3))).sum() > 1.8 * changed(GREY, plain).sum()
    assert not changed(GREY, draw_poses(GREY, pose, DrawStyle(joint_threshold=0.9))).any()
    assert changed(plain, draw_poses(GREY, pose, DrawStyle(show_scores=True))).any()
    assert changed(plain, draw_poses(GREY, pose, DrawStyle(outline=False))).any()


def test_the_same_picture_is_drawn_twice_the_same() -> None:
    pose = stick((20, 20), (80, 60), (20, 100))
    np.testing.assert_array_equal(draw_poses(GREY, pose), pose.draw(GREY))


def test_a_heatmap_is_brightest_where_its_peak_is() -> None:
    heat = np.zeros((4, 15, 20), np.float32)
    heat[1, 5, 12] = 1
    drawn = draw_heatmaps(np.zeros((120, 160, 3), np.uint8), heat, STICK).sum(axis=-1)
    y, x = np.unravel_index(drawn.argmax(), drawn.shape)
    assert (abs(y - (5 * 8 + 3.5)) <= 4, abs(x - (12 * 8 + 3.5)) <= 4) == (True, True)
    assert drawn[100:, :40].max() == 0
    background = np.zeros((4, 15, 20), np.float32)
    background[3] = 1
    assert draw_heatmaps(np.zeros((120, 160, 3), np.uint8), background, STICK).max() == 0


@pytest.mark.parametrize(("vector", "hue"), [((1, 0), 0), ((0, 1), 90), ((-1, 0), 180), ((0, -1), 270)])
def test_a_field_shows_its_direction_as_hue(vector: tuple[int, int], hue: int) -> None:
    pafs = np.zeros((4, 15, 20), np.float32)
    pafs[2:, 3:8, 6:12] = np.reshape(vector, (2, 1, 1))
    drawn = draw_pafs(np.zeros((120, 160, 3), np.uint8), pafs)
    found = 2 * int(cv2.cvtColor(drawn[44:45, 72:73], cv2.COLOR_RGB2HSV)[0, 0, 0])
    assert abs((found - hue + 180) % 360 - 180) <= 4
    assert drawn[110, 150].max() == 0


def test_a_contact_sheet_keeps_shapes_and_fits_its_width() -> None:
    random = np.random.default_rng(0)
    pictures = [
        np.full((int(h), int(w), 3), 40 * n, np.uint8) for n, (h, w) in enumerate(random.integers(20, 90, (5, 2)))
    ]
    sheet = contact_sheet(pictures, columns=2, width=400, gap=10)
    assert sheet.shape[1] == 400
    assert (sheet[:10] == 255).all()
    assert (sheet[-10:] == 255).all()
    for number, picture in enumerate(pictures):
        rows, columns = np.nonzero((sheet == 40 * number).all(axis=-1))
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert width / height == pytest.approx(picture.shape[1] / picture.shape[0], rel=0.05)
    assert contact_sheet(pictures[:1], columns=1, width=100, gap=0).shape[1] == 100
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([])
