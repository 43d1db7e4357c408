"""Pictures of every kind that people have, and files that are none."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from limbnet.data.pictures import picture_size, read_picture, read_picture_reduced
from limbnet.errors import DataError

#: Four fields, so that turning and mirroring show: red, green above blue, white.
FIELDS = np.zeros((32, 48, 3), dtype=np.uint8)
FIELDS[:16, :24], FIELDS[:16, 24:], FIELDS[16:, :24], FIELDS[16:, 24:] = (250, 0, 0), (0, 250, 0), (0, 0, 250), 250


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    """Compare the middles of the fields, which JPEG leaves alone."""
    h, w = found.shape[:2]
    rows, columns = (h // 4, 3 * h // 4), (w // 4, 3 * w // 4)
    eh, ew = expected.shape[:2]
    return all(
        np.abs(found[r, c].astype(int) - expected[er, ec]).max() < 12
        for r, er in zip(rows, (eh // 4, 3 * eh // 4), strict=True)
        for c, ec in zip(columns, (ew // 4, 3 * ew // 4), strict=True)
    )


def test_colour_png_is_exact(tmp_path: Path) -> None:
    Image.fromarray(FIELDS).save(tmp_path / "a.png")
    found = read_picture(tmp_path / "a.png")
    np.testing.assert_array_equal(found, FIELDS)
    assert found.dtype == np.uint8
    assert found.flags.writeable
    assert picture_size(tmp_path / "a.png") == (32, 48)


def test_kind_is_told_by_content(tmp_path: Path) -> None:
    Image.fromarray(FIELDS).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(read_picture(tmp_path / "a.jpg"), FIELDS)


@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_grey(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"grey.{suffix}"
    Image.fromarray(FIELDS[..., 1]).save(path, quality=95)
    assert close(read_picture(path), np.repeat(FIELDS[..., 1:2], 3, axis=2))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cmyk.{suffix}"
    Image.fromarray(FIELDS).convert("CMYK").save(path, quality=95)
    assert close(read_picture(path), FIELDS)


def test_sixteen_bits(tmp_path: Path) -> None:
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    Image.fromarray(values).save(tmp_path / "deep.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.png")[..., 0], (values >> 8).astype(np.uint8))
    Image.fromarray(values).save(tmp_path / "deep.tif")
    np.testing.assert_array_equal(read_picture(tmp_path / "deep.tif")[..., 2], (values >> 8).astype(np.uint8))


def test_sixteen_bits_in_colour(tmp_path: Path) -> None:
    import cv2

    deep = FIELDS.astype(np.uint16) * 257
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])
    np.testing.assert_allclose(read_picture(tmp_path / "deep.png"), FIELDS, atol=1)


def test_palette_bilevel_and_transparency(tmp_path: Path) -> None:
    Image.fromarray(FIELDS).quantize(8).save(tmp_path / "palette.png")
    assert close(read_picture(tmp_path / "palette.png"), FIELDS)
    Image.fromarray(FIELDS[..., 1] > 0).save(tmp_path / "bilevel.png")
    np.testing.assert_array_equal(read_picture(tmp_path / "bilevel.png")[..., 0], np.where(FIELDS[..., 1] > 0, 255, 0))
    alpha = np.dstack([FIELDS, np.full((32, 48), 255, np.uint8)])
    alpha[:16, :24, 3] = 0
    Image.fromarray(alpha).save(tmp_path / "alpha.png")
    found = read_picture(tmp_path / "alpha.png")
    assert (found[:16, :24] == 255).all()
    np.testing.assert_array_equal(found[16:], FIELDS[16:])


#: What a viewer does with the stored pixels for each EXIF orientation.
SHOWN = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
    8: np.rot90,
}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(FIELDS).save(tmp_path / "turned.jpg", quality=95, exif=exif)
    expected = SHOWN[orientation](FIELDS)
    found = read_picture(tmp_path / "turned.jpg")
    assert found.shape == expected.shape
    assert close(found, expected)
    assert picture_size(tmp_path / "turned.jpg") == expected.shape[:2]
    reduced, size = read_picture_reduced(tmp_path / "turned.jpg", (expected.shape[0] // 4, expected.shape[1] // 4))
    assert size == expected.shape[:2]
    assert reduced.shape[:2] == (expected.shape[0] // 4, expected.shape[1] // 4)
    assert close(reduced, expected)


def test_reduced_scale_never_falls_below_what_is_needed(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((479, 641, 3), np.uint8)).save(tmp_path / "big.jpg")
    for wanted, expected in [
        ((479, 641), (479, 641)),
        ((240, 200), (479, 641)),
        ((239, 320), (240, 321)),
        ((1, 1), (60, 81)),
    ]:
        pixels, size = read_picture_reduced(tmp_path / "big.jpg", wanted)
        assert pixels.shape[:2] == expected
        assert size == (479, 641)


def test_missing_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jpg' does not exist"):
        read_picture(tmp_path / "none.jpg")


def test_folder_is_no_picture(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_picture(tmp_path)


@pytest.mark.parametrize("content", [b"", b"this is text", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0"])
def test_file_that_is_no_picture(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "odd.jpg").write_bytes(content)
    with pytest.raises(DataError, match=r"odd\.jpg' is (no picture|empty)"):
        read_picture(tmp_path / "odd.jpg")
    with pytest.raises(DataError):
        picture_size(tmp_path / "odd.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_picture_cut_short(tmp_path: Path, suffix: str, share: float) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8)
    path = tmp_path / f"cut.{suffix}"
    Image.fromarray(pixels).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(DataError, match="cut short or damaged"):
        read_picture(path)
    with pytest.raises(DataError, match="cut short or damaged"):
        read_picture_reduced(path, (50, 50))
    if suffix == "png":  # whose EXIF tag may stand after the pixels
        with pytest.raises(DataError, match="cut short or damaged"):
            picture_size(path)


@pytest.mark.parametrize("saved", [{}, {"progressive": True}, {"subsampling": 0, "quality": 60}, {"exif": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_has_the_pixels_that_pillow_gives_it(tmp_path: Path, root: Path, saved: dict, mode: str) -> None:
    path = tmp_path / "a.jpg"
    with Image.open(sorted((root / "examples/images").glob("*.jpg"))[3]) as picture:
        if "exif" in saved:
            tags = Image.Exif()
            tags[0x0112] = 6  # a quarter turn
            saved = {"exif": tags}
        picture.convert(mode).save(path, **saved)
    for tail in (b"", b"\0" * 10, b"more" * 1000):
        path.write_bytes(path.read_bytes() + tail)
        with Image.open(path) as whole:
            expected = np.asarray(ImageOps.exif_transpose(whole).convert("RGB"))
        found = read_picture(path)
        np.testing.assert_array_equal(found, expected)
        assert found.flags.writeable


@pytest.mark.parametrize(("side", "opens"), [(20_000, True), (20_001, False)])
def test_large_pictures_open_and_absurd_ones_do_not(tmp_path: Path, side: int, opens: bool) -> None:
    Image.fromarray(FIELDS).save(tmp_path / "large.jpg")
    content = bytearray((tmp_path / "large.jpg").read_bytes())
    frame = content.index(b"\xff\xc0") + 5
    content[frame : frame + 4] = struct.pack(">HH", side, side)  # what the head claims
    (tmp_path / "large.jpg").write_bytes(content)
    if opens:
        assert picture_size(tmp_path / "large.jpg") == (side, side)
    else:
        with pytest.raises(DataError, match=r"large\.jpg' has more than 400,000,000 pixels"):
            read_picture(tmp_path / "large.jpg")
