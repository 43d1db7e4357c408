"""The frame of coordinates: round trips on odd sizes, and pictures that move with their points."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.errors import SpecError
from limbnet.geometry import Affine, FitMode, fit

MODES: tuple[FitMode, ...] = ("adjust_network_input", "pad_image_input", "stretch")
sides = st.integers(1, 700)


@given(h=sides, w=sides, x=st.floats(0, 1), y=st.floats(0, 1), mode=st.sampled_from(MODES))
def test_points_come_back_from_every_input(h: int, w: int, x: float, y: float, mode: FitMode) -> None:
    plan = fit((h, w), (72, 104), mode, 8)
    point = np.array([x * (w - 1), y * (h - 1)])
    np.testing.assert_allclose(plan.original(plan.transform.points(point)), point, atol=1e-6)
    assert plan.size[0] % 8 == 0
    assert plan.size[1] % 8 == 0


@given(h=sides, w=sides, mode=st.sampled_from(MODES))
def test_the_picture_has_the_size_that_was_planned(h: int, w: int, mode: FitMode) -> None:
    plan = fit((h, w), (40, 64), mode, 8)
    if max(plan.size) > 4000:
        return
    assert plan.image(np.zeros((h, w, 3), np.uint8)).shape == (*plan.size, 3)
    inside = plan.offset[0] + plan.resized[0] <= plan.size[0] and plan.offset[1] + plan.resized[1] <= plan.size[1]
    assert inside
    if mode != "adjust_network_input":
        assert plan.size == (40, 64)


def test_adjust_keeps_one_side_and_lets_the_other_grow() -> None:
    wide = fit((480, 640), (368, 368), "adjust_network_input", 8)
    assert wide.resized == (368, 491)
    assert wide.size == (368, 496)
    assert wide.transform.points(np.array([640.0, 480.0])) == pytest.approx([491, 368])
    tall = fit((640, 480), (368, 368), "adjust_network_input", 8)
    assert tall.resized == (491, 368)


def test_pad_centres_the_picture_on_grey() -> None:
    plan = fit((480, 640), (256, 256), "pad_image_input", 8)
    assert (plan.resized, plan.offset) == ((192, 256), (32, 0))
    np.testing.assert_allclose(plan.transform.points(np.array([100.0, 50.0])), [40.0, 52.0])  # 0.4 x, 0.4 y + 32
    padded = plan.image(np.zeros((480, 640, 3), np.uint8))
    assert (padded[:32] == 128).all()
    assert (padded[32:224] == 0).all()
    assert (padded[224:] == 128).all()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(211, 317), (317, 211), (97, 640)])
def test_the_picture_moves_with_its_points(mode: FitMode, size: tuple[int, int]) -> None:
    """The centre of a bright disc, measured in the fitted picture, lies where the transform sends it."""
    h, w = size
    yy, xx = np.mgrid[:h, :w]
    centre = np.array([0.37 * w, 0.61 * h])
    disc = np.exp(-(((xx + 0.5 - centre[0]) / (w / 9)) ** 2) - ((yy + 0.5 - centre[1]) / (h / 9)) ** 2)
    plan = fit(size, (160, 224), mode, 8)
    fitted = plan.image(np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=2))[..., 0].astype(float)
    top, left = plan.offset
    part = fitted[top : top + plan.resized[0], left : left + plan.resized[1]]
    rows, columns = np.mgrid[: part.shape[0], : part.shape[1]]
    measured = np.array([(columns + 0.5 + left) * part, (rows + 0.5 + top) * part]).sum(axis=(1, 2)) / part.sum()
    np.testing.assert_allclose(measured, plan.transform.points(centre), atol=0.15)


def test_points_outside_the_input_are_clipped_to_the_picture() -> None:
    plan = fit((100, 200), (64, 64), "pad_image_input", 8)
    np.testing.assert_array_equal(plan.original(np.array([[-50.0, -50.0], [500.0, 500.0]])), [[0, 0], [199, 99]])


numbers = st.floats(-3, 3)


@given(st.lists(numbers, min_size=12, max_size=12), st.lists(numbers, min_size=2, max_size=2))
def test_affine_algebra(values: list[float], point: list[float]) -> None:
    first, second = (Affine(np.array(half).reshape(2, 3) + np.eye(2, 3) * 8) for half in (values[:6], values[6:]))
    xy = np.array(point)
    np.testing.assert_allclose(first.then(second).points(xy), second.points(first.points(xy)), atol=1e-9)
    np.testing.assert_allclose(first.inverse().points(first.points(xy)), xy, atol=1e-9)


def test_centred_is_the_same_map_between_pixel_indices() -> None:
    half = Affine.scale_shift(0.5, 0.5).centred()  # two pixels become one: 0 and 1 lie around its centre
    np.testing.assert_allclose(half @ [0.5, 0.5, 1.0], [0.0, 0.0])
    picture = np.arange(64, dtype=np.float32).reshape(8, 8)
    warped = cv2.warpAffine(picture, half, (4, 4), flags=cv2.INTER_LINEAR)
    np.testing.assert_allclose(warped, picture.reshape(4, 2, 4, 2).mean(axis=(1, 3)), atol=1e-4)


def test_wrong_sizes_name_the_nearest_right_one() -> None:
    with pytest.raises(SpecError, match=r"300x400.*stride 8.\n.*304x400"):
        fit((480, 640), (300, 400), "stretch", 8)
    with pytest.raises(SpecError, match="keep_aspect_ratio_mode is 'crop'"):
        fit((480, 640), (304, 400), "crop", 8)  # type: ignore[arg-type]
