"""Views: what scales, paddings and mirroring do to places, and that their mean is aligned below a pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbnet.geometry import FitMode
from limbnet.runtime.views import View, cubic_weights, mean_maps, plan_views
from limbnet.skeleton import BODY_18, Skeleton

MODES: tuple[FitMode, ...] = ("adjust_network_input", "pad_image_input", "stretch")
SIDED = Skeleton.from_names(
    "sided",
    ("top", "left_hand", "right_hand"),
    [("top", "left_hand"), ("top", "right_hand"), ("left_hand", "right_hand")],
    sigmas=(0.1, 0.1, 0.1),
)


def cells_in_the_picture(view: View, shape: tuple[int, int], stride: int) -> tuple[NDArray, NDArray]:
    """Where in the original picture a view's map cells stand, written out once more: (h, w) x and y."""
    rows, columns = (np.arange(side // stride) * stride + (stride - 1) / 2 for side in view.fit.size)
    x, y = np.meshgrid(columns, rows)
    if view.mirrored:
        x = view.fit.size[1] - x
    original = view.fit.transform.inverse().points(np.stack([x, y], axis=-1))
    return original[..., 0], original[..., 1]


@settings(max_examples=80, deadline=None)
@given(
    shape=st.tuples(st.integers(60, 300), st.integers(60, 300)),
    mode=st.sampled_from(MODES),
    stride=st.sampled_from([4, 8]),
    scales=st.lists(st.sampled_from([0.5, 0.75, 1.0, 1.5, 2.0]), min_size=1, max_size=3, unique=True),
    flip=st.booleans(),
)
def test_the_mean_of_maps_of_one_smooth_function_is_that_function(
    shape: tuple[int, int], mode: FitMode, stride: int, scales: list[float], flip: bool
) -> None:
    """Every view samples a wave of the picture's own plane.

    Cubic convolution with a = -0.75 places values up to 0.047 cells wrong on a slope, for the sake of narrow peaks.
    Maps that were misplaced by a single pixel of the input (an eighth of a cell) would be noticed.
    """

    def wave(x: NDArray, y: NDArray) -> NDArray:
        return np.sin(3 * x / shape[1] + 1) * np.cos(2 * y / shape[0])

    views, too_long = plan_views(shape, (128, 160), mode, stride, scales=scales, flip=flip)
    assert not too_long
    heatmaps, pafs = [], []
    for view in views:
        values = wave(*cells_in_the_picture(view, shape, stride)).astype(np.float32)
        heatmaps.append(np.repeat(values[None], SIDED.heat_channels, axis=0))
        pafs.append(np.zeros((SIDED.paf_channels, *values.shape), np.float32))
    heat, _ = mean_maps(views, heatmaps, pafs, SIDED, stride)
    inside = np.s_[:, 6:-6, 6:-6]  # beyond a smaller map's edge its values repeat
    steepest = max(np.abs(np.diff(heatmaps[0][0], axis=axis)).max() for axis in (0, 1))
    np.testing.assert_allclose(heat[inside], heatmaps[-1][inside], atol=1e-5 + 0.08 * steepest * (1 - 1 / len(views)))


def test_scales_ascend_and_the_last_view_is_the_largest_as_it_is() -> None:
    views, _ = plan_views((427, 640), (368, 368), "pad_image_input", 8, scales=(2.0, 0.5, 1.0), flip=True)
    assert [view.fit.size for view in views] == [(184, 184)] * 2 + [(368, 368)] * 2 + [(736, 736)] * 2
    assert [view.mirrored for view in views] == [True, False] * 3


def test_a_scale_that_is_no_multiple_of_the_stride_is_rounded_up() -> None:
    (view,), _ = plan_views((100, 100), (368, 368), "stretch", 8, scales=(0.75,))
    assert view.fit.size == (280, 280)


@pytest.mark.parametrize(
    ("shape", "long"), [((10, 160), False), ((10, 161), True), ((161, 10), True), ((1, 20_000), True)]
)
def test_a_picture_too_long_to_adjust_to_is_padded(shape: tuple[int, int], long: bool) -> None:
    (view,), too_long = plan_views(shape, (64, 64), "adjust_network_input", 8)
    assert too_long is long
    assert max(view.fit.size) <= 64 * 16
    assert (view.fit.size == (64, 64)) is long


def test_mirrored_maps_get_their_own_names_and_directions_back() -> None:
    """A person in the middle whose left and right trade places: by hand, channel by channel."""
    views, _ = plan_views((64, 64), (64, 64), "stretch", 8, flip=True)
    random = np.random.default_rng(1)
    seen = random.random((4, 1, 1)).astype(np.float32) * np.ones((4, 8, 8), np.float32)
    field = random.random((6, 1, 1)).astype(np.float32) * np.ones((6, 8, 8), np.float32)
    zero_heat, zero_paf = np.zeros_like(seen), np.zeros_like(field)
    heat, paf = mean_maps(views, [seen, zero_heat], [field, zero_paf], SIDED, 8)
    np.testing.assert_allclose(2 * heat, seen[[0, 2, 1, 3]], atol=1e-6)
    # top-left becomes top-right with x reversed; left-right becomes right-left: swapped ends reverse both components.
    expected = np.stack([-field[2], field[3], -field[0], field[1], field[4], -field[5]])
    np.testing.assert_allclose(2 * paf, expected, atol=1e-6)


def test_one_view_passes_untouched() -> None:
    views, _ = plan_views((64, 64), (64, 64), "stretch", 8)
    heat = np.random.default_rng(0).random((19, 8, 8), np.float32)
    paf = np.random.default_rng(1).random((38, 8, 8), np.float32)
    assert mean_maps(views, [heat], [paf], BODY_18, 8)[0] is heat


@given(size=st.integers(2, 40), scale=st.floats(-2, 2), shift=st.floats(-5, 45), out=st.integers(1, 50))
def test_weights_keep_a_constant(size: int, scale: float, shift: float, out: int) -> None:
    np.testing.assert_allclose(cubic_weights(out, size, scale, shift).sum(axis=1), 1, atol=1e-5)


def test_weights_at_cells_are_the_identity() -> None:
    np.testing.assert_array_equal(cubic_weights(9, 9, 1.0, 0.0), np.eye(9))
    np.testing.assert_array_equal(cubic_weights(9, 9, -1.0, 8.0), np.eye(9)[::-1])


def test_a_mirrored_view_shows_the_mirrored_picture() -> None:
    picture = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    (mirrored, plain), _ = plan_views((64, 48), (64, 48), "stretch", 8, flip=True)
    np.testing.assert_array_equal(mirrored.image(picture), plain.image(picture)[:, ::-1])
    np.testing.assert_allclose(mirrored.transform.points(np.array([[10.0, 3.0]])), [[38.0, 3.0]])
