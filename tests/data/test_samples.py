"""Samples: the same from COCO JSON and from records, of one dataset or several, and mistakes found before training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_folder import DatasetFolder, person
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.data.convert import convert_dataset
from limbnet.data.masks import picture_mask
from limbnet.data.samples import (
    Sample,
    Samples,
    missing_files,
    samples_from_coco,
    samples_from_records,
    training_samples,
)
from limbnet.errors import DataError
from limbnet.skeleton import BODY_18
from limbnet.specs.dataset import DatasetSpec


def same(first: Sample, second: Sample) -> bool:
    """Compare everything that training sees of two samples, masks pixel by pixel."""
    size = first.picture.size
    masks = [picture_mask(sample.picture.mask, size) for sample in (first, second)]
    masks = [np.full(size, 255, np.uint8) if mask is None else mask for mask in masks]
    confidences = [np.zeros(0) if sample.confidence is None else sample.confidence for sample in (first, second)]
    return (
        first.picture.path == second.picture.path
        and first.picture.size == second.picture.size
        and np.array_equal(first.joints, second.joints)
        and np.array_equal(*confidences)
        and np.array_equal(first.centre, second.centre)
        and first.height == second.height
        and np.array_equal(*masks)
    )


def both(spec: DatasetSpec, output: Path) -> tuple[Samples, Samples]:
    done = convert_dataset(spec, output, generate_masks=True)
    return samples_from_coco(spec, BODY_18), samples_from_records(done.files, {spec.dataset: spec}, BODY_18)


def test_json_and_records_give_the_same_samples(crowded: DatasetFolder, tmp_path: Path) -> None:
    direct, converted = both(crowded.write(), tmp_path / "train")
    assert len(direct) == len(converted) == 4
    assert all(same(a, b) for a, b in zip(direct, converted, strict=True))
    assert any(picture_mask(s.picture.mask, s.picture.size) is not None for s in direct)
    assert direct.confidence is not None


def test_examples_give_the_same_samples(root: Path, tmp_path: Path) -> None:
    from limbnet.specs.load import load_dataset_spec

    spec = load_dataset_spec(root / "specs" / "dataset_examples.json")
    masks = spec.train_data.model_copy(update={"mask_root_dir_path": str(tmp_path / "masks")})
    spec = spec.model_copy(update={"train_data": masks})
    direct, converted = both(spec, tmp_path / "train")
    assert len(direct) > 20
    assert all(same(a, b) for a, b in zip(direct, converted, strict=True))


def test_what_a_sample_holds(crowded: DatasetFolder) -> None:
    samples = samples_from_coco(crowded.write(), BODY_18)
    found = next(s for s in samples if s.picture.path.endswith("001.jpg") and s.height == 80)
    assert found.joints.shape == (2, 18, 3)
    np.testing.assert_array_equal(found.centre, [115, 60])
    wrist, neck = BODY_18.joints.index("left_wrist"), BODY_18.joints.index("neck")
    assert found.joints[0, wrist, 2] == 4  # the main person has nine joints labelled, up to the right elbow
    assert found.joints[1, wrist, 2] in (0, 2)
    assert found.joints[0, neck, 2] == 2  # one of the shoulders is occluded
    assert found.confidence is not None
    assert (found.confidence[0] == 0.25).all()
    assert (found.confidence[1] == 1).all()


def test_nobody_to_train_on(folder: DatasetFolder) -> None:
    folder.image(1)
    with pytest.raises(DataError, match=r"people\.json' contains nobody to train on"):
        samples_from_coco(folder.write(), BODY_18)


def test_pictures_without_keypoints_are_no_samples(folder: DatasetFolder) -> None:
    """People nobody labelled, a crowd, and nobody at all: only the one labelled person makes a sample."""
    for number in range(1, 5):
        folder.image(number)
    folder.people(person(1, 1, labelled=0), person(2, 2, labelled=0, iscrowd=1), person(3, 3))
    samples = samples_from_coco(folder.write(), BODY_18)
    assert [Path(s.picture.path).name for s in samples] == ["003.jpg"]


def test_several_datasets(crowded: DatasetFolder, tmp_path: Path) -> None:
    other = DatasetFolder(tmp_path / "other")
    other.image(1)
    other.people(person(1, 1))
    first = crowded.write()
    second = other.write().model_copy(update={"dataset": "studio"})
    joined = Samples.joined([samples_from_coco(first, BODY_18), samples_from_coco(second, BODY_18)])
    alone = [*samples_from_coco(first, BODY_18), *samples_from_coco(second, BODY_18)]
    assert len(joined) == 5
    for a, b in zip(joined, alone, strict=True):
        assert a.picture.path == b.picture.path
        np.testing.assert_array_equal(a.joints, b.joints)
        assert (a.centre == b.centre).all()
    assert joined[4].confidence is not None
    assert (joined[4].confidence == 1).all()

    files = [*convert_dataset(second, tmp_path / "b").files, *convert_dataset(first, tmp_path / "a").files]
    specs = {"studio": second, "coco": first}
    assert len(samples_from_records(files, specs, BODY_18)) == 5
    with pytest.raises(DataError, match=r"belong to the dataset 'studio', which dataset_specs does not name"):
        samples_from_records(files, {"coco": first, "studios": second}, BODY_18)


def test_records_of_another_spec(crowded: DatasetFolder, tmp_path: Path) -> None:
    spec = crowded.write()
    files = convert_dataset(spec, tmp_path / "train").files
    shorter = spec.category.model_copy(update={"keypoints": spec.category.keypoints[:16], "num_joints": 16})
    with pytest.raises(DataError, match=r"have 17 joints a person, the spec of 'coco' has 16"):
        samples_from_records(files, {"coco": spec.model_copy(update={"categories": (shorter,)})}, BODY_18)


def test_empty_records(tmp_path: Path) -> None:
    (tmp_path / "none").write_bytes(b"")
    with pytest.raises(DataError, match=r"none' contains nobody to train on"):
        samples_from_records([tmp_path / "none"], {}, BODY_18)


def test_samples_a_train_spec_names(crowded: DatasetFolder, tmp_path: Path) -> None:
    spec = crowded.write()
    convert_dataset(spec, tmp_path / "train", partitions=2, generate_masks=True)
    config = crowded.train_spec().dataloader.dataset_config
    assert len(training_samples(config, BODY_18)) == 4
    folds = config.model_copy(update={"train_records_folder_path": tmp_path, "train_records_path": ("train-fold-*",)})
    assert len(training_samples(folds, BODY_18)) == 4
    elsewhere = folds.model_copy(update={"root_data_path": tmp_path / "moved"})
    assert training_samples(elsewhere, BODY_18)[0].picture.path.startswith(str(tmp_path / "moved" / "images"))
    for wrong in ("train-fold-000", "test-*"):
        with pytest.raises(DataError, match=r"cannot be read|No record file is called"):
            training_samples(folds.model_copy(update={"train_records_path": (wrong,)}), BODY_18)


def test_missing_pictures_are_counted_and_named(crowded: DatasetFolder) -> None:
    samples = samples_from_coco(crowded.write(), BODY_18)
    samples.check_files()
    for number in (1, 2):
        (crowded.root / "images" / f"00{number}.jpg").unlink()
    with pytest.raises(DataError, match=r"(?s)2 of 3 pictures and masks are missing.*001\.jpg"):
        samples.check_files()


def test_missing_masks(crowded: DatasetFolder, tmp_path: Path) -> None:
    spec = crowded.write()
    samples = samples_from_records(convert_dataset(spec, tmp_path / "t").files, {"coco": spec}, BODY_18)
    with pytest.raises(DataError, match=r"3 of 6 pictures and masks are missing"):
        samples.check_files()


@settings(max_examples=20, deadline=None)
@given(names=st.lists(st.sampled_from(["a", "b/c", "b/d", "gone/e", "f"]), max_size=8))
def test_missing_files(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    folder = tmp_path_factory.mktemp("files")
    (folder / "b").mkdir()
    for name in ("a", "b/c"):
        (folder / name).touch()
    paths = [str(folder / name) for name in names]
    assert missing_files(paths) == [path for path in paths if not Path(path).exists()]
