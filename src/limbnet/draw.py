"""Draw people, heatmaps and part affinity fields on pictures, and lay pictures out on a contact sheet.

Everything takes and returns RGB uint8 (h, w, 3). People are drawn on layers of several times the picture's resolution
and shrunk, so that a skeleton of twenty pixels is as smooth as one of two thousand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbnet.data.pictures import read_picture, rgb_pixels
from limbnet.poses import Poses
from limbnet.skeleton import Skeleton

Colour = tuple[int, int, int]
Picture = NDArray[np.uint8]

_INK: Colour = (24, 24, 28)
_FRACTION_BITS = 4  # OpenCV draws at sixteenths of a pixel
_LAYER_SIDE = 1600  # a person's layer is enlarged up to about this many pixels


@dataclass(frozen=True)
class DrawStyle:
    """How people are drawn.

    Attributes:
        opacity: of limbs and joints, 0 to 1.
        thickness: factor on the thickness that follows from the person's size.
        joint_radius: factor on the radius of joints; 0 draws none.
        outline: draw a dark edge around limbs and joints.
        show_scores: write each person's score above them.
        joint_threshold: joints with a lower score are left out.
        colours: L colours of the limbs, the skeleton's own when None.
    """

    opacity: float = 0.92
    thickness: float = 1.0
    joint_radius: float = 1.0
    outline: bool = True
    show_scores: bool = False
    joint_threshold: float = 0.0
    colours: tuple[Colour, ...] | None = None


def draw_poses(image: Picture | Image.Image | Path | str, poses: Poses, style: DrawStyle | None = None) -> Picture:
    """Return a copy of the RGB picture with everybody drawn on it, large people first: small ones stay visible.

    The picture may be an array, a PIL image or a path.
    """
    style = style or DrawStyle()
    drawn = _as_rgb(image).copy()
    sizes = [person_size(points) for points in poses.keypoints]
    for person in np.argsort(sizes)[::-1]:
        points = poses.keypoints[person].astype(np.float64)
        points[poses.joint_scores[person] < style.joint_threshold] = np.nan
        if not np.isnan(points).all():
            _draw_person(drawn, points, sizes[person], poses.skeleton, style)
    if style.show_scores:
        for person in range(len(poses)):
            _draw_score(drawn, poses.keypoints[person], float(poses.scores[person]), sizes[person])
    return drawn


def person_size(points: NDArray[np.floating]) -> float:
    """Return the diagonal, in pixels, of the box around a person's found joints (K, 2); 0 when there are none."""
    found = points[~np.isnan(points[:, 0])]
    return float(np.hypot(*np.ptp(found, axis=0))) if len(found) else 0.0


def line_thickness(size: float, factor: float = 1.0) -> float:
    """Return the thickness of limbs in pixels for a person of this size: at least 1, growing less than people do."""
    return max(1.0, float(factor * 0.28 * size**0.55))


def _draw_person(
    image: Picture, points: NDArray[np.float64], size: float, skeleton: Skeleton, style: DrawStyle
) -> None:
    """Draw one person into the picture: a layer of colour and one of coverage, enlarged, then shrunk and blended."""
    thickness = line_thickness(size, style.thickness)
    edge = max(0.5, 0.22 * thickness) if style.outline else 0.0
    window = _window(points, 2.5 * thickness + 2, image.shape[:2])
    if window is None:
        return
    x0, y0, x1, y1 = window
    enlarge = int(np.clip(_LAYER_SIDE // max(x1 - x0, y1 - y0), 1, 4))
    layer = np.zeros(((y1 - y0) * enlarge, (x1 - x0) * enlarge, 4), np.uint8)
    pen = _Pen(layer, points - (x0, y0), float(enlarge))
    colours = style.colours or skeleton.limb_colours
    drawn = [
        (limb, start, end)
        for limb, (start, end) in enumerate(skeleton.limbs)
        if not np.isnan(points[[start, end], 0]).any()
    ]
    radius = 0.85 * thickness * style.joint_radius
    if edge:
        for _, start, end in drawn:
            pen.line(start, end, thickness + 2 * edge, _INK)
    for limb, start, end in drawn:
        pen.line(start, end, thickness, colours[limb])
    if radius:
        for joint, colour in enumerate(joint_colours(skeleton, colours)):
            if not np.isnan(points[joint, 0]):
                if edge:
                    pen.dot(joint, radius + edge, _INK)
                pen.dot(joint, radius, colour)
    _blend(image[y0:y1, x0:x1], layer, style.opacity)


def joint_colours(skeleton: Skeleton, limb_colours: Sequence[Colour], white: float = 0.55) -> list[Colour]:
    """Return K colours: each joint takes the one of the first limb that ends in it, mixed with a share of white."""
    colours: list[Colour] = []
    for joint in range(len(skeleton.joints)):
        touching = [limb for limb, (_, end) in enumerate(skeleton.limbs) if end == joint] or [
            limb for limb, (start, _) in enumerate(skeleton.limbs) if start == joint
        ]
        red, green, blue = (round((1 - white) * channel + white * 255) for channel in limb_colours[touching[0]])
        colours.append((red, green, blue))
    return colours


class _Pen:
    """Lines and dots on an RGBA layer whose colours are premultiplied by their coverage."""

    def __init__(self, layer: Picture, points: NDArray[np.float64], enlarge: float) -> None:
        self.layer, self.enlarge = layer, enlarge
        unit = 1 << _FRACTION_BITS
        # Points stand at pixel centres i; in an enlarged layer that centre lies at enlarge (i + 0.5) - 0.5.
        at = np.nan_to_num((points + 0.5) * enlarge - 0.5)
        self.fixed = [(round(x * unit), round(y * unit)) for x, y in at]

    def line(self, start: int, end: int, thickness: float, colour: Colour) -> None:
        width = max(1, round(thickness * self.enlarge))
        ends = self.fixed[start], self.fixed[end]
        cv2.line(self.layer, *ends, (*colour, 255), width, cv2.LINE_AA, _FRACTION_BITS)

    def dot(self, joint: int, radius: float, colour: Colour) -> None:
        fixed_radius = max(1, round(radius * self.enlarge * (1 << _FRACTION_BITS)))
        cv2.circle(self.layer, self.fixed[joint], fixed_radius, (*colour, 255), cv2.FILLED, cv2.LINE_AA, _FRACTION_BITS)


def _window(points: NDArray[np.float64], margin: float, shape: Sequence[int]) -> tuple[int, int, int, int] | None:
    """Return x0, y0, x1, y1 of the part of the picture that a person's drawing touches, None when it is outside."""
    low = np.floor(np.nanmin(points, axis=0) - margin).astype(int)
    high = np.ceil(np.nanmax(points, axis=0) + margin).astype(int) + 1
    x0, y0 = (int(value) for value in np.maximum(low, 0))
    x1, y1 = min(int(high[0]), shape[1]), min(int(high[1]), shape[0])
    return (x0, y0, x1, y1) if x0 < x1 and y0 < y1 else None


def _blend(target: Picture, layer: Picture, opacity: float) -> None:
    """Shrink a premultiplied RGBA layer to the target's size and lay it over the target, in place."""
    height, width = target.shape[:2]
    small = cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    cover = small[..., 3:] * (opacity / 255.0)
    target[:] = np.clip(np.rint(target * (1.0 - cover) + small[..., :3] * opacity), 0, 255).astype(np.uint8)


def _draw_score(image: Picture, points: NDArray[np.floating], score: float, size: float) -> None:
    """Write a score on a dark plate above the person's highest joint."""
    found = points[~np.isnan(points[:, 0])]
    if not len(found):
        return
    top = found[found[:, 1].argmin()]
    scale = float(np.clip(size / 500, 0.35, 1.2))
    text, font, stroke = f"{score:.2f}", cv2.FONT_HERSHEY_DUPLEX, max(1, round(1.3 * scale))
    (width, height), below = cv2.getTextSize(text, font, scale, stroke)
    pad = max(2, round(5 * scale))
    x0 = int(np.clip(top[0] - width / 2 - pad, 0, max(0, image.shape[1] - width - 2 * pad)))
    y1 = int(np.clip(top[1] - line_thickness(size) * 2 - pad, height + below + 2 * pad, image.shape[0]))
    plate = image[max(0, y1 - height - below - 2 * pad) : y1, x0 : x0 + width + 2 * pad]
    plate[:] = (0.35 * plate + 0.65 * np.array(_INK)).astype(np.uint8)
    cv2.putText(image, text, (x0 + pad, y1 - below - pad), font, scale, (255, 255, 255), stroke, cv2.LINE_AA)


def draw_heatmaps(image: Picture, heatmaps: NDArray[np.float32], skeleton: Skeleton, opacity: float = 0.9) -> Picture:
    """Lay the joints' heatmaps (K or K + 1, h, w) over the picture, one colour a joint; the background map is left out.

    The maps must cover the whole picture (stretched to it), as those of the network's input do.
    """
    height, width = image.shape[:2]
    colours = np.asarray(joint_colours(skeleton, skeleton.limb_colours, 0.15), np.float32)
    strength = np.clip(heatmaps[: len(skeleton.joints)], 0.0, 1.0)
    strongest = strength.argmax(axis=0)
    return _overlay(image, colours[strongest], strength.max(axis=0), (width, height), opacity)


def draw_pafs(image: Picture, pafs: NDArray[np.float32], opacity: float = 0.8) -> Picture:
    """Lay part affinity fields (2 L, h, w) over the picture: direction is shown as hue, length as cover.

    Right is red, down is yellow-green, left is cyan, up is violet. The fields must cover the whole picture.
    """
    height, width = image.shape[:2]
    x, y = pafs[0::2], pafs[1::2]
    length = np.hypot(x, y)
    strongest = length.argmax(axis=0)[None]
    at_x, at_y = np.take_along_axis(x, strongest, 0)[0], np.take_along_axis(y, strongest, 0)[0]
    hue = np.mod(np.arctan2(at_y, at_x) / (2 * np.pi), 1.0) * 180
    full = np.full_like(hue, 255)
    hsv = np.stack([np.minimum(hue, 179), 0.85 * full, full], axis=-1).astype(np.uint8)
    colours = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB).astype(np.float32)
    return _overlay(image, colours, np.clip(length.max(axis=0), 0.0, 1.0), (width, height), opacity)


def _overlay(
    image: Picture, colours: NDArray[np.float32], cover: NDArray[np.float32], size: tuple[int, int], opacity: float
) -> Picture:
    """Enlarge colours (h, w, 3) and their cover (h, w) to (width, height) and lay them over a greyed picture."""
    base = 0.6 * _as_rgb(image).astype(np.float32)
    weight = cv2.resize(cover.astype(np.float32), size, interpolation=cv2.INTER_CUBIC)
    tint = cv2.resize(colours * cover[..., None], size, interpolation=cv2.INTER_CUBIC)
    tint = tint / np.maximum(weight, 1e-3)[..., None]
    weight = np.clip(weight, 0.0, 1.0)[..., None] * opacity
    mixed: Picture = np.clip(np.rint(base * (1 - weight) + tint * weight), 0, 255).astype(np.uint8)
    return mixed


def contact_sheet(images: Sequence[Picture], columns: int = 4, width: int = 1600, gap: int = 8) -> Picture:
    """Lay RGB pictures out in rows of `columns`, scaled so that the sheet is `width` pixels wide.

    Pictures keep their shape; every row is as high as its pictures can be when all of them fill its width.
    """
    if not images:
        raise ValueError("a contact sheet needs at least one picture")
    rows = []
    for first in range(0, len(images), columns):
        group = [_as_rgb(image) for image in images[first : first + columns]]
        shapes = [image.shape[1] / image.shape[0] for image in group]
        missing = columns - len(group)
        inner = width - gap * (columns + 1)
        height = max(1, int(inner / (sum(shapes) + missing * float(np.mean(shapes)))))
        row = np.full((height + gap, width, 3), 255, np.uint8)
        x = gap
        for image, shape in zip(group, shapes, strict=True):
            part = max(1, min(round(height * shape), width - gap - x))
            row[gap:, x : x + part] = _resized(image, part, height)
            x += part + gap
        rows.append(row)
    return np.concatenate([*rows, np.full((gap, width, 3), 255, np.uint8)])


def _resized(image: Picture, width: int, height: int) -> Picture:
    shrinking = width < image.shape[1]
    method = cv2.INTER_AREA if shrinking else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(image, (width, height), interpolation=method), dtype=np.uint8)


def _as_rgb(image: Picture | Image.Image | Path | str) -> Picture:
    """Accept files, PIL images and grey pictures as well."""
    if isinstance(image, str | Path):
        return read_picture(image)
    if isinstance(image, Image.Image):
        return rgb_pixels(ImageOps.exif_transpose(image))
    return np.repeat(image[..., None], 3, axis=-1) if image.ndim == 2 else image[..., :3]
