"""Mosaics: four samples side by side, everything of each in its own corner."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.data.mixing import TRUNCATED, Piece, corner_sizes, mosaic
from limbnet.specs.recipe import MosaicParams


def piece(value: int, height: int, width: int, joints: list[list[float]], sure: float | None = None) -> Piece:
    points = np.array([joints], dtype=float)
    return Piece(
        np.full((height, width, 3), value, np.uint8),
        points,
        None if sure is None else np.full(points.shape[:2], sure),
        np.full((height // 8, width // 8), value, np.float32),
    )


def test_every_piece_fills_its_corner():
    whole = mosaic(
        [
            piece(1, 16, 24, [[5, 6, 0], [24, 6, 1], [5, -1, 2]]),
            piece(2, 16, 8, [[5, 6, 0], [7.9, 15.9, 1], [5, 6, 5]], sure=0.5),
            piece(3, 32, 24, [[0, 0, 2], [5, 32, 0], [5, 6, 4]]),
            piece(4, 32, 8, [[5, 6, 0], [8, 6, 1], [50, 6, 5]]),
        ]
    )
    assert whole.image.shape == (48, 32, 3)
    assert whole.cells.shape == (6, 4)
    assert [whole.image[y, x, 0] for y, x in ((15, 23), (15, 24), (16, 23), (16, 24))] == [1, 2, 3, 4]
    assert [whole.cells[y, x] for y, x in ((1, 2), (1, 3), (2, 2), (2, 3))] == [1, 2, 3, 4]
    assert whole.joints[:, 0, :2].tolist() == [[5, 6], [29, 6], [0, 16], [29, 22]]
    assert whole.joints[..., 2].tolist() == [
        [0, TRUNCATED, TRUNCATED], [0, 1, 5], [2, TRUNCATED, 4], [0, TRUNCATED, 5],
    ]  # fmt: skip
    assert whole.confidence is not None
    assert whole.confidence.tolist() == [[1] * 3, [0.5] * 3, [1] * 3, [1] * 3]


def test_without_confidences_there_is_none():
    assert mosaic([piece(1, 8, 8, [[1, 1, 0]])] * 4).confidence is None


@given(
    seed=st.integers(0, 1000),
    cells=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    stride=st.sampled_from([4, 8, 16]),
)
def test_corners_are_whole_cells_and_fill_the_input(seed: int, cells: tuple[int, int], stride: int):
    height, width = cells[0] * stride, cells[1] * stride
    params = MosaicParams(centre_min=0.1, centre_max=0.9)
    corners = corner_sizes((height, width), stride, params, np.random.default_rng(seed))
    assert all(side > 0 and side % stride == 0 for corner in corners for side in corner)
    assert corners[0][0] + corners[2][0] == corners[1][0] + corners[3][0] == height
    assert corners[0][1] + corners[1][1] == corners[2][1] + corners[3][1] == width


def test_the_meeting_point_stays_in_its_range():
    params = MosaicParams(centre_min=0.4, centre_max=0.5)
    rng = np.random.default_rng(0)
    tops = [corner_sizes((800, 800), 8, params, rng)[0][0] / 800 for _ in range(200)]
    assert min(tops) == pytest.approx(0.4, abs=0.01)
    assert max(tops) == pytest.approx(0.5, abs=0.01)
