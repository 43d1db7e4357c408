"""Pictures to profile with: the user's, or one made up that costs as much to decode as a photograph."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from limbnet.data.pictures import read_picture
from limbnet.errors import DataError
from limbnet.files import write_bytes

log = logging.getLogger(__name__)

#: (height, width) of COCO's median picture, and the quality that gives it COCO's bytes per pixel.
SIZE, QUALITY = (480, 640), 88

#: Pictures that take part; more would only be read.
MOST = 64


def readable(paths: Iterable[Path]) -> list[Path]:
    """Return the first of the pictures that can be read; the others are reported.

    Raises:
        DataError: none can be read.
    """
    good: list[Path] = []
    for path in paths:
        try:
            read_picture(path)
        except DataError as error:
            log.warning("%s", error.what)
            continue
        good.append(path)
        if len(good) == MOST:
            break
    if not good:
        raise DataError("None of the pictures can be read.", "Give a picture or a folder of pictures with --input.")
    return good


def write_synthetic(folder: Path) -> tuple[Path, str]:
    """Write a JPEG of COCO's median size that looks like nothing; return it and a description.

    Its spectrum falls with frequency as that of photographs does, so that the JPEG is about as large and as slow to
    decode as theirs.
    """
    rng = np.random.default_rng(0)
    buffer = BytesIO()
    Image.fromarray(_clouds(rng)).save(buffer, "JPEG", quality=QUALITY)
    path = folder / "synthetic.jpg"
    write_bytes(path, buffer.getvalue())
    height, width = SIZE
    return path, f"a synthetic JPEG of {width}x{height}, {len(buffer.getvalue()) / 1e3:.0f} kB (COCO's median size)"


def _clouds(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Return (h, w, 3) uint8 noise with amplitudes of 1 / frequency, mostly grey as photographs are."""
    height, width = SIZE
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = np.inf
    planes = []
    for _ in range(4):  # brightness and three colours
        spectrum = np.fft.rfft2(rng.standard_normal((height, width))) / frequency
        plane = np.fft.irfft2(spectrum, (height, width))
        planes.append(plane / plane.std())
    pixels = np.stack([128 + 48 * planes[0] + 16 * colour for colour in planes[1:]], axis=-1)
    return pixels.clip(0, 255).astype(np.uint8)
