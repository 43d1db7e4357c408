"""Choosing pictures to calibrate with from an annotated dataset: enough people, enough joints, in balance if asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np

from limbnet.data.coco import CocoDataset, CocoImage, load_coco
from limbnet.errors import DataError
from limbnet.specs.dataset import Category

#: Bins of a balanced choice: people in the picture, and the largest person's share of its area.
COUNT_EDGES = (2, 4)
SIZE_EDGES = (0.05, 0.25)


@dataclass(frozen=True)
class SampleCriteria:
    """Which pictures qualify, and in which order they are taken.

    Attributes:
        min_persons: people that a picture must show; crowds do not count.
        min_keypoints: labelled joints that make a person count.
        randomize: draw by chance; otherwise in the order of the annotation file.
        balance: take in turn from nine groups: one, two or three, and more people; small, middling and large ones.
        seed: of the draw.
    """

    min_persons: int = 1
    min_keypoints: int = 1
    randomize: bool = False
    balance: bool = False
    seed: int = 42


def load_annotated(annotation_file: Path, images_dir: Path) -> CocoDataset:
    """Read a COCO keypoint file whose joints are named in the file itself.

    Raises:
        DataError: it is no COCO keypoint file.
    """
    try:
        categories = json.loads(annotation_file.read_bytes())["categories"]
        joints = next(tuple(entry["keypoints"]) for entry in categories if entry.get("keypoints"))
    except OSError as error:
        raise DataError(
            f"Cannot read the annotation file '{annotation_file}': {error.strerror or error}.", "Check -a."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
        raise DataError(
            f"'{annotation_file}' is no COCO keypoint file: no category names its keypoints.",
            "Give person_keypoints_*.json or a file like it.",
        ) from error
    return load_coco(annotation_file, images_dir, Category(keypoints=joints), segmentations=False)


def candidates(dataset: CocoDataset, criteria: SampleCriteria) -> Iterator[CocoImage]:
    """Yield the pictures that qualify, best first; the same ones in the same order for the same seed."""
    groups: dict[tuple[int, int], list[CocoImage]] = {}
    for number, image in enumerate(dataset.images):
        people = dataset.annotations(number)
        counting = ~people.crowd & (people.labelled_count >= criteria.min_keypoints)
        count = int(counting.sum())
        if count < criteria.min_persons:
            continue
        share = float(people.areas[counting].max(initial=0.0)) / (image.height * image.width)
        group = int(np.searchsorted(COUNT_EDGES, count, "right")), int(np.searchsorted(SIZE_EDGES, share, "right"))
        groups.setdefault(group if criteria.balance else (0, 0), []).append(image)
    rng = np.random.default_rng(criteria.seed)
    ordered = [groups[group] for group in sorted(groups)]
    if criteria.randomize:
        ordered = [[images[index] for index in rng.permutation(len(images))] for images in ordered]
    for turn in zip_longest(*ordered):
        yield from (image for image in turn if image is not None)
