"""Colour augmentation: small random changes of light and colour, off in the original recipe."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from limbnet.specs.train import ColourAugParams

#: Weights of red, green and blue in the brightness of a pixel (ITU-R BT.601).
LUMA = (0.299, 0.587, 0.114)


def change_colours(picture: NDArray[np.uint8], params: ColourAugParams, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Change brightness, contrast, saturation and hue of (H, W, 3) uint8 RGB, make some grey and blur some.

    All numbers are drawn whatever the parameters, so that switching one change on leaves the others as they were.
    Everything but the blur is one 3x3 matrix and one offset.
    """
    brightness, contrast, saturation, hue = rng.uniform(-1, 1, 4)
    grey, blurred, blur = rng.uniform(size=3)
    colours = _hue(hue * params.hue) @ _saturation(1 + saturation * params.saturation)
    if grey < params.grey_prob:
        colours = _saturation(0.0)
    gain = 1 + contrast * params.contrast
    offset = 255 * brightness * params.brightness + 127.5 * (1 - gain)
    matrix = np.column_stack([gain * colours, np.full(3, offset)])
    changed = np.asarray(cv2.transform(picture, matrix), dtype=np.uint8)
    if blurred < params.blur_prob:
        changed = np.asarray(cv2.GaussianBlur(changed, (0, 0), 0.5 + blur), dtype=np.uint8)
    return changed


def _saturation(factor: float) -> NDArray[np.float64]:
    """Return the matrix that moves colours away from their grey (above 1) or towards it (0: grey)."""
    return factor * np.eye(3) + (1 - factor) * np.array([LUMA] * 3)


def _hue(turns: float) -> NDArray[np.float64]:
    """Return the matrix that rotates colours about the grey axis; 1 is a whole turn."""
    angle = 2 * np.pi * turns
    axis = np.full(3, 1 / np.sqrt(3))
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    rotation = np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)
    return np.asarray(rotation)
