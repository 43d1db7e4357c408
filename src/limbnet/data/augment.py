"""Spatial augmentation: one random transform that brings picture, mask and joints to the network's input together.

Three modes, all in pixels (the frame of `limbnet.geometry`). `person_centric` puts the main person into the middle at a
wanted size. `standard` fits the whole picture into the input and pads; `standard_with_fixed_aspect_ratio` stretches it
to the input. On top of that come flips, rotation, zoom and shift; a zoom above 1 makes people smaller in every mode.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.data.samples import Sample
from limbnet.geometry import Affine
from limbnet.skeleton import Skeleton
from limbnet.specs.train import SpatialAugParams

SpatialMode = Literal["person_centric", "standard", "standard_with_fixed_aspect_ratio"]

#: What a network sees beyond the picture's border, and what the loss mask says there: train as usual.
PICTURE_BACKGROUND = 127
MASK_BACKGROUND = 255

#: Kept from the division by a person's relative height.
_EPSILON = 1e-5


@dataclass(frozen=True)
class SpatialDraw:
    """The random part of one sample's transform.

    Attributes:
        flip_lr, flip_tb: mirror left to right, top to bottom.
        shift: (x, y) in pixels of the original picture.
        zoom: above 1 people become smaller.
        angle: rotation in radians, clockwise on the screen.
    """

    flip_lr: bool = False
    flip_tb: bool = False
    shift: tuple[float, float] = (0.0, 0.0)
    zoom: float = 1.0
    angle: float = 0.0


def draw_spatial(params: SpatialAugParams, picture: tuple[int, int], rng: np.random.Generator) -> SpatialDraw:
    """Draw one sample's transform, in BodyPoseNet's order: flips, shift x, shift y, zoom, rotation.

    Args:
        params: the ranges; a minimum that is None is minus the maximum. Shifts are whole pixels, or, with
            `use_translate_ratio`, a share of the picture's width and height.
        picture: (height, width).
        rng: the sample's own generator.
    """
    flip_lr = bool(rng.uniform() < params.flip_lr_prob)
    flip_tb = bool(rng.uniform() < params.flip_tb_prob)
    if params.use_translate_ratio:
        low, high = _limits(params.translate_ratio_min, params.translate_ratio_max)
        shift = (rng.uniform(low, high) * picture[1], rng.uniform(low, high) * picture[0])
    else:
        limits_x = _limits(params.translate_min_x, params.translate_max_x)
        limits_y = _limits(params.translate_min_y, params.translate_max_y)
        shift = _whole(rng, limits_x), _whole(rng, limits_y)
    zoom = 1.0
    if rng.uniform() < params.zoom_prob:
        zoom = float(rng.uniform(params.zoom_ratio_min, params.zoom_ratio_max))
    angle = math.radians(rng.uniform(*_limits(params.rotate_deg_min, params.rotate_deg_max)))
    return SpatialDraw(flip_lr, flip_tb, shift, zoom, angle)


def _limits(low: float | None, high: float) -> tuple[float, float]:
    """Return a range whose minimum may be left out."""
    return (-high if low is None else low), high


def _whole(rng: np.random.Generator, limits: tuple[float, float]) -> float:
    """Draw a whole number, both ends included."""
    low, high = math.ceil(limits[0]), math.floor(limits[1])
    return float(rng.integers(low, max(low, high), endpoint=True))


def spatial_transform(
    mode: SpatialMode | None,
    draw: SpatialDraw,
    sample: Sample,
    input_size: tuple[int, int],
    target_person_scale: float,
) -> Affine:
    """Build the transform from points in the original picture to points in the network's input.

    Args:
        mode: None means `person_centric`.
        draw: the random part.
        sample: its picture's size and its main person's box decide.
        input_size: (H, W) of the network's input.
        target_person_scale: share of the input's height that the main person shall fill (`person_centric` only).
    """
    if mode in (None, "person_centric"):
        return _person_centric(draw, sample, input_size, target_person_scale)
    return _whole_picture(draw, sample.picture.size, input_size, keep_aspect=mode == "standard")


def _person_centric(draw: SpatialDraw, sample: Sample, input_size: tuple[int, int], person_scale: float) -> Affine:
    """Rotate and scale about the shifted main person, and put that point into the middle of the input."""
    scale = person_scale / ((sample.height / input_size[0]) * draw.zoom + _EPSILON)
    linear = _flips(draw) @ (scale * _rotation(draw.angle))
    return _about(linear, sample.centre + draw.shift, (input_size[1] // 2, input_size[0] // 2))


def _whole_picture(
    draw: SpatialDraw, picture: tuple[int, int], input_size: tuple[int, int], keep_aspect: bool
) -> Affine:
    """Zoom about the picture's middle, shift, rotate, fit into the input, mirror.

    Zoom, shift and rotation are a similarity transform of the original pixels; the fit has one factor, or, when the
    aspect ratio need not be kept, one for each axis.
    """
    sizes = np.array([picture[1], picture[0]], dtype=np.float64)
    target = np.array([input_size[1], input_size[0]], dtype=np.float64)
    factors = target / sizes
    if keep_aspect:
        factors[:] = factors.min()
    outer = _flips(draw) @ np.diag(factors) @ _rotation(draw.angle)
    moved = outer @ np.asarray(draw.shift)
    return _about(outer / draw.zoom, sizes / 2, target / 2 + moved)


def _rotation(angle: float) -> NDArray[np.float64]:
    return np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def _flips(draw: SpatialDraw) -> NDArray[np.float64]:
    return np.diag([-1.0 if draw.flip_lr else 1.0, -1.0 if draw.flip_tb else 1.0])


def _about(
    linear: NDArray[np.float64], source: NDArray[np.float64], target: tuple[int, int] | NDArray[np.float64]
) -> Affine:
    """Return the transform with a linear part that maps the point `source` to the point `target`."""
    return Affine(np.column_stack([linear, np.asarray(target, dtype=np.float64) - linear @ source]))


def transform_joints(
    joints: NDArray[np.float64], transform: Affine, flip_lr: bool, skeleton: Skeleton
) -> NDArray[np.float64]:
    """Move joints (P, K, 3), unlabelled ones too; mirrored people exchange their left and right joints.

    Visibility codes and joints outside the input stay.
    """
    moved = joints.copy()
    moved[..., :2] = transform.points(joints[..., :2])
    return moved[:, skeleton.flip_index] if flip_lr else moved


def warp_picture(
    picture: NDArray[np.uint8], transform: Affine, original: tuple[int, int], input_size: tuple[int, int]
) -> NDArray[np.uint8]:
    """Warp a picture (h, w, 3) to the input (H, W, 3): bilinear at pixel centres, 127 beyond the border.

    Args:
        picture: the pixels, perhaps decoded at a reduced scale.
        transform: from points in the *original* picture to points in the input.
        original: (height, width) of the original picture.
        input_size: (H, W).
    """
    reduced = Affine.scale_shift(original[1] / picture.shape[1], original[0] / picture.shape[0])
    matrix = reduced.then(transform).inverse().centred()
    warped = cv2.warpAffine(
        picture,
        matrix,
        (input_size[1], input_size[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=(PICTURE_BACKGROUND,) * 3,
    )
    return np.asarray(warped, dtype=np.uint8)


def warp_mask(
    mask: NDArray[np.uint8], transform: Affine, map_size: tuple[int, int], stride: int
) -> NDArray[np.float32]:
    """Warp a loss mask (height, width) to the maps' cells: (h, w) float32, 0 to 255, 255 beyond the border.

    A cell takes the value that the mask, warped to the input, has at the pixel `stride` times the cell's index.
    """
    every = Affine.scale_shift(stride, stride)
    matrix = every.then(Affine(transform.inverse().centred())).matrix
    warped = cv2.warpAffine(
        mask.astype(np.float32),
        matrix,
        (map_size[1], map_size[0]),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=MASK_BACKGROUND,
    )
    return np.asarray(warped, dtype=np.float32)


def needed_size(transform: Affine, original: tuple[int, int]) -> tuple[int, int]:
    """Return the (height, width) at which a picture still has a pixel for every pixel of the input."""
    scale = min(1.0, float(np.linalg.norm(transform.matrix[:, :2], ord=2)))
    return math.ceil(original[0] * scale), math.ceil(original[1] * scale)
