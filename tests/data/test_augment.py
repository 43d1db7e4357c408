"""Spatial augmentation: the parity numbers, slow twins of matrices and warp, and picture and joints together."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbnet.data.augment import (
    SpatialDraw,
    SpatialMode,
    draw_spatial,
    needed_size,
    spatial_transform,
    transform_joints,
    warp_mask,
    warp_picture,
)
from limbnet.data.masks import WHOLE_PICTURE
from limbnet.data.samples import Picture, Sample
from limbnet.geometry import Affine
from limbnet.skeleton import BODY_18
from limbnet.specs.train import SpatialAugParams


def sample(height: int = 480, width: int = 640, centre: tuple[float, float] = (300, 200), box: float = 128) -> Sample:
    picture = Picture("", height, width, WHOLE_PICTURE)
    return Sample(picture, np.zeros((1, 18, 3)), None, np.array(centre, dtype=np.float64), box)


def matrix(
    mode: SpatialMode | None, draw: SpatialDraw, of: Sample, size: tuple[int, int], scale: float = 0.6
) -> NDArray[np.float64]:
    return spatial_transform(mode, draw, of, size, scale).matrix


draws = st.builds(
    SpatialDraw,
    st.booleans(),
    st.booleans(),
    st.tuples(st.floats(-80, 80), st.floats(-80, 80)),
    st.floats(0.4, 2.5),
    st.floats(-math.pi, math.pi),
)


def test_person_centric_zoom() -> None:
    """Input 256x256, box 128 high, share 0.6: 0.6 / (0.5 + 1e-5)."""
    found = matrix(None, SpatialDraw(), sample(), (256, 256))
    assert found[0, 0] == pytest.approx(1.1999760, abs=1e-7)
    assert found[1, 1] == pytest.approx(1.1999760, abs=1e-7)


def test_person_centric_measures_the_person_against_the_height() -> None:
    found = matrix("person_centric", SpatialDraw(), sample(), (288, 384))
    assert found[0, 0] == pytest.approx(0.6 / (128 / 288 + 1e-5))


@given(draw=draws)
def test_person_centric_puts_the_shifted_centre_into_the_middle(draw: SpatialDraw) -> None:
    transform = spatial_transform("person_centric", draw, sample(), (256, 320), 0.6)
    np.testing.assert_allclose(transform.points(np.array([300, 200]) + draw.shift), (160, 128), atol=1e-9)


@given(draw=draws)
def test_person_centric_is_the_product_of_its_parts(draw: SpatialDraw) -> None:
    """T(W//2, H//2) F Z R T(-(c + t)), written as 3x3 matrices."""

    def shift(x: float, y: float) -> NDArray[np.float64]:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    zoom = 0.6 / ((128 / 256) * draw.zoom + 1e-5)
    cos, sin = math.cos(draw.angle), math.sin(draw.angle)
    flip = np.diag([-1 if draw.flip_lr else 1, -1 if draw.flip_tb else 1, 1])
    rotation = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    product = shift(160, 128) @ flip @ np.diag([zoom, zoom, 1]) @ rotation
    product = product @ shift(-(300 + draw.shift[0]), -(200 + draw.shift[1]))
    np.testing.assert_allclose(matrix("person_centric", draw, sample(), (256, 320)), product[:2], atol=1e-9)


def test_standard_fits_and_pads() -> None:
    """640x480 to 256x256: x' = 0.4 x, y' = 0.4 y + 32."""
    found = matrix("standard", SpatialDraw(), sample(), (256, 256))
    np.testing.assert_allclose(found, [[0.4, 0, 0], [0, 0.4, 32]], atol=1e-12)


def test_standard_with_fixed_aspect_ratio_stretches() -> None:
    """640x480 to 256x256: x' = 0.4 x, y' = 0.53333 y."""
    found = matrix("standard_with_fixed_aspect_ratio", SpatialDraw(), sample(), (256, 256))
    np.testing.assert_allclose(found, [[0.4, 0, 0], [0, 256 / 480, 0]], atol=1e-12)


@given(draw=draws, height=st.integers(20, 900), width=st.integers(20, 900))
def test_standard_is_a_similarity(draw: SpatialDraw, height: int, width: int) -> None:
    """No shear and one scale, for any picture and input; a zoom above 1 makes everything smaller."""
    linear = matrix("standard", draw, sample(height, width), (256, 320))[:, :2]
    scale = min(256 / height, 320 / width) / draw.zoom
    np.testing.assert_allclose(linear @ linear.T, scale**2 * np.eye(2), atol=1e-9)


def original_procedure(draw: SpatialDraw, side: int, size: int) -> NDArray[np.float64]:
    """BodyPoseNet's quadrilateral for a square picture and a square input, where it has no shear; zoom turned round."""
    corners = np.array([[0, 0], [0, 1], [1, 1], [1, 0]], dtype=np.float64)  # TL, BL, BR, TR
    cos, sin = math.cos(draw.angle), math.sin(draw.angle)
    moved = (corners - 0.5) @ np.array([[cos, -sin], [sin, cos]]) - np.array(draw.shift) / side
    moved = moved / (1 / draw.zoom) + 0.5
    if draw.flip_lr:
        moved = moved[::-1]
    if draw.flip_tb:
        moved = moved[[1, 0, 3, 2]]
    top_left, bottom_left, _, top_right = moved * side
    basis = np.column_stack([(top_right - top_left) / size, (bottom_left - top_left) / size])
    linear = np.linalg.inv(basis)
    return np.column_stack([linear, -linear @ top_left])


@given(draw=draws, side=st.integers(50, 800), mode=st.sampled_from(["standard", "standard_with_fixed_aspect_ratio"]))
def test_square_pictures_follow_the_original_procedure(draw: SpatialDraw, side: int, mode: SpatialMode) -> None:
    found = matrix(mode, draw, sample(side, side), (256, 256))
    np.testing.assert_allclose(found, original_procedure(draw, side, 256), rtol=1e-8, atol=1e-7)


@pytest.mark.parametrize("mode", ["person_centric", "standard", "standard_with_fixed_aspect_ratio"])
def test_zoom_above_one_zooms_out(mode: SpatialMode) -> None:
    large = matrix(mode, SpatialDraw(), sample(), (256, 256))[0, 0]
    assert matrix(mode, SpatialDraw(zoom=2), sample(), (256, 256))[0, 0] == pytest.approx(large / 2, rel=1e-4)


def test_draws_stay_in_their_ranges_and_minimum_defaults_to_minus_maximum() -> None:
    params = SpatialAugParams(
        rotate_deg_max=10, zoom_prob=0.5, zoom_ratio_min=0.5, zoom_ratio_max=2, translate_max_x=3, translate_min_y=1
    )
    found = [draw_spatial(params, (100, 200), np.random.default_rng(n)) for n in range(400)]
    assert {draw.shift[0] for draw in found} == set(range(-3, 4))
    assert {draw.shift[1] for draw in found} == set(range(1, 41))
    angles = np.degrees([draw.angle for draw in found])
    assert (angles.min(), angles.max()) == pytest.approx((-10, 10), abs=0.3)
    assert 0.4 < np.mean([draw.zoom == 1 for draw in found]) < 0.6
    assert 0.4 < np.mean([draw.flip_lr for draw in found]) < 0.6
    assert not any(draw.flip_tb for draw in found)


def test_shift_as_a_share_of_the_picture() -> None:
    params = SpatialAugParams(use_translate_ratio=True, translate_ratio_max=0.2)
    found = np.array([draw_spatial(params, (100, 200), np.random.default_rng(n)).shift for n in range(400)])
    np.testing.assert_allclose(np.abs(found).max(axis=0), (40, 20), rtol=0.05)


def test_mirrored_people_exchange_sides() -> None:
    joints = np.arange(54, dtype=np.float64).reshape(1, 18, 3)
    transform = Affine.scale_shift(-1, 1, 100, 0)
    moved = transform_joints(joints, transform, True, BODY_18)
    left, right = BODY_18.joints.index("left_wrist"), BODY_18.joints.index("right_wrist")
    np.testing.assert_array_equal(moved[0, left], [100 - joints[0, right, 0], *joints[0, right, 1:]])
    nose = BODY_18.joints.index("nose")
    assert moved[0, nose, 0] == 100 - joints[0, nose, 0]
    np.testing.assert_array_equal(transform_joints(joints, transform, False, BODY_18)[..., 2], joints[..., 2])


def slow_warp(
    picture: NDArray[np.uint8], transform: Affine, size: tuple[int, int], background: float
) -> NDArray[np.float64]:
    """Sample at pixel centres, four neighbours, each outside one replaced by the background."""
    h, w = picture.shape[:2]
    out = np.zeros((*size, *picture.shape[2:]))
    inverse = transform.inverse()
    for j in range(size[0]):
        for i in range(size[1]):
            x, y = inverse.points(np.array([i + 0.5, j + 0.5])) - 0.5
            left, top = math.floor(x), math.floor(y)
            for row, down in ((top, 1 - (y - top)), (top + 1, y - top)):
                for column, across in ((left, 1 - (x - left)), (left + 1, x - left)):
                    inside = 0 <= row < h and 0 <= column < w
                    out[j, i] += down * across * (picture[row, column] if inside else background)
    return out


@settings(max_examples=10, deadline=None)
@given(draw=draws)
def test_warp_agrees_with_the_slow_twin(draw: SpatialDraw) -> None:
    rng = np.random.default_rng(5)
    picture = rng.integers(0, 256, (37, 53, 3), dtype=np.uint8)
    mask = (rng.random((37, 53)) > 0.5).astype(np.uint8) * 255
    transform = spatial_transform("standard", draw, sample(37, 53), (24, 32), 0.6)
    warped = warp_picture(picture, transform, (37, 53), (24, 32))
    np.testing.assert_allclose(warped, slow_warp(picture, transform, (24, 32), 127), atol=0.51)
    cells = warp_mask(mask, transform, (3, 4), 8)
    np.testing.assert_allclose(cells, slow_warp(mask, transform, (24, 32), 255)[::8, ::8], atol=0.05)


def test_background_beyond_the_border() -> None:
    far = Affine.scale_shift(1, 1, 1000, 1000)
    assert (warp_picture(np.zeros((8, 8, 3), np.uint8), far, (8, 8), (16, 16)) == 127).all()
    assert (warp_mask(np.zeros((8, 8), np.uint8), far, (2, 2), 8) == 255).all()


def test_mask_cells_are_every_eighth_pixel() -> None:
    mask = np.random.default_rng(0).integers(0, 2, (64, 64)).astype(np.uint8) * 255
    np.testing.assert_array_equal(warp_mask(mask, Affine.scale_shift(1, 1), (8, 8), 8), mask[::8, ::8])


@settings(max_examples=25, deadline=None)
@given(draw=draws, mode=st.sampled_from(["person_centric", "standard", "standard_with_fixed_aspect_ratio"]))
def test_a_mark_in_the_picture_stays_on_its_joint(draw: SpatialDraw, mode: SpatialMode) -> None:
    """A blob drawn around a joint lies where the transformed joint lies; pixel i covers i to i + 1."""
    ys, xs = np.mgrid[:240, :320] + 0.5
    x, y = 150.0, 110.0
    blob = np.exp(-((xs - x) ** 2 + (ys - y) ** 2) / (2 * 6.0**2))
    picture = np.repeat((blob * 255).astype(np.uint8)[..., None], 3, axis=2)
    of = sample(240, 320, centre=(x, y), box=100)
    transform = spatial_transform(mode, draw, of, (192, 192), 0.6)
    target = transform.points(np.array([x, y]))
    reach = 18 * np.linalg.norm(transform.matrix[:, :2], ord=2) + 1
    if not ((target > reach) & (target < 192 - reach)).all():
        return
    warped = warp_picture(picture, transform, (240, 320), (192, 192))[..., 0].astype(np.float64)
    window = np.hypot(*(np.mgrid[:192, :192] + 0.5 - target[::-1, None, None])) < reach
    weights = np.where(window, warped, 0)
    rows, columns = np.mgrid[:192, :192] + 0.5
    found = np.array([(columns * weights).sum(), (rows * weights).sum()]) / weights.sum()
    np.testing.assert_allclose(found, target, atol=0.7)


def test_reduced_pictures_land_in_the_same_place() -> None:
    """Half the pixels under the same transform: the same input, but for the finer detail."""
    ys, xs = np.mgrid[:200, :300]
    smooth = np.stack([xs * 0.8, ys * 1.2, (xs + ys) * 0.5], axis=-1).astype(np.uint8)
    half = smooth.reshape(100, 2, 150, 2, 3).mean(axis=(1, 3)).astype(np.uint8)
    transform = Affine.scale_shift(0.4, 0.4, 5, 7)
    whole = warp_picture(smooth, transform, (200, 300), (96, 128)).astype(int)
    reduced = warp_picture(half, transform, (200, 300), (96, 128)).astype(int)
    assert np.abs(whole - reduced)[9:84, 7:120].max() <= 2


def test_needed_size() -> None:
    assert needed_size(Affine.scale_shift(0.25, 0.25), (480, 640)) == (120, 160)
    assert needed_size(Affine.scale_shift(3, 3), (480, 640)) == (480, 640)
    assert needed_size(Affine.scale_shift(0.25, 0.5), (480, 640)) == (240, 320)
