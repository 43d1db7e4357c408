"""Copy and paste: a person's pixels, joints and confidences move together, and what lies below is covered."""

from __future__ import annotations

import json

import numpy as np
import pytest
from dataset_folder import DatasetFolder, person
from PIL import Image

from limbnet.data.mixing import TRUNCATED, Piece
from limbnet.data.pasting import Scissors, samples_to_cut
from limbnet.data.samples import Samples, samples_from_coco
from limbnet.errors import DataError
from limbnet.skeleton import BODY_18
from limbnet.specs.recipe import CopyPasteParams

GREEN = (20, 200, 40)
DIAMOND = [[50.0, 10.0, 80.0, 55.0, 50.0, 100.0, 20.0, 55.0]]


@pytest.fixture
def samples(folder: DatasetFolder) -> Samples:
    """Three people: one with a diamond for an outline, filled with green; one with a box, one with none."""
    for number in (1, 2, 3):
        folder.image(number)
    folder.people(
        person(10, 1, (20, 10, 60, 90), segmentation=DIAMOND, keypoint_confidence=[0.5] * 17),
        person(11, 2, (20, 10, 60, 90)),
        person(12, 3, (20, 10, 60, 90), segmentation=[]),
    )
    Image.new("RGB", (160, 120), GREEN).save(folder.root / "images" / "001.jpg", quality=100)
    return samples_from_coco(folder.write(), BODY_18, outlines=True)


def blank(joints: np.ndarray) -> Piece:
    return Piece(np.zeros((96, 128, 3), np.uint8), joints, None, np.zeros((12, 16), np.float32))


def test_only_drawn_outlines_are_cut(samples: Samples) -> None:
    (number,) = samples_to_cut(samples)
    assert samples[int(number)].picture.path.endswith("001.jpg")


def test_run_lengths_are_outlines(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.people(person(10, 1, segmentation={"size": [120, 160], "counts": [2400, 9600, 7200]}))
    assert len(samples_to_cut(samples_from_coco(folder.write(), BODY_18, outlines=True))) == 1


def test_without_outlines_there_is_nothing_to_cut(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.people(person(10, 1, segmentation=DIAMOND))
    with pytest.raises(DataError, match="no annotation has one"):
        samples_to_cut(samples_from_coco(folder.write(), BODY_18))


def test_pixels_joints_and_mask_move_together(samples: Samples) -> None:
    """The diamond is as high as its box and 2/3 as wide; joints inside it stay on green when they lie well within."""
    scissors = Scissors(samples, BODY_18, CopyPasteParams(person_scale_min=0.5, person_scale_max=0.5, most_people=1))
    everywhere = np.stack(np.meshgrid(np.arange(0, 128, 4.0), np.arange(0, 96, 4.0)), axis=-1).reshape(-1, 1, 2)
    grid = np.concatenate([np.repeat(everywhere, 18, axis=1), np.zeros((len(everywhere), 18, 1))], axis=-1)
    whole_seen = 0
    for seed in range(12):
        pasted = scissors.paste(blank(grid), np.random.default_rng(seed))
        green = np.abs(pasted.image.astype(int) - GREEN).max(axis=-1) < 12
        assert (pasted.image[~green].max(axis=-1) < 250).all()
        covered = pasted.joints[: len(grid), 0, 2] == TRUNCATED
        for (x, y), hidden in zip(everywhere[:, 0].astype(int), covered, strict=True):
            around = np.s_[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
            assert hidden or not green[around].all()
            assert not hidden or pasted.image[around].max() > 60  # at the diamond's tips little green is left
        counted = np.repeat(np.repeat(pasted.cells > 0, 8, axis=0), 8, axis=1)
        assert abs(int(counted.sum()) - int(green.sum())) < 0.35 * green.sum() + 200
        joints = pasted.joints[-1]
        centre = joints[joints[:, 2] <= 2, :2].mean(axis=0)
        if (centre > 24).all() and (centre < (104, 72)).all():
            # Half of the input's 96 pixels high, and an area of half height times width: 48 x 32 / 2.
            assert (pasted.image[..., 1] > GREEN[1] / 2).sum() == pytest.approx(48 * 32 / 2, rel=0.08)
            assert green[int(centre[1]), int(centre[0])]
            whole_seen += 1
        assert pasted.confidence is not None
        assert (pasted.confidence[-1] == 0.5).all()
        assert (pasted.confidence[:-1] == 1).all()
    assert whole_seen


def test_flips_exchange_sides(samples: Samples) -> None:
    scissors = Scissors(samples, BODY_18, CopyPasteParams(rotate_deg_max=0, most_people=1))
    sides = set()
    left, right = BODY_18.joints.index("left_shoulder"), BODY_18.joints.index("right_shoulder")
    original = samples[int(scissors.cuttable[0])].joints[0]
    order = np.sign(original[left, 0] - original[right, 0])
    for seed in range(8):
        joints = scissors.paste(blank(np.zeros((0, 18, 3))), np.random.default_rng(seed)).joints[-1]
        # A mirrored person's left and right trade places and names: the order across the picture stays.
        assert np.sign(joints[left, 0] - joints[right, 0]) == order
        sides.add(float(np.sign(joints[0, 0] - joints[-1, 0])))
    assert len(sides) == 2


def test_as_many_people_as_asked_for(samples: Samples) -> None:
    scissors = Scissors(samples, BODY_18, CopyPasteParams(most_people=3))
    counts = {len(scissors.paste(blank(np.zeros((0, 18, 3))), np.random.default_rng(n)).joints) for n in range(20)}
    assert counts == {1, 2, 3}


def test_everything_of_the_recipe_is_repeatable_and_resumable(folder: DatasetFolder) -> None:
    """Mosaic, pasting, growing, weights and confidences: any start and any number of workers, the same batches."""
    from itertools import islice

    import torch

    from limbnet.data.loader import TrainingData

    for number in range(1, 9):
        folder.image(number)
        folder.people(person(10 + number, number, segmentation=DIAMOND, keypoint_confidence=[0.5] * 17))
    folder.write()
    dataset = str(folder.root / "dataset.json")
    other = folder.root / "other.json"
    other.write_text((folder.root / "dataset.json").read_text())
    spec = folder.train_spec(
        batch_size=2,
        image_config={
            "image_dims": {"height": 96, "width": 96},
            "growing_sizes": [
                {"first_epoch": 0, "height": 64, "width": 64}, {"first_epoch": 2, "height": 96, "width": 96},
            ],
        },
        dataset_config={
            "dataset_specs": {"one": dataset, "two": str(other)},
            "dataset_weights": {"one": 3, "two": 1},
            "samples_per_epoch": 6,
        },
        augmentation_config={
            "mosaic_params": {"prob": 0.5}, "copy_paste_params": {"prob": 0.5}, "colour_aug_params": {"hue": 0.1},
        },
        label_processor_config={"hidden_joints": ["not_labeled_in_dataset"], "use_confidence": True},
    )  # fmt: skip
    data = TrainingData(spec, BODY_18)
    assert (len(data), data.steps_per_epoch) == (16, 3)
    unbroken = list(islice(data.batches(), 9))
    assert [batch.images.shape[1] for batch in unbroken] == [64] * 6 + [96] * 3
    assert unbroken[0].masks.shape == (2, 57, 8, 8)
    assert {round(float(value), 3) for value in unbroken[0].masks.unique()} == {0.707, 1.0}
    first_pass = np.concatenate([batch.samples.numpy() for batch in unbroken])[:16]
    assert (first_pass < 8).sum() == 12
    data.workers = 2
    resumed = list(islice(data.batches(4), 5))
    for expected, found in zip(unbroken[4:], resumed, strict=True):
        for name, a, b in zip(expected._fields, expected, found, strict=True):
            torch.testing.assert_close(b, a, rtol=0, atol=0, msg=lambda text, name=name: f"{name}: {text}")
    repeats = [key for batch in islice(data.keys(0), 8) for key in batch if key.repeat]
    assert repeats
    assert json.dumps(sorted({key.round for key in repeats})) == "[0]"
