"""Pictures: any file that people call one, as RGB pixels. Recognised by content, turned as its EXIF tag says."""

from __future__ import annotations

import warnings
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from limbnet.errors import DataError

#: EXIF orientations that exchange width and height.
_SIDEWAYS = (5, 6, 7, 8)
_ORIENTATION_TAG = 0x0112

#: A picture of 20,000x20,000 takes 1.2 GB. Larger ones are refused: a file of some bytes can claim any size.
MOST_PIXELS = 20_000 * 20_000

#: The marker behind a JPEG's last pixel, and how many bytes of other things may follow it.
_END_OF_JPEG = b"\xff\xd9"
_TAIL = 64

#: What Pillow's decoders raise for damaged files.
_DECODING_ERRORS = (OSError, SyntaxError, ValueError, EOFError)


def read_picture(path: Path | str) -> NDArray[np.uint8]:
    """Read a picture as (height, width, 3) uint8 RGB, turned as its EXIF tag says.

    Grey, palette, CMYK and 16-bit pictures are converted; transparent parts become white.

    Raises:
        DataError: the file is missing, no picture, or cut short.
    """
    return _pixels(path, None)[0]


def read_picture_reduced(path: Path | str, at_least: tuple[int, int]) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Read a picture at the smallest scale of 1, 1/2, 1/4 or 1/8 that its format decodes cheaply (JPEG does).

    Returns the pixels, and the (height, width) of the whole picture.

    Both sides stay at least as large as `at_least` (height, width), in the picture's shown orientation, unless the
    picture itself is smaller. For training, where most pictures are much larger than the network's input. Otherwise
    like `read_picture`.
    """
    return _pixels(path, at_least)


def picture_size(path: Path | str) -> tuple[int, int]:
    """Return a picture's (height, width) as shown; of most formats only the head is read.

    Raises:
        DataError: the file is missing, no picture, or cut short.
    """
    with _opened(path, _content(path)) as image:
        try:
            return _shown(image, (image.height, image.width))
        except _DECODING_ERRORS as error:
            raise _damaged(path, error) from error


def _pixels(path: Path | str, at_least: tuple[int, int] | None) -> tuple[NDArray[np.uint8], tuple[int, int]]:
    """Decode a picture, reduced if `at_least` allows it; return the (height, width) of the whole picture too."""
    content = _content(path)
    with _opened(path, content) as image:
        try:
            size = _shown(image, (image.height, image.width))
            if at_least is None and (pixels := _plain_jpeg(image, content)) is not None:
                return pixels, size
            if at_least is not None:
                height, width = _shown(image, at_least)
                image.draft(None, (width, height))
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
        except _DECODING_ERRORS as error:
            raise _damaged(path, error) from error
        return rgb_pixels(image), size


def _plain_jpeg(image: Image.Image, content: bytes) -> NDArray[np.uint8] | None:
    """Decode a whole, upright JPEG in RGB or grey by OpenCV; None for anything else, which Pillow must look at.

    Both use libjpeg-turbo and give the same pixels, but OpenCV needs 2.2 ms where Pillow and the copies out of its
    four-byte pixels need 3.6 (640x480). OpenCV hides that a file was cut short, so the marker at its end must be there:
    it cannot occur among the pixels.
    """
    upright = image.getexif().get(_ORIENTATION_TAG, 1) == 1
    if image.format != "JPEG" or image.mode not in ("RGB", "L") or not upright or _END_OF_JPEG not in content[-_TAIL:]:
        return None
    try:
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels, dtype=np.uint8)


def _damaged(path: Path | str, error: Exception) -> DataError:
    return DataError(
        f"The picture '{path}' is cut short or damaged ({error}).",
        "Copy it again, or remove it (from the annotation file too).",
    )


def _content(path: Path | str) -> bytes:
    try:
        return Path(path).read_bytes()
    except FileNotFoundError as error:
        raise DataError(f"The picture '{path}' does not exist.", "Check the path.") from error
    except OSError as error:
        raise DataError(f"The picture '{path}' cannot be read: {error.strerror or error}.") from error


def _opened(path: Path | str, content: bytes) -> Image.Image:
    """Open a picture without decoding it."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(BytesIO(content))
    except Image.DecompressionBombError:
        return _opened_large(path, content)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        kind = "is empty" if not content else "is no picture of a known format, or its head is damaged"
        raise DataError(f"The file '{path}' {kind}.", "Use JPEG, PNG, WebP, BMP, TIFF or GIF.") from error
    return image


def _opened_large(path: Path | str, content: bytes) -> Image.Image:
    """Open what Pillow refuses for its size: its limit is meant for servers and belongs to the whole process."""
    for factory, accepts in Image.OPEN.values():
        if accepts is not None and accepts(content[:16]) is True:
            image = factory(BytesIO(content), b"")
            if image.width * image.height <= MOST_PIXELS:
                return image
    raise DataError(f"The picture '{path}' has more than {MOST_PIXELS:,} pixels.", "Make it smaller.")


def _shown(image: Image.Image, size: tuple[int, int]) -> tuple[int, int]:
    """Exchange the sides of `size` when the EXIF tag turns the picture by a quarter."""
    sideways = image.getexif().get(_ORIENTATION_TAG) in _SIDEWAYS
    return (size[1], size[0]) if sideways else size


def rgb_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Convert any of Pillow's modes to (height, width, 3) uint8 RGB."""
    if image.mode.startswith("I"):  # 16 bits, of which the upper 8 are shown
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode == "F":
        grey = np.nan_to_num(np.asarray(image)).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # A copy: arrays that view Pillow's memory are read-only.
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB")).copy()
