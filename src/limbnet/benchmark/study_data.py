"""What a study looks at: pictures, the people in them, and boxes from the ground truth, a detector, or made up."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.console import counted
from limbnet.data.boxes import NO_BOXES, Detections, PersonBoxes, load_detections, true_boxes
from limbnet.data.coco import Annotations, CocoDataset, CocoImage, load_coco
from limbnet.data.people import JointMapping, visibility_codes
from limbnet.data.targets import LAST_USED_CODE
from limbnet.errors import DataError
from limbnet.evaluation.coco import KeypointScores, evaluate_keypoints, sigmas_for
from limbnet.skeleton import COCO_17, Skeleton
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.load import load_dataset_spec
from limbnet.specs.study import Boxes, StudySpec, SyntheticBoxes

#: Made-up boxes near people have scores above this, the others below.
SURE = 0.6

#: Ids that an error names.
IDS_SHOWN = 10


@dataclass(frozen=True)
class StudyData:
    """The pictures of a study.

    Attributes:
        spec: names joints, category and visibility flags.
        coco: all that is annotated.
        places: where the study's pictures stand in `coco`, in its order.
        detections: boxes for rows with detected ones.
        boxes_from: where those come from, in words; "" where no row wants any.
        fingerprint: hash of annotations and boxes: figures belong together only where it is the same.
    """

    spec: DatasetSpec
    coco: CocoDataset
    places: tuple[int, ...]
    detections: Detections | None
    boxes_from: str
    fingerprint: str

    def __len__(self) -> int:
        return len(self.places)

    @property
    def images(self) -> list[CocoImage]:
        """The pictures."""
        return [self.coco.images[place] for place in self.places]

    def people(self, place: int) -> Annotations:
        """Return the annotations of the picture at a place of `coco`."""
        return self.coco.annotations(place)

    def boxes(self, place: int, kind: Boxes, last_pixel_counts: bool = False) -> PersonBoxes:
        """Return the person boxes of a picture; `last_pixel_counts` as in `true_boxes`."""
        image = self.coco.images[place]
        if kind == "ground_truth":
            return true_boxes(self.people(place), (image.height, image.width), last_pixel_counts)
        return NO_BOXES if self.detections is None else self.detections.boxes(image.id)

    def joints(self, place: int, skeleton: Skeleton) -> NDArray[np.float64]:
        """Return (P, K, 3) a skeleton's joints of the labelled people of a picture, with visibility codes."""
        people = self.people(place)
        labelled = (people.labelled_count > 0) & ~people.crowd
        joints = JointMapping(self.spec, skeleton).joints(people.keypoints[labelled])
        return joints[(joints[..., 2] <= LAST_USED_CODE).any(axis=1)]

    def labelled_people(self, place: int) -> int:
        """Return how many people of a picture are labelled."""
        people = self.people(place)
        return int(((people.labelled_count > 0) & ~people.crowd).sum())

    def evaluate(self, results: Sequence[dict[str, Any]]) -> KeypointScores:
        """Score keypoint results on the study's pictures."""
        category = self.spec.category
        sigmas = sigmas_for(category.keypoints, category.sigmas, COCO_17)
        ids = [image.id for image in self.images]
        return evaluate_keypoints(self.coco.annotation_file, results, sigmas, category.id, ids)


def placed(joints: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (P, K, 2) joints without their codes, NaN where they have no place of use."""
    return np.where(joints[..., 2:] <= LAST_USED_CODE, joints[..., :2], np.nan)


def load_study_data(study: StudySpec) -> StudyData:
    """Read what a study looks at.

    Raises:
        SpecError: the dataset spec is wrong.
        DataError: annotations or detections are wrong, belong to different datasets, a picture that the study names
            does not exist or has no file, or nobody is labelled.
    """
    spec = load_dataset_spec(study.dataset)
    paths = spec.part("test")
    coco = load_coco(
        spec.root_directory_path / paths.annotation_root_dir_path,
        spec.root_directory_path / paths.images_root_dir_path,
        spec.category,
        segmentations=False,
    )
    visibility_codes(spec, coco.people.keypoints[..., 2])  # refuses flags that the dataset spec does not explain
    places = _places(study, coco)
    images = [coco.images[place] for place in places]
    _check_files(images)
    digest = hashlib.sha256(coco.annotation_file.read_bytes())
    detections, boxes_from = None, ""
    if any(row.boxes == "detected" for row in study.rows):
        if study.detections is not None:
            detections = load_detections(study.detections, coco.images, spec.category.id)
            boxes_from = f"the detector's file '{study.detections.name}'" + _skipped(detections)
            digest.update(study.detections.read_bytes())
        elif study.synthetic_detections is not None:
            rule = study.synthetic_detections
            detections = synthetic_detections(coco, places, rule)
            boxes_from = (
                f"made up, about {rule.per_picture} a picture (seed {rule.seed}): no detector saw the pictures, so "
                "only the speed of rows with detected boxes says something"
            )
            digest.update(rule.model_dump_json().encode())
    return StudyData(spec, coco, places, detections, boxes_from, digest.hexdigest()[:16])


def _places(study: StudySpec, coco: CocoDataset) -> tuple[int, ...]:
    place_of = {image.id: place for place, image in enumerate(coco.images)}
    if study.images is None:
        chosen = list(range(len(coco.images)))
    else:
        strange = [number for number in study.images if number not in place_of]
        if strange:
            named = ", ".join(map(str, strange[:IDS_SHOWN])) + (", ..." if len(strange) > IDS_SHOWN else "")
            few = ", ".join(map(str, list(place_of)[:5]))
            raise DataError(
                f"{counted(len(strange), 'id')} in images of the study {'is' if len(strange) == 1 else 'are'} not in "
                f"'{coco.annotation_file}': {named}.",
                f"It knows {counted(len(place_of), 'picture')}, the first are {few}.",
            )
        chosen = [place_of[number] for number in study.images]
    chosen = chosen[: study.pictures]
    if not any((coco.annotations(place).labelled_count > 0).any() for place in chosen):
        raise DataError(
            f"Nobody is labelled in the {counted(len(chosen), 'picture')} of the study.",
            "Choose others with images, or name another dataset.",
        )
    return tuple(chosen)


def _check_files(images: Sequence[CocoImage]) -> None:
    missing = [image for image in images if not image.path.is_file()]
    if missing:
        raise DataError(
            f"{counted(len(missing), 'picture')} of {len(images)} cannot be found, the first is '{missing[0].path}'.",
            "Check root_directory_path and images_root_dir_path of test_data in the dataset spec.",
        )


def _skipped(detections: Detections) -> str:
    left_out = [f"{count} {reason}" for reason, count in detections.skipped.items()]
    return f" (left out: {', '.join(left_out)})" if left_out else ""


def synthetic_detections(coco: CocoDataset, places: Sequence[int], rule: SyntheticBoxes) -> Detections:
    """Make up boxes for pictures: one near each labelled person, others anywhere, the same ones for the same seed.

    A picture's boxes do not depend on which other pictures take part.
    """
    made = {}
    for place in places:
        image, people = coco.images[place], coco.annotations(place)
        rng = np.random.default_rng([rule.seed, image.id])
        size = np.array([image.width, image.height], np.float64)
        near = people.boxes[(people.labelled_count > 0) & ~people.crowd]
        near = near + rng.normal(0, 0.05, near.shape) * np.tile(near[:, 2:], 2)
        wanted = max(rule.per_picture + int(rng.integers(-3, 4)), 1)
        others = max(wanted - len(near), 0)
        sides = size * rng.uniform(0.05, 0.5, (others, 2))
        corners = rng.uniform(0, 1, (others, 2)) * (size - sides)
        boxes = np.concatenate([_inside(near, size), np.concatenate([corners, sides], axis=1)])
        scores = np.concatenate([rng.uniform(SURE, 1, len(near)), rng.uniform(0.05, SURE, others)])
        order = np.argsort(-scores, kind="stable")
        made[image.id] = PersonBoxes(boxes[order], scores[order])
    return Detections(made, {})


def _inside(boxes: NDArray[np.float64], size: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cut boxes (N, 4) off at the picture's borders; at least a pixel stays."""
    low = np.clip(boxes[:, :2], 0, size - 1)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], low + 1, size)
    return np.concatenate([low, high - low], axis=1)


def results_of(detections: Detections, category_id: int) -> list[dict[str, Any]]:
    """Return boxes as a COCO results file holds them."""
    return [
        {"image_id": number, "category_id": category_id, "bbox": np.round(box, 2).tolist(), "score": float(score)}
        for number, found in detections.of_image.items()
        for box, score in zip(found.boxes, found.scores, strict=True)
    ]
