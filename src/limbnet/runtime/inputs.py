"""Pictures as they are handed in: a path, an array or a PIL image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from limbnet.data.pictures import read_picture, rgb_pixels
from limbnet.errors import DataError


def as_picture(item: Any) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8 RGB of a path, an array or a PIL image.

    Arrays are RGB: (h, w, 3) uint8, or grey (h, w) and (h, w, 1), or RGBA (h, w, 4), whose transparent parts become
    white. A PIL image's orientation tag is applied, as it is to files.

    Raises:
        DataError: the file is unreadable, or the array is of another kind or shape.
    """
    if isinstance(item, str | Path):
        try:
            return read_picture(Path(item))
        except DataError:
            raise
        except Exception as error:  # a damaged file can upset a decoder in any way; it must not end a long run
            raise DataError(f"The picture '{item}' cannot be read ({type(error).__name__}: {error}).") from error
    if isinstance(item, np.ndarray):
        return _from_array(item)
    if isinstance(item, Image.Image):
        return _from_pil(item)
    raise DataError(
        f"A picture is a path, an array or a PIL image; got {type(item).__name__}.",
        "For a torch tensor (3, h, w) of 0 to 1 pass (tensor * 255).byte().permute(1, 2, 0).numpy().",
    )


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        floats = np.issubdtype(array.dtype, np.floating)
        raise DataError(
            f"A picture's array is uint8, RGB, 0 to 255; got {array.dtype}.",
            "Values 0 to 1: pass (array * 255).round().astype('uint8')."
            if floats
            else "Convert it with astype('uint8').",
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise DataError(
            f"A picture's array has the shape (h, w, 3), (h, w, 4), (h, w, 1) or (h, w); got {array.shape}.",
            "Channels come last; pass one picture at a time, or many to stream().",
        )
    if array.shape[2] == 4:
        return rgb_pixels(Image.fromarray(array, "RGBA"))
    return np.ascontiguousarray(np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array)


def _from_pil(image: Image.Image) -> NDArray[np.uint8]:
    try:
        return rgb_pixels(ImageOps.exif_transpose(image))
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"The PIL image cannot be read: {error}.") from error
