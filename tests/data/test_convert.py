"""Conversion: which records, in which order, in which files, and the masks beside them."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from dataset_folder import DatasetFolder, person
from PIL import Image

from limbnet.data.convert import convert_dataset, record_name
from limbnet.data.people import seeded_random, shuffled
from limbnet.data.records import Record, read_records
from limbnet.errors import DataError, SpecError


def many(folder: DatasetFolder, count: int = 11) -> None:
    """Pictures 0 to count - 1 with one person each."""
    for number in range(count):
        folder.image(number)
        folder.people(person(number, number))


def ids(file: Path) -> list[int]:
    return [record.image_id for record in read_records(file)]


def test_one_record_a_person_of_interest(crowded: DatasetFolder, tmp_path: Path) -> None:
    done = convert_dataset(crowded.write(), tmp_path / "out" / "train")
    assert (done.images, done.people, done.records, done.masks) == (4, 6, 4, 0)
    assert [file.name for file in done.files] == ["train-fold-000-of-001"]
    found = {(record.image_id, record.person_idx): record for record in read_records(done.files[0])}
    assert set(found) == {(1, 0), (1, 1), (2, 0), (3, 0)}
    second: Record = found[1, 1]
    annotations = crowded.content["annotations"]
    np.testing.assert_array_equal(second.joints[0].ravel(), annotations[1]["keypoints"])
    np.testing.assert_array_equal(second.joints[1].ravel(), annotations[0]["keypoints"])
    np.testing.assert_array_equal(second.scales, [80, 90])
    np.testing.assert_array_equal(second.centres, [[115, 60], [50, 55]])
    assert (second.height, second.width) == (120, 180)
    assert (second.image_path, second.mask_path, second.dataset) == ("images/001.jpg", "masks/001.png", "coco")
    np.testing.assert_array_equal(second.confidence, [[0.25] * 17, [1] * 17])
    assert len(found[2, 0].joints) == 1  # the unlabelled neighbour is not among them


def test_one_record_a_picture(crowded: DatasetFolder, tmp_path: Path) -> None:
    spec = crowded.write().model_copy(update={"duplicate_data_with_each_person_as_center": False})
    done = convert_dataset(spec, tmp_path / "train")
    assert sorted((record.image_id, record.person_idx) for record in read_records(done.files[0])) == [
        (1, 0),
        (2, 0),
        (3, 0),
    ]


def test_order_is_seeded(folder: DatasetFolder, tmp_path: Path) -> None:
    many(folder)
    spec = folder.write()
    first = convert_dataset(spec, tmp_path / "a").files[0]
    second = convert_dataset(spec, tmp_path / "b").files[0]
    assert first.read_bytes() == second.read_bytes()
    assert ids(first) == shuffled(11, seeded_random())


def test_folds_and_shards(folder: DatasetFolder, tmp_path: Path) -> None:
    """Records go round the folds; each fold is shuffled by the same generator, then cut; the rest goes to the last."""
    many(folder)
    done = convert_dataset(folder.write(), tmp_path / "train", partitions=2, shards=2)
    assert [file.name for file in done.files] == [
        f"train-fold-{fold:03d}-of-002-shard-{shard:05d}-of-00002" for fold in range(2) for shard in range(2)
    ]
    generator = seeded_random()
    even = [2 * n for n in shuffled(6, generator)]
    odd = [2 * n + 1 for n in shuffled(5, generator)]
    assert [ids(file) for file in done.files] == [even[:3], even[3:], odd[:2], odd[2:]]
    assert done.records == 11


def test_names_without_folds() -> None:
    assert record_name(Path("a/b"), 0, 0, 0, 0) == Path("a/b")
    assert record_name(Path("a/b"), 0, 1, 0, 0) == Path("a/b-fold-000-of-001")
    assert record_name(Path("a/b"), 0, 0, 2, 3) == Path("a/b-shard-00002-of-00003")


@pytest.mark.parametrize("processes", [1, 2])
def test_masks(crowded: DatasetFolder, tmp_path: Path, processes: int) -> None:
    for number in range(5, 42):
        crowded.image(number, name=f"sub/{number}.jpeg")
        crowded.people(person(100 + number, number))
    done = convert_dataset(crowded.write(), tmp_path / "train", generate_masks=True, processes=processes)
    folder = crowded.root / "masks"
    assert done.mask_folder == folder
    assert done.masks == 40 == len(list(folder.rglob("*.png")))  # the picture without annotations has none
    assert not (folder / "004.png").exists()
    mask = np.asarray(Image.open(folder / "002.png"))
    assert mask.shape == (140, 160)
    assert (mask[40:110, 40:100] == 0).all()
    assert (mask == 0).sum() == 70 * 60
    assert (np.asarray(Image.open(folder / "sub" / "7.png")) == 255).all()


def test_missing_files_are_left_out_with_a_warning(
    crowded: DatasetFolder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = crowded.write()
    (crowded.root / "images" / "001.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        done = convert_dataset(spec, tmp_path / "train", generate_masks=True, check_files=True)
    assert (done.records, done.skipped) == (2, 1)
    assert "001.jpg' is missing" in caplog.text
    (crowded.root / "masks" / "003.png").unlink()
    assert convert_dataset(spec, tmp_path / "train", check_files=True).skipped == 2


def test_nothing_left(crowded: DatasetFolder, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"whose files exist contains nobody[^\0]*made by --generate_masks"):
        convert_dataset(crowded.write(), tmp_path / "train", check_files=True)  # there are no masks


def test_nobody_to_train_on(folder: DatasetFolder, tmp_path: Path) -> None:
    folder.image(1)
    folder.people(person(1, 1, labelled=4))
    with pytest.raises(DataError, match="contains nobody to train on"):
        convert_dataset(folder.write(), tmp_path / "train")
    assert not list(tmp_path.glob("train*"))


def test_visibility_flags_that_training_would_refuse(folder: DatasetFolder, tmp_path: Path) -> None:
    folder.image(1)
    folder.people(person(1, 1, keypoints=[5.0, 5.0, 7.0] * 17))
    with pytest.raises(DataError, match="have the visibility flag 7"):
        convert_dataset(folder.write(), tmp_path / "train")
    assert not list(tmp_path.glob("train*"))


def test_masks_need_a_folder(crowded: DatasetFolder, tmp_path: Path) -> None:
    spec = crowded.write()
    part = spec.train_data.model_copy(update={"mask_root_dir_path": ""})
    spec = spec.model_copy(update={"train_data": part})
    with pytest.raises(SpecError, match="no mask_root_dir_path"):
        convert_dataset(spec, tmp_path / "train", generate_masks=True)
    done = convert_dataset(spec, tmp_path / "train")
    assert next(iter(read_records(done.files[0]))).mask_path == ""


def test_two_pictures_with_one_mask(folder: DatasetFolder, tmp_path: Path) -> None:
    folder.image(1, name="same.jpg")
    folder.image(2, name="same.png")
    folder.people(person(1, 1), person(2, 2))
    with pytest.raises(DataError, match=r"'same\.jpg' and 'same\.png' .* share one mask, 'same\.png'"):
        convert_dataset(folder.write(), tmp_path / "train")
