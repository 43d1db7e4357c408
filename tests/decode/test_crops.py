"""Crop geometry: against transforms through three points, there and back, and by hand."""

from __future__ import annotations

import numpy as np
import pytest
import topdown_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.decode.crops import Crops

SIDES = st.floats(2, 500)
BOXES = st.tuples(st.floats(-50, 300), st.floats(-50, 300), SIDES, SIDES)


@settings(max_examples=80, deadline=None)
@given(BOXES, st.sampled_from([(256, 192), (384, 288), (128, 160)]), st.booleans())
def test_three_points_make_the_same_transform(box, size, unbiased) -> None:
    matrix = Crops.around(np.array([box]), size, unbiased).matrices(size)[0]
    slow = twin.three_point_crop(box, size, unbiased)
    places = np.array([[box[0], box[1], 1], [box[0] + box[2], box[1] + box[3], 1]]).T
    np.testing.assert_allclose(matrix @ places, slow @ places, atol=0.05)  # OpenCV solves it in single precision


@settings(max_examples=50, deadline=None)
@given(BOXES, st.booleans(), st.floats(0, 47), st.floats(0, 63))
def test_there_and_back(box, unbiased, x, y) -> None:
    """A map of the input's own size is undone by the crop's matrix."""
    crops = Crops.around(np.array([box]), (64, 48), unbiased)
    point = crops.to_picture(np.array([[[x, y]]]), (64, 48))[0, 0]
    assert crops.from_picture(point[None, None], (64, 48))[0, 0] == pytest.approx((x, y), abs=1e-6)
    matrix = crops.matrices((64, 48))[0]
    assert matrix @ (*point, 1) == pytest.approx((x, y), abs=1e-6)


def test_by_hand() -> None:
    """A box of 60 x 40 at (10, 20): the height grows to 60 / 0.75 = 80, then both by a quarter: 75 x 100."""
    crops = Crops.around(np.array([[10.0, 20, 60, 40]]), (256, 192))
    assert crops.centres.tolist() == [[40, 40]]
    assert crops.sizes.tolist() == [[75, 100]]
    assert crops.areas.tolist() == [7500]
    # cell (0, 0) is the crop's corner, cell (48, 64) would be the opposite one
    np.testing.assert_allclose(
        crops.to_picture(np.array([[[0.0, 0], [48, 64]]]), (64, 48))[0], [[2.5, -10], [77.5, 90]]
    )
    unbiased = Crops.around(np.array([[10.0, 20, 61, 41]]), (256, 192), unbiased=True)
    assert unbiased.centres.tolist() == [[40, 40]]
    # now the last cell (47, 63) is the crop's last pixel: width 61 * 1.25 - 1 from first to last
    first, last = unbiased.to_picture(np.array([[[0.0, 0], [47, 63]]]), (64, 48))[0]
    assert last[0] - first[0] == pytest.approx(61 * 1.25 - 1)


def test_crops_show_the_box_and_black_outside() -> None:
    picture = np.full((40, 40, 3), 200, np.uint8)
    picture[10:20, 8:16] = 90
    crops = Crops.around(np.array([[-40.0, 10, 8, 10], [8, 10, 8, 10]]), (64, 48))
    outside, inside = crops.images(picture, (64, 48))
    assert (outside == 0).all()
    assert inside[32, 24].tolist() == [90, 90, 90]
    assert inside[2, 2].tolist() == [200, 200, 200]


def test_a_speck_has_a_crop_and_no_box_has_none() -> None:
    speck = Crops.around(np.array([[5.0, 5, 0.1, 0.1]]), (256, 192), unbiased=True)
    assert np.isfinite(speck.matrices((256, 192))).all()
    nobody = Crops.around(np.zeros((0, 4)), (256, 192))
    assert nobody.images(np.zeros((9, 9, 3), np.uint8), (256, 192)).shape == (0, 256, 192, 3)
    assert nobody.to_picture(np.zeros((0, 17, 2)), (64, 48)).shape == (0, 17, 2)
