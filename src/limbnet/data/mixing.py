"""Several samples in one network input: what a sample looks like there, and four of them in a mosaic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.data.people import VISIBILITY_NAMES
from limbnet.data.targets import LAST_USED_CODE
from limbnet.specs.recipe import MosaicParams

TRUNCATED = VISIBILITY_NAMES.index("truncated")


@dataclass(frozen=True)
class Piece:
    """A sample, or a mixture of some, in the frame of (a part of) the network's input.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        joints: (P, K, 3) x and y in pixels of `image`, and the visibility code.
        confidence: (P, K) or None.
        cells: (h, w) float32 loss mask, 0 to 255.
    """

    image: NDArray[np.uint8]
    joints: NDArray[np.float64]
    confidence: NDArray[np.float64] | None
    cells: NDArray[np.float32]


def corner_sizes(
    input_size: tuple[int, int], stride: int, params: MosaicParams, rng: np.random.Generator
) -> list[tuple[int, int]]:
    """Draw where four corners meet, at a multiple of the stride; return their (height, width), row by row."""
    splits = []
    for side in input_size:
        cells = side // stride
        share = rng.uniform(params.centre_min, params.centre_max)
        splits.append(stride * int(np.clip(round(share * cells), 1, max(1, cells - 1))))
    (top, left), (height, width) = splits, input_size
    return [(h, w) for h in (top, height - top) for w in (left, width - left)]


def mosaic(pieces: Sequence[Piece]) -> Piece:
    """Put four pieces together: top left, top right, bottom left, bottom right.

    People end where their corner ends: joints that would lie outside of it count as truncated.
    """
    height, width = pieces[0].image.shape[:2]
    joints = []
    for number, piece in enumerate(pieces):
        moved = piece.joints.copy()
        inside = (moved[..., :2] >= 0).all(axis=-1) & (moved[..., :2] < piece.image.shape[1::-1]).all(axis=-1)
        moved[~inside & (moved[..., 2] <= LAST_USED_CODE), 2] = TRUNCATED
        moved[..., :2] += (width * (number % 2), height * (number // 2))
        joints.append(moved)
    return Piece(
        _quartered([piece.image for piece in pieces]),
        np.concatenate(joints),
        joined_confidence(pieces),
        _quartered([piece.cells for piece in pieces]),
    )


def joined_confidence(pieces: Sequence[Piece]) -> NDArray[np.float64] | None:
    """Return the confidences of all people; certain (1) where only some pieces have any, None where none has."""
    if all(piece.confidence is None for piece in pieces):
        return None
    return np.concatenate(
        [np.ones(piece.joints.shape[:2]) if piece.confidence is None else piece.confidence for piece in pieces]
    )


def _quartered(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Join four arrays (h, w, ...), row by row."""
    return np.concatenate([np.concatenate(parts[:2], axis=1), np.concatenate(parts[2:], axis=1)], axis=0)
