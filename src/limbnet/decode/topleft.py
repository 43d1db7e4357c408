"""How OpenPose fits a picture to its network: one factor, top left, the rest black (Cao et al. 2019)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

MULTIPLE = 16

#: Pictures wider than this are shrunk to it, so that their width bounds the cost.
WIDEST = 16 / 9


@dataclass(frozen=True)
class TopLeftFit:
    """A picture's place in the network's input.

    Attributes:
        picture: (height, width) of the picture.
        size: (height, width) of the input.
        factor: pixels of the input per pixel of the picture; first pixels' centres coincide.
    """

    picture: tuple[int, int]
    size: tuple[int, int]
    factor: float

    @classmethod
    def plan(cls, picture: tuple[int, int], height: int) -> TopLeftFit:
        """Fit a picture of (height, width) to an input of that height; the width follows, a multiple of 16."""
        width = _nearest_multiple(height * min(picture[1] / picture[0], WIDEST))
        sides = zip((height, width), picture, strict=True)
        return cls(picture, (height, width), min((side - 1) / max(own - 1, 1) for side, own in sides))

    def image(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Warp the picture (h, w, 3) to the input (H, W, 3): cubic where it grows, else bilinear."""
        matrix = np.array([[self.factor, 0, 0], [0, self.factor, 0]])
        method = cv2.INTER_CUBIC if self.factor > 1 else cv2.INTER_LINEAR
        return np.asarray(cv2.warpAffine(picture, matrix, self.size[::-1], flags=method), np.uint8)

    def to_picture(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points (..., 2) of the input to the picture."""
        return np.asarray(points, np.float64) / self.factor


def _nearest_multiple(length: float) -> int:
    return max(MULTIPLE * math.floor(length / MULTIPLE + 0.5), MULTIPLE)
