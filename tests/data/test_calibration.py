"""Pictures to calibrate with: drawn, fitted, stored in tensor files and read back."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest

from limbnet.data.calibration import (
    TensorFile,
    choose_pictures,
    find_pictures,
    fit_strictly,
    normalised,
    write_tensor_file,
)
from limbnet.data.pictures import read_picture
from limbnet.errors import DataError
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18

INFO = ModelInfo(BODY_18)
SIZE = (64, 96)


@pytest.fixture(scope="module")
def folder(root: Path) -> Path:
    return root / "examples" / "images"


def test_suffixes_in_any_case_and_folders_within(folder: Path, tmp_path: Path) -> None:
    picture = next(folder.glob("*.jpg")).read_bytes()
    for name in ("b.JPG", "a.jpeg", "sub/c.Png", "note.txt", "d.gif"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(picture)
    assert [path.name for path in find_pictures(tmp_path)] == ["a.jpeg", "b.JPG", "c.Png"]


def test_the_draw_follows_the_seed(folder: Path) -> None:
    first = choose_pictures(folder, 3, 2, SIZE, INFO, seed=1).paths
    assert len(set(first)) == 6
    assert choose_pictures(folder, 3, 2, SIZE, INFO, seed=1).paths == first
    assert choose_pictures(folder, 3, 2, SIZE, INFO, seed=2).paths != first


def test_batches_are_what_inference_would_see(folder: Path) -> None:
    chosen = choose_pictures(folder, 2, 2, SIZE, INFO)
    batches = list(chosen)
    assert (len(chosen), [batch.shape for batch in batches]) == (2, [(2, 64, 96, 3)] * 2)
    picture = fit_strictly(read_picture(chosen.paths[2]), SIZE, INFO)
    np.testing.assert_array_equal(batches[1][0], (picture.astype(np.float32) - 128) / 256)
    swapped = replace(INFO, colour_order="bgr", image_offset=(0.1, 0.2, 0.3))
    np.testing.assert_allclose(
        normalised(picture[None], swapped)[0], picture[..., ::-1] / 256 - np.array([0.1, 0.2, 0.3]), atol=1e-6
    )


def test_too_few_and_broken_pictures(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"needs 40 pictures \(20 batches of 2\), but .* holds 28") as error:
        choose_pictures(folder, 20, 2, SIZE, INFO)
    assert "--batches 14" in error.value.todo
    picture = next(folder.glob("*.jpg")).read_bytes()
    (tmp_path / "good.jpg").write_bytes(picture)
    (tmp_path / "cut.jpg").write_bytes(picture[: len(picture) // 2])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(DataError, match="2 of 3") as error:
        choose_pictures(tmp_path, 3, 1, SIZE, INFO).check()
    assert "cut.jpg" in str(error.value)
    assert "text.png" in str(error.value)
    with pytest.raises(DataError, match="no folder"):
        find_pictures(tmp_path / "nowhere")


@pytest.mark.parametrize("channels_first", [False, True])
def test_tensor_file_has_nvidias_layout(folder: Path, tmp_path: Path, channels_first: bool) -> None:
    chosen = choose_pictures(folder, 3, 2, SIZE, INFO)
    path = tmp_path / "cal.tensorfile"
    write_tensor_file(path, chosen, channels_first)
    shape = (2, 3, 64, 96) if channels_first else (2, 64, 96, 3)
    with h5py.File(path) as file:
        assert int(file.attrs["count"]) == 3
        assert tuple(file.attrs["shape"]) == shape
        data = file["_tensorfile_array_key__1/_tensorfile_array_key_"]
        assert (data.dtype, data.compression, data.shape) == (np.float64, "gzip", shape)
    read = TensorFile(path, SIZE)
    assert (len(read), read.batch_size, read.channels_first) == (3, 2, channels_first)
    for written, found in zip(chosen, read, strict=True):
        np.testing.assert_array_equal(found, written)
    np.testing.assert_array_equal(read.images(1, 4, INFO), chosen.images(1, 4))


def test_a_file_written_by_other_hands_is_read(tmp_path: Path) -> None:
    """As upstream writes it: level 4 gzip, (x - 128) / 256 in float64."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 64, 96, 3))
    with h5py.File(tmp_path / "theirs", "w") as file:
        for number, batch in enumerate(pixels):
            group = file.create_group(f"_tensorfile_array_key__{number}")
            group.create_dataset("_tensorfile_array_key_", data=(batch - 128) / 256, compression="gzip")
        file.attrs["count"], file.attrs["shape"] = 2, (1, 64, 96, 3)
    np.testing.assert_array_equal(TensorFile(tmp_path / "theirs").images(0, 2, INFO), pixels[:, 0])


def test_wrong_tensor_files(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(DataError, match="no calibration tensor file"):
        TensorFile(tmp_path / "text")
    with pytest.raises(DataError, match="no calibration tensor file"):
        TensorFile(tmp_path / "missing")
    path = tmp_path / "cal.h5"
    write_tensor_file(path, choose_pictures(folder, 2, 1, SIZE, INFO))
    with pytest.raises(DataError, match=r"are 64x96 .* to be 288x384") as error:
        TensorFile(path, (288, 384))
    assert "-d 64,96,3" in error.value.todo
    with h5py.File(path, "a") as file:
        del file["_tensorfile_array_key__1"]
    with pytest.raises(DataError, match=r"batches \[1\] are missing"):
        TensorFile(path)


def test_a_failing_write_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    picture = next(folder.glob("*.jpg")).read_bytes()
    (tmp_path / "in" / "a.jpg").write_bytes(picture)
    (tmp_path / "in" / "b.jpg").write_bytes(picture[:100])
    with pytest.raises(DataError, match=r"b\.jpg"):
        write_tensor_file(tmp_path / "out.h5", choose_pictures(tmp_path / "in", 2, 1, SIZE, INFO))
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
