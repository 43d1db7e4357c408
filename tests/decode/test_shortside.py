"""Fitting by the short side: sizes by hand, the transform there and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.decode.shortside import ShortSideFit
from limbnet.errors import SpecError


@pytest.mark.parametrize(
    ("picture", "side", "smallest", "sizes"),
    [
        ((480, 640), 512, 1.0, {1.0: (512, 704)}),  # 512 * 640 / 480 = 682.7
        ((640, 480), 512, 1.0, {1.0: (704, 512), 2.0: (1408, 1024)}),
        ((480, 640), 512, 0.5, {0.5: (256, 384), 1.0: (512, 768), 2.0: (1024, 1536)}),  # 341.3 to 384
        ((400, 400), 640, 1.0, {1.0: (640, 640), 0.5: (320, 320)}),
    ],
)
def test_sizes(picture, side, smallest, sizes) -> None:
    fit = ShortSideFit.plan(picture, side, smallest)
    assert {scale: fit.size(scale) for scale in sizes} == sizes


@settings(max_examples=60, deadline=None)
@given(st.integers(20, 900), st.integers(20, 900), st.sampled_from([0.5, 1.0]), st.floats(0, 500), st.floats(0, 500))
def test_there_and_back_at_every_scale(height, width, smallest, x, y) -> None:
    fit = ShortSideFit.plan((height, width), 512, smallest)
    inside = fit.matrix() @ (x, y, 1)
    assert fit.to_picture(inside) == pytest.approx((x, y), abs=1e-6)
    assert all(side % 64 == 0 for side in fit.smallest)
    np.testing.assert_allclose(fit.matrix(2.0)[:, :2], 2 * fit.matrix()[:, :2])
    middle = int(width / 2 + 0.5), int(height / 2 + 0.5)
    assert fit.matrix() @ (*middle, 1) == pytest.approx((fit.size()[1] / 2, fit.size()[0] / 2))


def test_what_the_long_side_gained_is_black() -> None:
    picture = np.full((480, 640, 3), 200, np.uint8)
    image = ShortSideFit.plan((480, 640), 512).image(picture)
    assert image.shape == (512, 704, 3)
    assert (image[:, :9] == 0).all()
    assert (image[:, -9:] == 0).all()
    assert (image[1:-1, 14:-14] == 200).all()


def test_scales_are_positive() -> None:
    with pytest.raises(SpecError, match="scales"):
        ShortSideFit.plan((10, 10), 512, 0.0)
