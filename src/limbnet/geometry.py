"""Transforms between a picture and the network's input, each with its inverse for points.

One frame, stated once. A point (x, y) is in pixels, x to the right and y down, in the numbers of COCO annotations. A
transform is a 2x3 matrix M with M (x, y, 1) = (x', y'); points are mapped by the plain matrix, and a picture is warped
so that the continuous plane in which pixel i covers [i, i + 1] follows the same matrix (so it is sampled at pixel
centres i + 0.5). Cell c of a map with stride s stands at s c + (s - 1) / 2 of the network's input, heatmaps and part
affinity fields alike. Training and inference share this frame, so what a network learns from labels is undone exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.errors import SpecError

#: How a picture is brought to the network's input: keep its shape and let one side grow, keep the input's shape and pad
#: ("strict mode"), or stretch.
FitMode = Literal["adjust_network_input", "pad_image_input", "stretch"]

PAD_COLOUR = 128

#: The largest factor on the input size that a picture is looked at with.
LARGEST_SCALE = 16


@dataclass(frozen=True)
class Affine:
    """A 2x3 matrix between two pixel frames (see the module's docstring for the frame)."""

    matrix: NDArray[np.float64]

    @classmethod
    def scale_shift(cls, sx: float, sy: float, dx: float = 0.0, dy: float = 0.0) -> Affine:
        """Build x' = sx x + dx, y' = sy y + dy."""
        return cls(np.array([[sx, 0.0, dx], [0.0, sy, dy]]))

    def points(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map points of shape (..., 2)."""
        return np.asarray(xy, dtype=np.float64) @ self.matrix[:, :2].T + self.matrix[:, 2]

    def inverse(self) -> Affine:
        """Return the transform that undoes this one."""
        linear = np.linalg.inv(self.matrix[:, :2])
        return Affine(np.column_stack([linear, -linear @ self.matrix[:, 2]]))

    def then(self, after: Affine) -> Affine:
        """Return the transform that applies this one first and `after` second."""
        linear = after.matrix[:, :2] @ self.matrix[:, :2]
        return Affine(np.column_stack([linear, after.matrix[:, :2] @ self.matrix[:, 2] + after.matrix[:, 2]]))

    def centred(self) -> NDArray[np.float64]:
        """Return the 2x3 matrix between pixel *indices*: the same transform seen from pixel centres i + 0.5."""
        matrix = self.matrix.copy()
        matrix[:, 2] += matrix[:, :2] @ (0.5, 0.5) - 0.5
        return matrix


@dataclass(frozen=True)
class Fit:
    """How one picture fills one network input.

    Attributes:
        picture: (height, width) of the original picture.
        resized: (height, width) of the picture after scaling, before padding.
        offset: (top, left) position of the scaled picture in the input.
        size: (height, width) of the network input, multiples of the stride.
        transform: from original points to points in the input.
    """

    picture: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int]
    size: tuple[int, int]
    transform: Affine

    def image(self, picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Scale and pad a picture (h, w, 3) uint8 to the input (H, W, 3); the padding has the value 128."""
        (height, width), (top, left) = self.resized, self.offset
        if (height, width) == self.picture:
            scaled = picture
        else:
            shrinking = height * width < self.picture[0] * self.picture[1] // 4
            method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
            scaled = np.asarray(cv2.resize(picture, (width, height), interpolation=method), dtype=np.uint8)
        if (height, width) == self.size:
            return scaled
        canvas = np.full((*self.size, picture.shape[2]), PAD_COLOUR, dtype=np.uint8)
        canvas[top : top + height, left : left + width] = scaled
        return canvas

    def original(self, xy: NDArray[np.floating]) -> NDArray[np.float64]:
        """Map input points (..., 2) back to the original picture, clipped to it."""
        back = self.transform.inverse().points(xy)
        height, width = self.picture
        return np.clip(back, 0.0, (width - 1.0, height - 1.0))


def fit(picture: tuple[int, int], input_size: tuple[int, int], mode: FitMode | None, stride: int) -> Fit:
    """Plan how a picture of (height, width) fills a network input of (height, width).

    `stretch` (or None) scales both sides by their own factors. `pad_image_input` scales by one factor and pads the
    rest evenly on both sides with 128. `adjust_network_input` lets the picture's shape decide: it is scaled by one
    factor until both sides reach `input_size`, so one of them may grow beyond it, and then padded at the bottom and at
    the right to a multiple of the stride.

    Raises:
        SpecError: `input_size` is no multiple of `stride`.
    """
    (h, w), (H, W) = picture, input_size
    check_input_size(input_size, stride)
    if mode in (None, "stretch"):
        return Fit(picture, (H, W), (0, 0), (H, W), Affine.scale_shift(W / w, H / h))
    if mode == "adjust_network_input":
        factor = max(H / h, W / w)
        resized = max(1, round(h * factor)), max(1, round(w * factor))
        size = (-(-resized[0] // stride) * stride, -(-resized[1] // stride) * stride)
        return Fit(picture, resized, (0, 0), size, Affine.scale_shift(resized[1] / w, resized[0] / h))
    if mode == "pad_image_input":
        factor = min(H / h, W / w)
        resized = min(H, max(1, round(h * factor))), min(W, max(1, round(w * factor)))
        top, left = (H - resized[0]) // 2, (W - resized[1]) // 2
        transform = Affine.scale_shift(resized[1] / w, resized[0] / h, left, top)
        return Fit(picture, resized, (top, left), (H, W), transform)
    raise SpecError(
        f"keep_aspect_ratio_mode is '{mode}'.", "Use adjust_network_input, pad_image_input or null (stretch)."
    )


def check_input_size(input_size: tuple[int, int], stride: int) -> None:
    """Raise a `SpecError` unless (height, width) are positive multiples of the stride."""
    if all(side > 0 and side % stride == 0 for side in input_size):
        return
    height, width = (max(stride, round(side / stride) * stride) for side in input_size)
    raise SpecError(
        f"The network input {input_size[0]}x{input_size[1]} (height x width) is no multiple of the stride {stride}.",
        f"The nearest one is {height}x{width}.",
    )
