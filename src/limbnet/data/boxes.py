"""Person boxes for top-down networks: those of the ground truth, or a detector's in a COCO results file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.data.checks import Problems, finite_numbers
from limbnet.data.coco import Annotations, CocoImage
from limbnet.errors import DataError


@dataclass(frozen=True, eq=False)
class PersonBoxes:
    """The N person boxes of one picture.

    Attributes:
        boxes: (N, 4) float64 x, y, width, height in pixels.
        scores: (N,) float64, the detector's, 1 for the ground truth.
    """

    boxes: NDArray[np.float64]
    scores: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.scores)


NO_BOXES = PersonBoxes(np.zeros((0, 4)), np.zeros(0))


@dataclass(frozen=True, eq=False)
class Detections:
    """A detector's boxes, picture by picture.

    Attributes:
        of_image: boxes by the picture's id; pictures without one are missing.
        skipped: how many entries of the file are not used, by reason; reasons that did not occur are missing.
    """

    of_image: Mapping[int, PersonBoxes]
    skipped: Mapping[str, int]

    def boxes(self, image_id: int) -> PersonBoxes:
        """Return the boxes of a picture, none if the file has none."""
        return self.of_image.get(image_id, NO_BOXES)

    def __len__(self) -> int:
        return sum(map(len, self.of_image.values()))


def true_boxes(people: Annotations, size: tuple[int, int], last_pixel_counts: bool = False) -> PersonBoxes:
    """Return the ground truth's boxes as HRNet's family chooses and clips them, score 1.

    Crowds, people without area and people of whom no joint is labelled are left out.

    Args:
        people: the annotations of one picture.
        size: (height, width) of the picture.
        last_pixel_counts: a box from pixel a to pixel b is b - a + 1 wide (DARK, TransPose), not b - a.
    """
    _, boxes = people_with_boxes(people, size, last_pixel_counts)
    return PersonBoxes(boxes, np.ones(len(boxes)))


def people_with_boxes(
    people: Annotations, size: tuple[int, int], last_pixel_counts: bool = False
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the rows of the people whom `true_boxes` chooses, and their boxes (N, 4)."""
    labelled = np.flatnonzero((people.keypoints.max(axis=(1, 2), initial=0) > 0) & ~people.crowd & (people.areas > 0))
    boxes = people.boxes[labelled]
    low = np.maximum(boxes[:, :2], 0)
    high = np.minimum(low + np.maximum(boxes[:, 2:] - 1, 0), np.array(size[::-1]) - 1)
    inside = (high >= low).all(axis=1)
    return labelled[inside], np.concatenate([low, high - low + last_pixel_counts], axis=1)[inside]


def load_detections(
    file: Path | str, images: Sequence[CocoImage], category_id: int = 1, min_score: float = 0.0
) -> Detections:
    """Read a COCO results file of boxes: a list of `image_id`, `category_id`, `bbox` [x, y, w, h] and `score`.

    Boxes keep the order of the file and are not clipped. A file may know more pictures than the dataset; boxes of
    those, of other categories, below the score, without area or wholly outside their picture are left out and counted.

    Args:
        file: the JSON file.
        images: the pictures of the dataset.
        category_id: the category of people.
        min_score: the least score.

    Raises:
        DataError: the file is missing or no such list, entries are wrong (all are listed), or it knows none of the
            pictures: it belongs to another dataset.
    """
    file = Path(file)
    entries = _read_entries(file)
    problems = Problems(file)
    labels = [f"entry {number}" for number in range(len(entries))]
    for number, entry in enumerate(entries):
        for key in ("image_id", "category_id"):
            if not isinstance(entry.get(key), int) or isinstance(entry[key], bool):
                problems.add(f"{labels[number]}: {key} is {entry.get(key)!r}, expected a whole number")
    boxes = finite_numbers([entry.get("bbox") for entry in entries], 4, "bbox", labels, problems)
    scores = finite_numbers([[entry.get("score")] for entry in entries], 1, "score", labels, problems)[:, 0]
    problems.stop_if_any()
    ids = np.array([entry["image_id"] for entry in entries], np.int64)
    sizes = {image.id: (image.width, image.height) for image in images}
    known = np.array([number in sizes for number in ids.tolist()], bool)
    _check_same_dataset(file, ids, known, images)
    canvas = np.array([sizes.get(number, (0, 0)) for number in ids.tolist()], np.float64).reshape(-1, 2)
    low, high = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    reasons = {
        "of pictures that are not in the dataset": ~known,
        "of another category": np.array([entry["category_id"] != category_id for entry in entries], bool),
        f"below the score {min_score:g}": scores < min_score,
        "of zero size": (boxes[:, 2:] <= 0).any(axis=1),
        "outside their picture": ((high <= 0) | (low >= canvas)).any(axis=1),
    }
    used = np.ones(len(entries), bool)
    skipped = {}
    for reason, hit in reasons.items():
        if count := int((used & hit).sum()):
            skipped[reason] = count
        used &= ~hit
    return Detections(_by_image(ids[used], boxes[used], scores[used]), skipped)


def _read_entries(file: Path) -> list[dict[str, Any]]:
    todo = "Expected a COCO results file: a list of objects with image_id, category_id, bbox and score."
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(f"Cannot read the detections file '{file}': {error.strerror or error}.") from error
    except ValueError as error:
        raise DataError(f"'{file}' is not JSON: {error}.", todo) from error
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DataError(f"'{file}' is JSON, but no list of objects.", todo)
    return content


def _check_same_dataset(
    file: Path, ids: NDArray[np.int64], known: NDArray[np.bool_], images: Sequence[CocoImage]
) -> None:
    if len(ids) and not known.any():
        raise DataError(
            f"The detections file '{file}' knows none of the {len(images)} pictures of the dataset: its first image_id "
            f"is {ids[0]}, the dataset's first is {images[0].id if images else 'missing'}.",
            "Give the detections of the same dataset.",
        )


def _by_image(
    ids: NDArray[np.int64], boxes: NDArray[np.float64], scores: NDArray[np.float64]
) -> dict[int, PersonBoxes]:
    order = np.argsort(ids, kind="stable")
    found, first = np.unique(ids[order], return_index=True)
    rows = np.split(order, first[1:]) if len(found) else []
    return {int(number): PersonBoxes(boxes[row], scores[row]) for number, row in zip(found, rows, strict=True)}
