"""The stream of batches: the same for every number of workers, from every start, and shared out over processes."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from dataset_folder import DatasetFolder, person
from PIL import Image

from limbnet.data.convert import convert_dataset
from limbnet.data.loader import Batch, TrainingData, network_input
from limbnet.data.samples import samples_from_coco, samples_from_records
from limbnet.data.stream import default_workers
from limbnet.data.targets import make_targets
from limbnet.errors import DataError, LimbnetError
from limbnet.skeleton import BODY_18, COCO_JOINTS
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.train import TrainSpec


@pytest.fixture
def data(crowded: DatasetFolder) -> TrainingData:
    """Ten samples in batches of three at 64x96."""
    for number in range(5, 11):
        crowded.image(number, height=90, width=130)
        crowded.people(person(20 + number, number, (10, 5, 70, 75)))
    crowded.write()
    return TrainingData(crowded.train_spec(), BODY_18)


def with_workers(data: TrainingData, workers: int) -> TrainingData:
    clone: TrainingData = pickle.loads(pickle.dumps(data))
    clone.workers = workers
    return clone


def first_batches(data: TrainingData, count: int, start: int = 0) -> list[Batch]:
    stream = data.batches(start)
    found = list(islice(stream, count))
    stream.close()  # type: ignore[attr-defined]
    return found


def equal(first: list[Batch], second: list[Batch]) -> bool:
    return all(torch.equal(a, b) for x, y in zip(first, second, strict=True) for a, b in zip(x, y, strict=True))


def test_shapes_types_and_ranges(data: TrainingData) -> None:
    (batch,) = first_batches(data, 1)
    assert batch.images.shape == (3, 64, 96, 3)
    assert batch.images.dtype == torch.uint8
    assert batch.heatmaps.shape == (3, 19, 8, 12)
    assert batch.pafs.shape == (3, 38, 8, 12)
    assert batch.masks.shape == (3, 1, 8, 12)
    assert {tensor.dtype for tensor in batch[1:4]} == {torch.float32}
    assert batch.heatmaps.min() >= 0
    assert batch.heatmaps.max() <= 1
    assert batch.pafs.abs().max() <= 1 + 1e-6
    assert batch.masks.min() >= 0
    assert batch.masks.max() == 1
    assert len(data) == 10
    assert data.steps_per_epoch == 3


def test_network_input_values() -> None:
    """Pixels 0, 127 and 255 become -0.5, -0.00390625 and 0.49609375."""
    images = torch.tensor([0, 127, 255], dtype=torch.uint8).reshape(1, 1, 3, 1).expand(1, 1, 3, 3)
    found = network_input(images, (256.0,) * 3, (0.5,) * 3)
    assert found.shape == (1, 3, 1, 3)
    torch.testing.assert_close(found[0, 2, 0], torch.tensor([-0.5, -0.00390625, 0.49609375]), rtol=0, atol=0)


def test_channels_have_their_own_scale() -> None:
    images = torch.full((1, 2, 2, 3), 100, dtype=torch.uint8)
    found = network_input(images, (100.0, 50.0, 25.0), (0.0, 1.0, 2.0))
    torch.testing.assert_close(found[0, :, 0, 0], torch.tensor([1.0, 1.0, 2.0]))


def test_every_pass_visits_every_sample_once(data: TrainingData) -> None:
    """Passes follow without a gap: ten batches of three are three passes of ten."""
    visits = np.concatenate([batch.samples.numpy() for batch in first_batches(data, 10)]).reshape(3, 10)
    assert (np.sort(visits, axis=1) == np.arange(10)).all()
    assert not (visits[0] == visits[1]).all()


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_number_of_workers_changes_nothing(data: TrainingData, workers: int) -> None:
    assert equal(first_batches(data, 8), first_batches(with_workers(data, workers), 8))


@pytest.mark.parametrize("start", [1, 4, 13])
def test_starting_later_gives_the_same_batches(data: TrainingData, start: int) -> None:
    assert equal(first_batches(data, start + 3)[start:], first_batches(with_workers(data, 2), 3, start))


def test_global_generators_are_left_alone(data: TrainingData) -> None:
    """A run that opens its streams at other moments must not see other random numbers elsewhere."""
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first_batches(data, 2)
    first_batches(with_workers(data, 1), 2)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


def test_seed_decides(data: TrainingData, crowded: DatasetFolder) -> None:
    spec = crowded.train_spec().model_copy(update={"random_seed": 7})
    assert not equal(first_batches(data, 2), first_batches(TrainingData(spec, BODY_18), 2))
    assert equal(first_batches(data, 2), first_batches(TrainingData(crowded.train_spec(), BODY_18), 2))


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_global_batch(data: TrainingData, crowded: DatasetFolder, world: int) -> None:
    """Process r of N has samples r, r + N, ... of every batch that one process with N times the batch sees."""
    whole = TrainingData(crowded.train_spec(batch_size=2 * world), BODY_18)
    spec = crowded.train_spec(batch_size=2)
    parts = [first_batches(TrainingData(spec, BODY_18, rank, world), 5) for rank in range(world)]
    for number, batch in enumerate(first_batches(whole, 5)):
        for rank in range(world):
            for mine, all_ in zip(parts[rank][number], batch, strict=True):
                assert torch.equal(mine, all_[rank::world])
    assert TrainingData(spec, BODY_18, 0, world).steps_per_epoch == 10 // (2 * world)


def test_augmentation_differs_from_pass_to_pass(data: TrainingData) -> None:
    seen: dict[int, list[torch.Tensor]] = {}
    for batch in first_batches(data, 10):
        for number, image in zip(batch.samples.tolist(), batch.images, strict=True):
            seen.setdefault(number, []).append(image)
    assert all(not torch.equal(images[0], images[1]) for images in seen.values())


def test_records_and_json_give_the_same_batches(data: TrainingData, crowded: DatasetFolder, tmp_path: Path) -> None:
    spec = crowded.write()
    files = convert_dataset(spec, tmp_path / "train", generate_masks=True).files
    train = crowded.train_spec()
    direct = TrainingData(train, BODY_18, samples=samples_from_coco(spec, BODY_18))
    converted = TrainingData(train, BODY_18, samples=samples_from_records(files, {"coco": spec}, BODY_18))
    assert equal(first_batches(direct, 7), first_batches(converted, 7))
    named = {"train_records_folder_path": str(tmp_path), "train_records_path": [files[0].name]}
    sources = {"dataset_specs": {"coco": str(crowded.root / "dataset.json")}, **named}
    assert equal(
        first_batches(data, 7), first_batches(TrainingData(crowded.train_spec(dataset_config=sources), BODY_18), 7)
    )


def test_without_augmentation_the_labels_are_those_of_the_picture(crowded: DatasetFolder) -> None:
    """Mode `standard` without random changes: joints scaled and padded like the picture, the mask beside them."""
    still = {"flip_lr_prob": 0, "rotate_deg_max": 0, "translate_max_x": 0, "translate_max_y": 0}
    config = {"spatial_augmentation_mode": "standard", "spatial_aug_params": still}
    spec = crowded.write()
    data = TrainingData(crowded.train_spec(augmentation_config=config, batch_size=4), BODY_18)
    (batch,) = first_batches(data, 1)
    samples = samples_from_coco(spec, BODY_18)
    for place, number in enumerate(batch.samples.tolist()):
        sample = samples[number]
        h, w = sample.picture.size
        scale = min(64 / h, 96 / w)
        joints = sample.joints.copy()
        joints[..., :2] = joints[..., :2] * scale + ((96 - w * scale) / 2, (64 - h * scale) / 2)
        heatmaps, pafs = make_targets(joints, BODY_18, (8, 12), 8, sigma=7, paf_distance=1)
        np.testing.assert_allclose(batch.heatmaps[place], heatmaps, atol=1e-5)
        np.testing.assert_allclose(batch.pafs[place], pafs, atol=1e-5)
        hides = sample.picture.path.endswith(("002.jpg", "003.jpg"))
        assert (batch.masks[place].min() < 0.5) == hides


def test_colours_change_when_asked(crowded: DatasetFolder) -> None:
    crowded.write()
    plain = TrainingData(crowded.train_spec(), BODY_18)
    colourful = TrainingData(
        crowded.train_spec(augmentation_config={"colour_aug_params": {"brightness": 0.3}}), BODY_18
    )
    (a,), (b,) = first_batches(plain, 1), first_batches(colourful, 1)
    assert not torch.equal(a.images, b.images)
    assert torch.equal(a.heatmaps, b.heatmaps)


def test_input_of_another_stride(crowded: DatasetFolder) -> None:
    crowded.write()
    spec = crowded.train_spec()
    backbone = spec.model.backbone_attributes.model_copy(update={"architecture": "helnet", "mtype": "default"})
    spec = spec.model_copy(update={"model": spec.model.model_copy(update={"backbone_attributes": backbone})})
    (batch,) = first_batches(TrainingData(spec, BODY_18), 1)
    assert batch.heatmaps.shape == (3, 19, 4, 6)


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_picture_ends_with_one_message(data: TrainingData, workers: int) -> None:
    path = Path(data.samples.pictures[0].path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(LimbnetError) as caught:
        first_batches(with_workers(data, workers), 8)
    assert str(path) in str(caught.value)
    assert "cut short or damaged" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_picture_of_another_size(data: TrainingData) -> None:
    path = Path(data.samples.pictures[0].path)
    size = data.samples.pictures[0].size
    Image.new("RGB", (size[1] // 2, size[0] // 2)).save(path)
    with pytest.raises(DataError, match=f"but the annotations say {size[0]}x{size[1]}"):
        first_batches(data, 8)


def test_missing_picture_is_found_before_training(data: TrainingData, crowded: DatasetFolder) -> None:
    Path(data.samples.pictures[0].path).unlink()
    with pytest.raises(DataError, match=r"1 of .* pictures and masks are missing"):
        TrainingData(crowded.train_spec(), BODY_18)


def test_workers_are_shared_out() -> None:
    assert default_workers(1) >= default_workers(4) >= 1


def test_real_pictures(shared_data: Path, tmp_path: Path) -> None:
    """Grey pictures, crowds, unlabelled people and all the rest, as records and as JSON."""
    part = {
        "images_root_dir_path": "images/train",
        "mask_root_dir_path": str(tmp_path / "masks"),
        "annotation_root_dir_path": "annotations/person_keypoints_train.json",
    }
    spec = DatasetSpec.model_validate(
        {
            "root_directory_path": shared_data / "coco-mini",
            "train_data": part,
            "test_data": part,
            "categories": [{"keypoints": COCO_JOINTS}],
        }
    )
    train = TrainSpec.model_validate(
        {"dataloader": {"workers": 2, "dataset_config": {"dataset_specs": {"coco": "given"}}}}
    )
    direct = samples_from_coco(spec, BODY_18)
    files = convert_dataset(spec, tmp_path / "train", generate_masks=True).files
    converted = samples_from_records(files, {"coco": spec}, BODY_18)
    streams = [TrainingData(train, BODY_18, samples=samples) for samples in (direct, converted)]
    assert equal(first_batches(streams[0], 12), first_batches(streams[1], 12))
