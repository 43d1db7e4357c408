"""What is taken for a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbnet.errors import DataError
from limbnet.runtime.inputs import as_picture

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)


def test_paths_arrays_and_pil_images_are_the_same_picture(tmp_path: Path) -> None:
    Image.fromarray(RGB).save(tmp_path / "a.png")
    for item in (tmp_path / "a.png", str(tmp_path / "a.png"), RGB, Image.open(tmp_path / "a.png"), RGB[::-1][::-1]):
        picture = as_picture(item)
        assert picture.dtype == np.uint8
        assert picture.flags.c_contiguous
        np.testing.assert_array_equal(picture, RGB)


def test_grey_arrays_become_three_equal_channels() -> None:
    for grey in (RGB[..., 0], RGB[..., :1]):
        np.testing.assert_array_equal(as_picture(grey), np.stack([RGB[..., 0]] * 3, axis=-1))


def test_transparent_parts_become_white_everywhere(tmp_path: Path) -> None:
    rgba = np.dstack([RGB, np.full((5, 7), 255, np.uint8)])
    rgba[0, 0, 3] = 0
    image = Image.fromarray(rgba)
    image.save(tmp_path / "a.png")
    expected = RGB.copy()
    expected[0, 0] = 255
    for item in (rgba, image, tmp_path / "a.png"):
        np.testing.assert_array_equal(as_picture(item), expected)


def test_the_orientation_of_a_pil_image_is_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    Image.fromarray(RGB).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as image:
        np.testing.assert_array_equal(as_picture(image), np.rot90(RGB, -1))


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (RGB / 255, "uint8.*got float64(.|\n)*255"),
        (RGB.astype(np.uint16), "got uint16"),
        (RGB > 127, "got bool"),
        (np.zeros((2, 5, 7, 3), np.uint8), "(.|\n)*stream"),
        (np.zeros((3, 5, 7), np.uint8)[:, :0], "got \\(3, 0, 7\\)"),
        (np.zeros((3, 50, 70), np.uint8), "Channels come last"),
        (None, "got NoneType"),
        (7, "got int"),
    ],
)
def test_everything_else_is_refused_in_words(item: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        as_picture(item)


@pytest.mark.parametrize("name", ["missing.jpg", "a\0b.jpg", "x" * 5000])
def test_impossible_paths_are_data_errors(name: str) -> None:
    with pytest.raises(DataError):
        as_picture(name)


def test_whatever_a_decoder_raises_is_a_data_error(tmp_path: Path) -> None:
    """A PNG whose parts are damaged at random places; none may raise anything but a DataError."""
    Image.fromarray(RGB).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    random = np.random.default_rng(3)
    failures = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random.integers(8, len(whole))] ^= int(random.integers(1, 256))
        (tmp_path / "b.png").write_bytes(bytes(damaged))
        try:
            as_picture(tmp_path / "b.png")
        except DataError:
            failures += 1
    assert failures > 50
