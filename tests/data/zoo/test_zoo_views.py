"""Random crops and pictures: what the network sees and what it shall answer lie over each other."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from limbnet.data.boxes import true_boxes
from limbnet.data.coco import load_coco
from limbnet.data.order import SampleKey
from limbnet.data.zoo.augment import draw_crop, draw_picture, half_body, moved_points
from limbnet.data.zoo.batches import JointMaker, OffsetMaker, TagMaker
from limbnet.data.zoo.samples import person_samples, picture_samples
from limbnet.decode.crops import Crops
from limbnet.errors import DataError
from limbnet.skeleton import COCO_17, COCO_JOINTS
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.zoo_train import CropParams, PictureParams, ZooTrainSpec
from limbnet.training.zoo.data import zoo_training_data

STILL = CropParams(scale_factor=0, rotate_factor=0, half_body_prob=0)
#: Two joints of one picture: where a white disc is painted.
NOSE, LEFT_WRIST = (90.0, 70.0), (150.0, 110.0)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of one black picture 240x320 with two discs, which are the nose and the left wrist of its person."""
    folder = tmp_path_factory.mktemp("discs")
    rows, columns = np.mgrid[:240, :320]
    grey = np.zeros((240, 320))
    for x, y in (NOSE, LEFT_WRIST):
        grey += 255 * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * 5**2))
    Image.fromarray(np.repeat(grey[..., None], 3, 2).astype(np.uint8)).save(folder / "one.png")
    keypoints = np.zeros((17, 3))
    keypoints[COCO_JOINTS.index("nose")] = *NOSE, 2
    keypoints[COCO_JOINTS.index("left_wrist")] = *LEFT_WRIST, 1
    people = [
        {"id": 1, "image_id": 7, "category_id": 1, "bbox": [60, 40, 120, 100], "area": 9000, "iscrowd": 0,
         "num_keypoints": 2, "keypoints": keypoints.ravel().tolist(), "segmentation": [[60, 40, 180, 40, 180, 140]]},
        {"id": 2, "image_id": 7, "category_id": 1, "bbox": [250, 10, 40, 60], "area": 2400, "iscrowd": 0,
         "num_keypoints": 0, "keypoints": [0] * 51, "segmentation": [[250, 10, 290, 10, 290, 70, 250, 70]]},
    ]  # fmt: skip
    content = {
        "images": [{"id": 7, "file_name": "one.png", "height": 240, "width": 320}],
        "annotations": people,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_JOINTS)}],
    }
    (folder / "people.json").write_text(json.dumps(content))
    part = {"images_root_dir_path": ".", "annotation_root_dir_path": "people.json"}
    spec = {
        "root_directory_path": str(folder),
        "train_data": part,
        "test_data": part,
        "categories": [{"name": "person", "num_joints": 17, "keypoints": list(COCO_JOINTS)}],
    }
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder / "dataset.json"


def dataset(path: Path) -> DatasetSpec:
    return DatasetSpec.model_validate(json.loads(path.read_text()))


def train_spec(path: Path, zoo: str, size: tuple[int, int], **augmentation: Any) -> ZooTrainSpec:
    return ZooTrainSpec.model_validate(
        {
            "model": {"zoo": zoo},
            "dataloader": {
                "batch_size": 1,
                "workers": 0,
                "image_config": {"image_dims": {"height": size[0], "width": size[1]}},
                "dataset_config": {"dataset_specs": {"discs": str(path)}},
                "augmentation_config": augmentation,
            },
        }
    )


def brightest(image: NDArray[Any], near: NDArray[np.float64], reach: int = 12) -> NDArray[np.float64]:
    """Return the middle (x, y) of the light within reach of a point of an image (H, W, 3)."""
    x, y = np.round(near).astype(int)
    rows = np.arange(max(0, y - reach), min(image.shape[0], y + reach + 1))
    columns = np.arange(max(0, x - reach), min(image.shape[1], x + reach + 1))
    light = image[np.ix_(rows, columns)][..., 0].astype(float)
    return np.array([(light.sum(0) @ columns) / light.sum(), (light.sum(1) @ rows) / light.sum()])


@pytest.mark.parametrize("unbiased", [False, True])
def test_crops_hold_still_where_nothing_is_random(discs: Path, unbiased: bool) -> None:
    """The crop is the one that the estimator cuts, and the joint's cell is the one it would map back to the joint."""
    size, map_size = (128, 96), (32, 24)
    samples = person_samples(dataset(discs), COCO_17, unbiased)
    spec = train_spec(discs, "hrnet_w32_256x192", size, flip_lr_prob=0, crop_params=STILL.model_dump())
    maker = JointMaker(samples, spec, COCO_17, unbiased)
    image, heatmaps, weights = maker.make(samples[0], np.random.default_rng(0))
    assert samples[0].boxes is not None
    crops = Crops.around(samples[0].boxes[:1], size, unbiased)
    picture = np.asarray(Image.open(discs.parent / "one.png"))
    assert np.abs(image.astype(int) - crops.images(picture, size)[0]).max() <= 1
    cell = crops.from_picture(np.array([[NOSE]]), map_size)[0, 0]
    y, x = np.unravel_index(heatmaps[0].argmax(), map_size)
    assert np.abs(cell - (x, y)).max() <= 0.5 + 1e-6
    assert weights.tolist() == [1.0 if joint in ("nose", "left_wrist") else 0.0 for joint in COCO_JOINTS]


@pytest.mark.parametrize("unbiased", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_discs_stay_under_their_joints_in_random_crops(discs: Path, unbiased: bool, seed: int) -> None:
    size = (256, 192)
    samples = person_samples(dataset(discs), COCO_17, unbiased)
    spec = train_spec(discs, "hrnet_w32_256x192", size, flip_lr_prob=0.5)
    maker = JointMaker(samples, spec, COCO_17, unbiased)
    image, heatmaps, weights = maker.make(samples[0], np.random.default_rng(seed))
    names = {"nose", "left_wrist"} if weights[COCO_JOINTS.index("left_wrist")] else {"nose", "right_wrist"}
    seen = 0
    for joint in names:
        number = COCO_JOINTS.index(joint)
        assert weights[number] == 1
        y, x = np.unravel_index(heatmaps[number].argmax(), heatmaps.shape[1:])
        place = np.array([x, y]) * ((size[1] - unbiased) / (48 - unbiased), (size[0] - unbiased) / (64 - unbiased))
        if (
            heatmaps[number].max() > 0.9
            and (np.abs(place - np.array(size[::-1]) / 2) < np.array(size[::-1]) / 2 - 20).all()
        ):
            assert np.abs(brightest(image, place) - place).max() <= 2.6  # half a cell, and the disc's cut-off rim
            seen += 1
    assert seen


def test_mirrored_crops_name_the_other_side(discs: Path) -> None:
    samples = person_samples(dataset(discs), COCO_17)
    plain = train_spec(discs, "hrnet_w32_256x192", (128, 96), flip_lr_prob=0, crop_params=STILL.model_dump())
    mirrored = train_spec(discs, "hrnet_w32_256x192", (128, 96), flip_lr_prob=1, crop_params=STILL.model_dump())
    one = JointMaker(samples, plain, COCO_17, True).make(samples[0], np.random.default_rng(0))
    two = JointMaker(samples, mirrored, COCO_17, True).make(samples[0], np.random.default_rng(0))
    assert np.abs(one[0][:, ::-1].astype(int) - two[0]).max() <= 2
    np.testing.assert_allclose(two[1], one[1][COCO_17.flip_index][:, :, ::-1], atol=1e-5)
    assert two[2].tolist() == one[2][COCO_17.flip_index].tolist()


def test_crops_vary_as_the_spec_says() -> None:
    box, joints = np.array([60.0, 40, 90, 120]), np.random.default_rng(0).uniform(60, 150, (17, 2))
    keys: dict[str, Any] = {"picture": (240, 320), "input_size": (256, 192), "skeleton": COCO_17, "unbiased": False}
    views = [
        draw_crop(
            box, joints, np.ones(17, bool), params=CropParams(), flip_prob=0.5,
            rng=np.random.default_rng(seed), **keys,
        )
        for seed in range(400)
    ]  # fmt: skip
    whole = Crops.around(box[None], (256, 192)).sizes[0, 0]
    flips = np.array([view.flip for view in views])
    angles = np.degrees([view.angle for view in views])
    assert 0.4 < flips.mean() < 0.6
    assert 0.3 < (angles == 0).mean() < 0.5
    assert 80 < np.abs(angles).max() <= 90 + 1e-9
    middle = np.array([view.crop.centres[0] for view in views])
    middle[flips, 0] = 319 - middle[flips, 0]
    whole_body = np.abs(middle - (105, 100)).max(axis=1) < 1e-9
    assert 0.62 < whole_body.mean() < 0.78
    factors = np.array([view.crop.sizes[0, 0] for view in views])[whole_body] / whole
    assert factors.min() >= 0.65 - 1e-9
    assert factors.max() <= 1.35 + 1e-9
    assert factors.std() > 0.15


def test_half_bodies_by_hand() -> None:
    joints = np.zeros((17, 2))
    used = np.zeros(17, bool)
    for name, point in (("nose", (10, 10)), ("left_eye", (20, 10)), ("left_wrist", (30, 40)), ("left_hip", (20, 60))):
        joints[COCO_JOINTS.index(name)], used[COCO_JOINTS.index(name)] = point, True
    upper = half_body(joints, used, COCO_17, (256, 192), unbiased=False, upper=True)
    lower = half_body(joints, used, COCO_17, (256, 192), unbiased=False, upper=False)  # one hip is too little
    assert upper is not None
    assert lower is not None
    np.testing.assert_allclose(upper.centres[0], [20, 20])
    np.testing.assert_allclose(upper.sizes[0], [22.5 * 1.5, 30 * 1.5])  # 20x30 grows to 22.5x30, then by a half
    np.testing.assert_allclose(lower.sizes, upper.sizes)
    wider = half_body(joints, used, COCO_17, (256, 192), unbiased=True, upper=True)
    assert wider is not None
    np.testing.assert_allclose(wider.sizes[0], [31 * 0.75 * 1.5, 31 * 1.5])
    only = np.zeros(17, bool)
    only[0] = True
    assert half_body(joints, only, COCO_17, (256, 192), unbiased=False, upper=True) is None


@pytest.mark.parametrize("seed", range(6))
def test_discs_stay_under_their_joints_in_random_pictures(discs: Path, seed: int) -> None:
    spec = train_spec(discs, "higherhrnet_w32_512", (256, 256))
    samples = picture_samples(dataset(discs), COCO_17)
    image, coarse, fine, coarse_mask, fine_mask, places = TagMaker(samples, spec, COCO_17).make(
        samples[0], np.random.default_rng(seed)
    )
    assert (coarse.shape, fine.shape) == ((17, 64, 64), (17, 128, 128))
    assert (coarse_mask.shape, fine_mask.shape) == ((1, 64, 64), (1, 128, 128))
    assert places.shape == (1, 17)
    for number in np.flatnonzero(places[0] >= 0):
        y, x = np.unravel_index(fine[number].argmax(), fine.shape[1:])
        place = np.array([x + 0.5, y + 0.5]) * 2
        if (np.abs(place - 128) < 100).all():
            assert np.abs(brightest(image, place, 20) - place).max() <= 2.5
        rest = places[0, number] - number * 64 * 64
        assert np.abs(np.array(divmod(rest, 64)) - (y // 2, x // 2)).max() <= 1  # mirrored maps: half a cell apart
    heat = OffsetMaker(picture_samples(dataset(discs), COCO_17), train_spec(discs, "dekr_w32_512", (256, 256)), COCO_17)
    again, heatmaps, weights, offsets, offset_weights = heat.make(samples[0], np.random.default_rng(seed))
    assert (again == image).all()
    assert (heatmaps.shape, offsets.shape) == ((18, 64, 64), (34, 64, 64))
    for number in np.flatnonzero(offset_weights[::2].any(axis=(1, 2))):
        row, column = np.argwhere(offset_weights[2 * number] > 0)[0]
        x, y = column - offsets[2 * number, row, column], row - offsets[2 * number + 1, row, column]
        top = np.array(np.unravel_index(heatmaps[number].argmax(), (64, 64)))
        assert np.abs(top - (y, x)).max() <= 0.5 + 1e-5
    assert set(np.unique(weights[:, :5, :5])) <= {np.float32(0), np.float32(0.1), np.float32(1)}


def test_masks_hide_the_unlabelled_and_what_lies_beyond_the_picture(discs: Path) -> None:
    """Not turned, the whole width in view (4/3 of the short side): the bands above and below are hidden."""
    still = PictureParams(scale_min=4 / 3, scale_max=4 / 3, rotate_deg_max=0, translate_ratio=0).model_dump()
    spec = train_spec(discs, "higherhrnet_w32_512", (320, 320), flip_lr_prob=0, picture_params=still)
    samples = picture_samples(dataset(discs), COCO_17)
    _, _, _, mask, _, _ = TagMaker(samples, spec, COCO_17).make(samples[0], np.random.default_rng(0))
    assert mask[0, 5, 40] == 0  # above the picture, which begins at row 10
    assert mask[0, 12, 40] == 1
    assert mask[0, 20, 67] == 0  # in the unlabelled person: (268, 40) in the picture
    assert mask[0, 40, 40] == 1
    flipped = train_spec(discs, "higherhrnet_w32_512", (320, 320), flip_lr_prob=1, picture_params=still)
    _, _, _, other, _, _ = TagMaker(samples, flipped, COCO_17).make(samples[0], np.random.default_rng(0))
    assert other[0, 20, 79 - 67] == 0
    assert (other != mask[:, :, ::-1]).mean() < 0.01


def test_pictures_vary_as_the_spec_says() -> None:
    views = [draw_picture((240, 320), PictureParams(), 0.5, np.random.default_rng(seed)) for seed in range(300)]
    lengths = np.array([view.length for view in views])
    assert 180 <= lengths.min() < 190
    assert 350 < lengths.max() <= 360
    assert np.degrees(np.abs([view.angle for view in views])).max() <= 30
    moved = np.abs([view.centre - (160, 120) for view in views]) / lengths[:, None]
    assert 0.19 < moved.max() <= 0.2
    still = draw_picture((240, 320), PictureParams(scale_min=1, scale_max=1, rotate_deg_max=0, translate_ratio=0), 0,
                         np.random.default_rng(0))  # fmt: skip
    np.testing.assert_allclose(
        moved_points(np.array([[160.0, 120.0], [40, 0]]), still.matrix(64)), [[32, 32], [0, 0]], atol=1e-9
    )


def test_samples_are_the_people_whose_boxes_are_given(root: Path) -> None:
    spec = DatasetSpec.model_validate(json.loads((root / "specs/dataset_examples.json").read_text()))
    spec = spec.model_copy(update={"root_directory_path": root / "examples"})
    coco = load_coco(root / "examples/annotations/person_keypoints.json", root / "examples/images", spec.category)
    for wider in (False, True):
        samples = person_samples(spec, COCO_17, wider)
        expected = [
            true_boxes(coco.annotations(number), (image.height, image.width), wider).boxes
            for number, image in enumerate(coco.images)
        ]
        found = np.array([sample.boxes[0] for sample in samples if sample.boxes is not None])
        np.testing.assert_allclose(found, np.concatenate(expected))
    pictures = picture_samples(spec, COCO_17)
    assert len(pictures) == sum(1 for number in range(len(coco)) if len(coco.annotations(number)))
    assert sum(len(sample.joints) for sample in pictures) == int((coco.people.labelled_count > 0).sum())


def test_nobody_to_learn_from_is_an_error(discs: Path, tmp_path: Path) -> None:
    content = json.loads((discs.parent / "people.json").read_text())
    content["annotations"] = content["annotations"][1:]
    (tmp_path / "people.json").write_text(json.dumps(content))
    spec = dataset(discs).model_copy(update={"root_directory_path": tmp_path})
    for gather in (person_samples, picture_samples):
        with pytest.raises(DataError, match="contains nobody to train on"):
            gather(spec, COCO_17)


@pytest.mark.parametrize("zoo", ["litehrnet_18_256x192", "higherhrnet_w32_512", "dekr_w32_512"])
def test_batches_depend_on_their_number_alone(discs: Path, zoo: str) -> None:
    spec = train_spec(discs, zoo, (128, 128))
    data = zoo_training_data(spec, COCO_17)
    first = list(islice(data.batches(0), 3))
    again = next(data.batches(2))
    assert all(torch.equal(a, b) for a, b in zip(first[2], again, strict=True))
    assert not torch.equal(first[0].images, first[1].images)
    assert first[0].images.dtype == torch.uint8
    assert first[0].samples.tolist() == [0]


def test_people_of_a_batch_are_filled_up_with_nobody(root: Path) -> None:
    spec = train_spec(root / "specs/dataset_examples.json", "higherhrnet_w32_512", (128, 128))
    dataset_spec = DatasetSpec.model_validate(json.loads((root / "specs/dataset_examples.json").read_text()))
    samples = picture_samples(dataset_spec.model_copy(update={"root_directory_path": root / "examples"}), COCO_17)
    counts = [len(sample.joints) for sample in samples]
    few, many = int(np.argmin(counts)), int(np.argmax(counts))
    batch = TagMaker(samples, spec, COCO_17).batch([SampleKey(few, 0), SampleKey(many, 0)])
    assert batch.cells.shape == (2, max(counts), 17)
    assert batch.cells[0, counts[few] :].max() == -1
    assert batch.cells[1].max() >= 0
