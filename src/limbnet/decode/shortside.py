"""How HigherHRNet and DEKR fit a picture to the network: by its short side, the long one growing to a multiple of 64.

The picture is scaled by one factor, about its middle; what the long side gained is black on both ends. Points are pixel
indices, as in these systems (Cheng et al. 2020 and Geng et al. 2021, after Sun et al. 2019).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.errors import SpecError

MULTIPLE = 64


@dataclass(frozen=True)
class ShortSideFit:
    """A picture's way into a network at several scales.

    Attributes:
        picture: (height, width) of the picture.
        smallest: (height, width) of the network's input at the smallest scale.
        smallest_scale: that scale; the others multiply both sides.
    """

    picture: tuple[int, int]
    smallest: tuple[int, int]
    smallest_scale: float

    @classmethod
    def plan(cls, picture: tuple[int, int], side: int, smallest_scale: float = 1.0) -> ShortSideFit:
        """Fit a picture of (height, width): at scale 1 its short side becomes about `side`.

        At the smallest scale it becomes the next multiple of 64 of its share of `side`, and the long side the next
        multiple of 64 of its proportional length.

        Raises:
            SpecError: the scale is not positive.
        """
        if smallest_scale <= 0:
            raise SpecError(f"scales holds {smallest_scale}.", "Scales are factors on the input size, above 0.")
        height, width = picture
        short = int((smallest_scale * side + MULTIPLE - 1) // MULTIPLE * MULTIPLE)
        long = int((short / min(picture) * max(picture) + MULTIPLE - 1) // MULTIPLE * MULTIPLE)
        return cls(picture, (long, short) if width < height else (short, long), smallest_scale)

    def size(self, scale: float = 1.0) -> tuple[int, int]:
        """Return (height, width) of the network's input at a scale."""
        height, width = self.smallest
        return int(height * scale / self.smallest_scale), int(width * scale / self.smallest_scale)

    def matrix(self, scale: float = 1.0) -> NDArray[np.float64]:
        """Return (2, 3) from pixel indices of the picture to those of the input at a scale."""
        (h, w), (height, width) = self.picture, self.size(scale)
        factor = width / w if w < h else height / h
        middle = int(w / 2 + 0.5), int(h / 2 + 0.5)
        return np.array([[factor, 0, width / 2 - factor * middle[0]], [0, factor, height / 2 - factor * middle[1]]])

    def image(self, picture: NDArray[np.uint8], scale: float = 1.0) -> NDArray[np.uint8]:
        """Warp the picture (h, w, 3) to the input (H, W, 3) at a scale, bilinear, black beyond its borders."""
        height, width = self.size(scale)
        warped = cv2.warpAffine(picture, self.matrix(scale), (width, height), flags=cv2.INTER_LINEAR)
        return np.asarray(warped, np.uint8)

    def to_picture(self, points: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points (..., 2) of the input at scale 1 to the picture."""
        matrix = self.matrix()
        return np.asarray((points - matrix[:, 2]) / matrix[0, 0])
