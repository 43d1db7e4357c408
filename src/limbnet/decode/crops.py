"""Top-down crops: the rectangle around a person's box, and the way from cells of its heatmaps back to the picture.

The rule is HRNet's (Sun et al. 2019, section 4.1): the shorter side of the box grows until the box has the network's
shape, then both sides grow by a quarter. Published code divides sizes by 200 pixels and multiplies them again; nothing
of that is left here. Points are pixel indices: (0, 0) is the centre of the first pixel, as in all these systems.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

PADDING = 1.25


@dataclass(frozen=True)
class Crops:
    """The crops of N boxes of one picture.

    Attributes:
        centres: (N, 2) float64 x, y in the picture.
        sizes: (N, 2) float64 width and height, padded, in the shape of the network's input.
        unbiased: lengths run from the first pixel's centre to the last one's, one less than the number of pixels, in
            picture, input and heatmap alike (Huang et al. 2020; DARK and TransPose). If not, they are the numbers of
            pixels (HRNet, FPD, Lite-HRNet), and a crop and its heatmap are half a cell apart.
    """

    centres: NDArray[np.float64]
    sizes: NDArray[np.float64]
    unbiased: bool = False

    def __len__(self) -> int:
        return len(self.centres)

    @classmethod
    def around(
        cls, boxes: NDArray[np.floating], input_size: tuple[int, int], unbiased: bool = False, padding: float = PADDING
    ) -> Crops:
        """Lay crops around boxes (N, 4) x, y, width, height for a network's input of (height, width)."""
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        corner, sides = boxes[:, :2], boxes[:, 2:]
        aspect = input_size[1] / input_size[0]
        width = np.maximum(sides[:, 0], sides[:, 1] * aspect)
        return cls(corner + (sides - unbiased) / 2, np.stack([width, width / aspect], 1) * padding, unbiased)

    @property
    def areas(self) -> NDArray[np.float64]:
        """(N,) width times height, what OKS suppression takes for a person's area."""
        return np.asarray(self.sizes.prod(axis=1))

    def to_picture(self, points: NDArray[np.floating], map_size: tuple[int, int]) -> NDArray[np.float64]:
        """Map cells (N, K, 2) x, y of maps of (height, width) to the picture."""
        width, height = self._lengths(map_size)
        scale = self._widths() / width  # the width alone decides; the crop has the shape of the map
        centred = np.asarray(points, np.float64) - (width / 2, height / 2)
        return np.asarray(centred * scale[:, None, None] + self.centres[:, None])

    def from_picture(self, points: NDArray[np.floating], map_size: tuple[int, int]) -> NDArray[np.float64]:
        """Map points (N, K, 2) of the picture to cells of maps of (height, width); undoes `to_picture`."""
        matrices = self.matrices(map_size)
        return np.asarray(points * matrices[:, None, [0, 1], [0, 1]] + matrices[:, None, :, 2])

    def matrices(self, input_size: tuple[int, int]) -> NDArray[np.float64]:
        """Return (N, 2, 3) from pixel indices of the picture to those of inputs of (height, width)."""
        width, height = self._lengths(input_size)
        scale = width / self._widths()
        matrices = np.zeros((len(self), 2, 3))
        matrices[:, 0, 0] = matrices[:, 1, 1] = scale
        matrices[:, :, 2] = (width / 2, height / 2) - self.centres * scale[:, None]
        return matrices

    def images(self, picture: NDArray[np.uint8], input_size: tuple[int, int]) -> NDArray[np.uint8]:
        """Cut all crops out of a picture (h, w, 3): (N, H, W, 3) uint8, bilinear, black outside the picture."""
        height, width = input_size
        images = np.empty((len(self), height, width, picture.shape[2]), np.uint8)
        for image, matrix in zip(images, self.matrices(input_size), strict=True):
            cv2.warpAffine(picture, matrix, (width, height), dst=image, flags=cv2.INTER_LINEAR)
        return images

    def _lengths(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return width and height of a map or input in its own convention."""
        return size[1] - self.unbiased, size[0] - self.unbiased

    def _widths(self) -> NDArray[np.float64]:
        """(N,) widths in the crops' convention, where a box of one pixel must not have the length 0."""
        return np.maximum(self.sizes[:, 0] - 1, 1.0) if self.unbiased else self.sizes[:, 0]
