"""Measure an estimator on the test part of a dataset: the path that `evaluate` and the validation of training share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from limbnet.data.coco import CocoDataset, CocoImage, load_coco
from limbnet.data.people import visibility_codes
from limbnet.errors import DataError, SpecError
from limbnet.evaluation.coco import KeypointScores, evaluate_keypoints, sigmas_for
from limbnet.runtime.predictor import PoseEstimator, Result
from limbnet.skeleton import Skeleton
from limbnet.specs.dataset import DatasetSpec


@dataclass(frozen=True)
class TestData:
    """What keypoint results are measured against.

    Attributes:
        annotation_file: the COCO file.
        images: all its pictures, with people or without.
        joints: names of the annotated joints, in the file's order.
        sigmas: of the object keypoint similarity, one for each joint.
        category_id: the category that is evaluated.
        coco: the annotations, whose boxes top-down networks are given.
    """

    __test__ = False  # pytest takes every class called Test... for tests

    annotation_file: Path
    images: Sequence[CocoImage]
    joints: tuple[str, ...]
    sigmas: tuple[float, ...]
    category_id: int
    coco: CocoDataset


@dataclass(frozen=True)
class Evaluation:
    """Scores, and what they were computed from.

    Attributes:
        scores: the ten numbers.
        results: COCO keypoint results, one dict a person.
        unreadable: pictures that could not be read, with the reason; they count as pictures without detections.
    """

    scores: KeypointScores
    results: list[dict[str, Any]]
    unreadable: list[tuple[CocoImage, str]]


def load_test_data(spec: DatasetSpec, skeleton: Skeleton, part: Literal["train", "test"] = "test") -> TestData:
    """Read and check the annotation file of one part of a dataset.

    Raises:
        DataError: the annotation file is wrong (all problems are listed), or nobody in it is labelled.
        SpecError: dataset and skeleton have no joint in common.
    """
    paths, category = spec.part(part), spec.category
    if not set(category.keypoints) & set(skeleton.joints):
        raise SpecError(
            f"The dataset's joints ({', '.join(category.keypoints)}) and the model's ({', '.join(skeleton.joints)}) "
            "have no name in common.",
            "Evaluate on a dataset of the same kind, with joints of the same names.",
        )
    dataset = load_coco(
        spec.root_directory_path / paths.annotation_root_dir_path,
        spec.root_directory_path / paths.images_root_dir_path,
        category,
        segmentations=False,
    )
    if not dataset.people.labelled_count[~dataset.people.crowd].any():
        raise DataError(
            f"Nobody in '{dataset.annotation_file}' is labelled: there is nothing to measure against.",
            f"Name a file with keypoints: annotation_root_dir_path of {part}_data in the dataset spec.",
        )
    visibility_codes(spec, dataset.people.keypoints[..., 2])  # refuses flags that the dataset spec does not explain
    sigmas = sigmas_for(category.keypoints, category.sigmas, skeleton)
    return TestData(dataset.annotation_file, dataset.images, category.keypoints, sigmas, category.id, dataset)


def evaluate_dataset(
    estimator: PoseEstimator,
    data: TestData,
    on_result: Callable[[CocoImage, Result[Path]], None] | None = None,
) -> Evaluation:
    """Find people in all pictures and score them.

    Args:
        estimator: the network with its input rule and decoder.
        data: pictures and ground truth.
        on_result: called for every picture, in order, for progress and for files.

    Raises:
        DataError: not a single picture could be read.
    """
    results: list[dict[str, Any]] = []
    unreadable: list[tuple[CocoImage, str]] = []
    stream = estimator.stream(image.path for image in data.images)
    for image, result in zip(data.images, stream, strict=True):
        if result.poses is not None:
            results += result.poses.to_coco(image.id, data.joints, data.category_id)
        else:
            unreadable.append((image, str(result.error)))
        if on_result is not None:
            on_result(image, result)
    if len(unreadable) == len(data.images):
        raise DataError(
            f"None of the {len(unreadable)} pictures could be read. The first: {unreadable[0][1]}",
            "Check images_root_dir_path and root_directory_path in the dataset spec.",
        )
    scores = evaluate_keypoints(data.annotation_file, results, data.sigmas, data.category_id)
    return Evaluation(scores, results, unreadable)
