"""Random changes of crops (top-down) and of whole pictures (bottom-up), as matrices between pixel indices.

Points are pixel indices as in `limbnet.decode.crops`, for that is how these networks' answers are read. Matrices are
(3, 3), from the picture to the network's input or to maps of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.crops import Crops
from limbnet.skeleton import Skeleton
from limbnet.specs.zoo_train import CropParams, PictureParams

Matrix = NDArray[np.float64]

#: Half a body's crop is so much larger than the box of its joints (HRNet's code).
HALF_BODY_PADDING = 1.5

#: An upper half is wanted where a normal number is below this.
UPPER_BELOW = 0.5


@dataclass(frozen=True)
class CropView:
    """One sample's crop.

    Attributes:
        crop: one crop, before it is turned.
        flip: the picture is mirrored first; the crop lies in the mirrored picture.
        angle: the crop is turned by so many radians about its centre.
        width: of the picture.
    """

    crop: Crops
    flip: bool
    angle: float
    width: int

    def matrix(self, size: tuple[int, int]) -> Matrix:
        """Return the way from the picture to an input or map of (height, width)."""
        matrix = _whole(self.crop.matrices(size)[0]) @ _about(_rotation(-self.angle), self.crop.centres[0])
        return matrix @ mirror(self.width) if self.flip else matrix


def draw_crop(
    box: NDArray[np.float64],
    joints: NDArray[np.float64],
    used: NDArray[np.bool_],
    *,
    picture: tuple[int, int],
    input_size: tuple[int, int],
    skeleton: Skeleton,
    unbiased: bool,
    params: CropParams,
    flip_prob: float,
    rng: np.random.Generator,
) -> CropView:
    """Draw a person's crop: half a body or the whole, larger or smaller, turned, mirrored.

    Args:
        box: (4,) x, y, width, height.
        joints: (K, 2) in the picture.
        used: (K,) labelled ones.
        picture: (height, width).
        input_size: (H, W) of the network's input.
        skeleton: says which joints are the lower half.
        unbiased: see `Crops`.
        params: ranges.
        flip_prob: share of mirrored samples.
        rng: the sample's own generator.
    """
    crop = Crops.around(box[None], input_size, unbiased)
    if used.sum() > params.half_body_joints and rng.uniform() < params.half_body_prob:
        upper = bool(rng.normal() < UPPER_BELOW)
        crop = half_body(joints, used, skeleton, input_size, unbiased=unbiased, upper=upper) or crop
    factor = np.clip(1 + params.scale_factor * rng.normal(), 1 - params.scale_factor, 1 + params.scale_factor)
    degrees = 0.0
    if rng.uniform() < params.rotate_prob:
        limit = 2 * params.rotate_factor
        degrees = float(np.clip(params.rotate_factor * rng.normal(), -limit, limit))
    flip = bool(rng.uniform() < flip_prob)
    centres = crop.centres.copy()
    if flip:
        centres[:, 0] = picture[1] - 1 - centres[:, 0]
    return CropView(Crops(centres, crop.sizes * factor, unbiased), flip, math.radians(degrees), picture[1])


def half_body(
    joints: NDArray[np.float64],
    used: NDArray[np.bool_],
    skeleton: Skeleton,
    input_size: tuple[int, int],
    *,
    unbiased: bool,
    upper: bool,
) -> Crops | None:
    """Return the crop of a person's upper or lower half; the other one where the half wanted has two joints or fewer.

    None where there is nothing to crop to.
    """
    halves = joints[used & ~skeleton.lower_body], joints[used & skeleton.lower_body]
    chosen = halves[0] if upper and len(halves[0]) > 2 else halves[1] if len(halves[1]) > 2 else halves[0]
    if len(chosen) < 2:
        return None
    low, high = chosen.min(axis=0), chosen.max(axis=0)
    around = Crops.around(
        np.concatenate([low, high - low + unbiased])[None], input_size, unbiased, padding=HALF_BODY_PADDING
    )
    return Crops(chosen.mean(axis=0)[None], around.sizes, unbiased)


@dataclass(frozen=True)
class PictureView:
    """One picture's way into a square input.

    Attributes:
        centre: (2,) the point of the picture that comes to the middle.
        length: side of the square that is shown, in pixels of the picture.
        angle: it is turned by so many radians.
        flip: what is shown is mirrored afterwards.
    """

    centre: NDArray[np.float64]
    length: float
    angle: float
    flip: bool

    def matrix(self, side: int) -> Matrix:
        """Return the way from the picture to an input or map of so many rows and columns."""
        matrix = np.eye(3)
        matrix[:2, :2] = side / self.length * _rotation(self.angle)
        matrix[:2, 2] = side / 2 - matrix[:2, :2] @ self.centre
        return mirror(side) @ matrix if self.flip else matrix

    def scale(self, side: int) -> float:
        """Return pixels or cells of an input or map for each pixel of the picture."""
        return side / self.length


def draw_picture(
    picture: tuple[int, int], params: PictureParams, flip_prob: float, rng: np.random.Generator
) -> PictureView:
    """Draw the square of a picture of (height, width) that a bottom-up network sees."""
    length = min(picture) * rng.uniform(params.scale_min, params.scale_max)
    angle = math.radians(rng.uniform(-1, 1) * params.rotate_deg_max)
    moved = rng.uniform(-1, 1, 2) * params.translate_ratio * length
    centre = np.array([picture[1] / 2, picture[0] / 2]) + moved
    return PictureView(centre, length, angle, bool(rng.uniform() < flip_prob))


def moved_points(points: NDArray[np.float64], matrix: Matrix) -> NDArray[np.float64]:
    """Map points (..., 2) by a matrix."""
    return np.asarray(points @ matrix[:2, :2].T + matrix[:2, 2])


def mirror(width: int) -> Matrix:
    """Return what mirrors a picture so wide: its first and last columns trade places."""
    return np.array([[-1.0, 0, width - 1], [0, 1, 0], [0, 0, 1]])


def _rotation(angle: float) -> Matrix:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _about(linear: Matrix, point: NDArray[np.float64]) -> Matrix:
    """Return the map with a linear part that leaves a point where it is."""
    return _whole(np.column_stack([linear, point - linear @ point]))


def _whole(matrix: Matrix) -> Matrix:
    return np.vstack([matrix, [0.0, 0, 1]])
