"""COCO keypoint annotation files: read, checked and kept as arrays.

Every problem of a file is reported at once. Annotations keep the order of the file within their picture, which the
rules for people of interest depend on.
"""

from __future__ import annotations

import gc
import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.data.checks import Problems, finite_numbers
from limbnet.data.masks import Segmentation, compact_segmentation
from limbnet.errors import DataError
from limbnet.specs.dataset import Category

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CocoImage:
    """One picture: its id, its name relative to the folder of pictures, and its size in pixels."""

    id: int
    file_name: str
    height: int
    width: int
    path: Path


@dataclass(frozen=True, eq=False)
class Annotations:
    """The P annotations of one picture, or of all, in the order of the file.

    Attributes:
        keypoints: (P, J, 3) float64 x, y and the file's visibility flag, J joints in the category's order.
        labelled_count: (P,) int64 `num_keypoints`.
        boxes: (P, 4) float64 x, y, width, height.
        areas: (P,) float64 area of the person in square pixels.
        crowd: (P,) bool `iscrowd`.
        confidence: (P, J) float64 `keypoint_confidence`, 0 to 1 (1 where an annotation has none), or None when no
            annotation of the file has it.
        segmentations: P regions, () where there is none; empty when they were not asked for.
    """

    keypoints: NDArray[np.float64]
    labelled_count: NDArray[np.int64]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    confidence: NDArray[np.float64] | None
    segmentations: Sequence[Segmentation]

    def __len__(self) -> int:
        return len(self.areas)

    @property
    def centres(self) -> NDArray[np.float64]:
        """(P, 2) centres of the boxes."""
        return self.boxes[:, :2] + self.boxes[:, 2:] / 2


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """A checked annotation file.

    Attributes:
        annotation_file: where it was read.
        images_dir: the folder of the pictures.
        images: the pictures, in the order of the file.
        first: (N + 1,) picture n owns rows `first[n]` to `first[n + 1]` of the annotations.
        people: all annotations, picture by picture.
    """

    annotation_file: Path
    images_dir: Path
    images: list[CocoImage]
    first: NDArray[np.int64]
    people: Annotations

    def __len__(self) -> int:
        return len(self.images)

    def annotations(self, image: int) -> Annotations:
        """Return the annotations of picture number `image` (its place in `images`) as views, without a copy."""
        rows = slice(int(self.first[image]), int(self.first[image + 1]))
        every = self.people
        return Annotations(
            every.keypoints[rows],
            every.labelled_count[rows],
            every.boxes[rows],
            every.areas[rows],
            every.crowd[rows],
            None if every.confidence is None else every.confidence[rows],
            every.segmentations[rows],
        )


def load_coco(
    annotation_file: Path | str, images_dir: Path | str, category: Category, segmentations: bool = True
) -> CocoDataset:
    """Read and check a COCO keypoint annotation file.

    All annotations are kept, whatever their category, crowds too. An annotation without `keypoints` is a person nobody
    labelled.

    Args:
        annotation_file: the JSON file.
        images_dir: the folder that `file_name`s are relative to.
        category: names the J joints of the file in order.
        segmentations: keep the regions, which loss masks need.

    Raises:
        DataError: the file is missing, no JSON, not in COCO's format, or has entries that are wrong (numbers of
            keypoints, values that are not finite, boxes without area, file names outside the folder, ...); all of them
            are listed.
    """
    file, images_dir = Path(annotation_file), Path(images_dir)
    log.info("Reading %s", file)
    with _without_garbage_collection():
        content = _read_json(file)
        problems = Problems(file)
        _check_joint_names(content, category, problems)
        images, refused = _read_images(content["images"], images_dir, problems)
        rows, people = _read_annotations(
            content["annotations"],
            images,
            problems,
            refused=refused,
            joints=len(category.keypoints),
            segmentations=segmentations,
        )
        problems.stop_if_any()
        del content
    order = np.argsort(rows, kind="stable")
    first = np.searchsorted(rows[order], np.arange(len(images) + 1))
    sorted_people = Annotations(
        people.keypoints[order],
        people.labelled_count[order],
        people.boxes[order],
        people.areas[order],
        people.crowd[order],
        None if people.confidence is None else people.confidence[order],
        [people.segmentations[row] for row in order] if segmentations else [],
    )
    return CocoDataset(file, images_dir, images, first, sorted_people)


@contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Parsing makes millions of small objects and no cycles; looking for cycles doubles its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _read_json(file: Path) -> dict[str, Any]:
    """Return the file's top level, with lists under `images` and `annotations`."""
    todo = "Expected a COCO keypoint file: an object with the lists 'images', 'annotations' and 'categories'."
    try:
        content = json.loads(file.read_bytes())
    except OSError as error:
        raise DataError(
            f"Cannot read the annotation file '{file}': {error.strerror or error}.",
            "Check annotation_root_dir_path and root_directory_path in the dataset spec.",
        ) from error
    except json.JSONDecodeError as error:
        raise DataError(
            f"'{file}' is not JSON: {error.msg} in line {error.lineno}, column {error.colno}.", todo
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"'{file}' is not JSON: it is no text.", todo) from error
    if not isinstance(content, dict):
        raise DataError(f"'{file}' is JSON, but not in COCO's format: the top level is no object.", todo)
    for key in ("images", "annotations"):
        if not isinstance(content.get(key), list):
            raise DataError(f"'{file}' is JSON, but not in COCO's format: it has no list '{key}'.", todo)
        if not all(isinstance(entry, dict) for entry in content[key]):
            raise DataError(
                f"'{file}' is JSON, but not in COCO's format: '{key}' has entries that are no objects.", todo
            )
    if not content["images"]:
        raise DataError(
            f"The annotation file '{file}' lists no pictures.",
            "Name a file with pictures: annotation_root_dir_path in the dataset spec.",
        )
    return content


def _check_joint_names(content: dict[str, Any], category: Category, problems: Problems) -> None:
    """Compare the file's own list of joints, if it has one, with the dataset spec's."""
    expected = list(category.keypoints)
    for entry in content.get("categories") or []:
        if not isinstance(entry, dict) or entry.get("name") != category.name or not entry.get("keypoints"):
            continue
        found = list(entry["keypoints"])
        if len(found) != len(expected):
            problems.add(
                f"category '{category.name}' has {len(found)} keypoints, the dataset spec names {len(expected)}"
            )
        elif sorted(map(str, found)) == sorted(expected) and found != expected:
            problems.add(f"category '{category.name}' has the keypoints of the dataset spec in another order")


def _read_images(
    entries: list[dict[str, Any]], images_dir: Path, problems: Problems
) -> tuple[list[CocoImage], set[int]]:
    """Return the pictures, and the ids of entries that are wrong, which are noted and left out."""
    images: list[CocoImage] = []
    seen: set[int] = set()
    refused: set[int] = set()
    for number, entry in enumerate(entries):
        identity, name = entry.get("id"), entry.get("file_name")
        label = f"image {identity if identity is not None else f'number {number}'}"
        sizes = entry.get("height"), entry.get("width")
        if not isinstance(identity, int) or isinstance(identity, bool):
            problems.add(f"{label}: id is {identity!r}, expected a whole number")
        elif identity in seen:
            problems.add(f"{label}: the id is used twice")
        elif not isinstance(name, str) or not name:
            problems.add(f"{label}: file_name is {name!r}, expected the picture's name")
        elif not stays_inside(name):
            problems.add(f"{label}: file_name '{name}' leads out of the picture folder")
        elif not all(isinstance(side, int) and side > 0 for side in sizes):
            problems.add(f"{label}: height and width are {sizes[0]!r} and {sizes[1]!r}, expected whole numbers above 0")
        else:
            seen.add(identity)
            images.append(CocoImage(identity, name, entry["height"], entry["width"], images_dir / name))
            continue
        if isinstance(identity, int):
            refused.add(identity)
    return images, refused


def stays_inside(name: str) -> bool:
    """Tell whether a relative file name stays inside the folder it is relative to, on any system."""
    parts = name.replace("\\", "/").split("/")
    return ".." not in parts and parts[0] != "" and name[1:2] != ":"


def _read_annotations(
    entries: list[dict[str, Any]],
    images: list[CocoImage],
    problems: Problems,
    *,
    refused: set[int],
    joints: int,
    segmentations: bool,
) -> tuple[NDArray[np.int64], Annotations]:
    """Return the picture each annotation belongs to, (A,), and the annotations in the order of the file.

    Annotations of `refused` pictures are checked too, so that every mistake of the file is told at once.
    """
    place = {image.id: number for number, image in enumerate(images)}
    labels = [f"annotation {entry.get('id', f'number {number}')}" for number, entry in enumerate(entries)]
    rows = np.zeros(len(entries), dtype=np.int64)
    regions: list[Segmentation] = []
    for number, entry in enumerate(entries):
        identity = entry.get("image_id")
        image = place.get(identity, -1) if isinstance(identity, int) else -1
        if image < 0 and not (isinstance(identity, int) and identity in refused):
            problems.add(f"{labels[number]}: no picture has its image_id {identity!r}")
        rows[number] = image
        if segmentations:
            regions.append(_region(entry, images[image], labels[number], problems) if image >= 0 else ())
    unlabelled = [0] * (3 * joints)
    keypoints = finite_numbers(
        [e.get("keypoints") or unlabelled for e in entries], 3 * joints, "keypoints", labels, problems
    )
    boxes = finite_numbers([e.get("bbox") for e in entries], 4, "bbox", labels, problems)
    areas = finite_numbers([[e.get("area")] for e in entries], 1, "area", labels, problems)[:, 0]
    crowd = np.array([bool(e.get("iscrowd", 0)) for e in entries], dtype=bool)
    confidence = None
    if any("keypoint_confidence" in entry for entry in entries):
        certain = [1.0] * joints
        raw = [entry.get("keypoint_confidence", certain) for entry in entries]
        confidence = finite_numbers(raw, joints, "keypoint_confidence", labels, problems)
        for number in map(int, np.flatnonzero(((confidence < 0) | (confidence > 1)).any(axis=1))):
            problems.add(f"{labels[number]}: keypoint_confidence has a number outside 0 to 1")
    keypoints = keypoints.reshape(-1, joints, 3)
    flagged = (keypoints[..., 2] > 0).sum(axis=1)
    counts = [entry.get("num_keypoints") for entry in entries]

    for number, count in enumerate(counts):
        if (labels[number], "keypoints") in problems.unread:
            counts[number] = count if isinstance(count, int) else 0
        elif count is None:
            counts[number] = int(flagged[number])
        elif not isinstance(count, int) or count != flagged[number]:
            problems.add(f"{labels[number]}: num_keypoints is {count!r}, but {flagged[number]} keypoints are labelled")
            counts[number] = 0
    labelled_count = np.array(counts, dtype=np.int64)
    _check_boxes(boxes, areas, labelled_count, labels, problems)
    return rows, Annotations(keypoints, labelled_count, boxes, areas, crowd, confidence, regions)


def _region(entry: dict[str, Any], image: CocoImage, label: str, problems: Problems) -> Segmentation:
    """Return the compact region of one annotation, () where it has none."""
    if not entry.get("segmentation"):
        return ()
    try:
        return compact_segmentation(entry["segmentation"], image.height, image.width)
    except ValueError as error:
        problems.add(f"{label}: segmentation {error}")
        return ()


def _check_boxes(
    boxes: NDArray[np.float64],
    areas: NDArray[np.float64],
    labelled_count: NDArray[np.int64],
    labels: list[str],
    problems: Problems,
) -> None:
    """Note boxes without area around labelled people, and sides or areas below zero."""
    sides = boxes[:, 2:]
    flat = (sides == 0).any(axis=1) & (labelled_count > 0)
    for number in map(int, np.flatnonzero(flat | (sides < 0).any(axis=1))):
        if (labels[number], "bbox") not in problems.unread:
            problems.add(f"{labels[number]}: its bbox is {sides[number, 0]:g} wide and {sides[number, 1]:g} high")
    for number in map(int, np.flatnonzero(areas < 0)):
        problems.add(f"{labels[number]}: area is {areas[number]:g}")
