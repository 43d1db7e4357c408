"""COCO keypoint evaluation: object keypoint similarity, average precision and recall, through pycocotools.

AP is defined at cocodataset.org/#keypoints-eval: ten thresholds of the object keypoint similarity from 0.50 to 0.95,
three ranges of the person's area, at most 20 detections a picture.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import DataError
from limbnet.files import whole_file
from limbnet.skeleton import COCO_SIGMAS, MIDPOINT_JOINTS, Skeleton

log = logging.getLogger(__name__)

MAX_DETECTIONS = 20

#: The ten numbers of a keypoint evaluation, in pycocotools' order: metric, IoU, area, name of the KPI in `status.json`.
METRICS: tuple[tuple[str, str, str, str], ...] = (
    ("AP", "0.50:0.95", "all", "AP_0.50:0.95_all"),
    ("AP", "0.50", "all", "AP_0.5"),
    ("AP", "0.75", "all", "AP_0.75"),
    ("AP", "0.50:0.95", "medium", "AP_0.50:0.95_medium"),
    ("AP", "0.50:0.95", "large", "AP_0.50:0.95_large"),
    ("AR", "0.50:0.95", "all", "AR_0.50:0.95_all"),
    ("AR", "0.50", "all", "AR_0.5"),
    ("AR", "0.75", "all", "AR_0.75"),
    ("AR", "0.50:0.95", "medium", "AR_0.50:0.95_medium"),
    ("AR", "0.50:0.95", "large", "AR_0.50:0.95_large"),
)


@dataclass(frozen=True)
class Matches:
    """How the detections of one area range were matched, all pictures together; enough to compute AP again.

    Attributes:
        scores: (D,) detections by falling score, at most 20 a picture.
        image: (D,) index of each detection's picture among N.
        matched: (T, D) True where the detection has a ground truth at threshold t.
        ignored: (T, D) True where the detection does not count at threshold t.
        people: (N,) labelled people that count, per picture.
    """

    scores: NDArray[np.float64]
    image: NDArray[np.intp]
    matched: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    people: NDArray[np.int64]


@dataclass(frozen=True)
class KeypointScores:
    """The outcome of one keypoint evaluation.

    Attributes:
        values: (10,) in the order of `METRICS`; -1 where no labelled person lies in the area range.
        summary: pycocotools' own ten lines.
        images: the N picture ids, ascending.
        matches: how detections were matched, per area range `all`, `medium`, `large`.
        thresholds: (T,) similarities at which a detection is right.
        recalls: (R,) recalls at which precision is read.
    """

    values: NDArray[np.float64]
    summary: tuple[str, ...]
    images: tuple[int, ...]
    matches: Mapping[str, Matches]
    thresholds: NDArray[np.float64]
    recalls: NDArray[np.float64]

    @property
    def ap(self) -> float:
        """AP over all thresholds and areas."""
        return float(self.values[0])

    def kpis(self) -> dict[str, float]:
        """Return the ten numbers by the names that `status.json` uses."""
        return {name: float(value) for (*_, name), value in zip(METRICS, self.values, strict=True)}

    def write_csv(self, target: Path) -> None:
        """Write `results.csv`: index, metric, IoU, area, maxDets, score."""
        with whole_file(target) as partial, partial.open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file)
            table.writerow(["index", "metric", "IoU", "area", "maxDets", "score"])
            for index, ((metric, iou, area, _), value) in enumerate(zip(METRICS, self.values, strict=True)):
                table.writerow([index, metric, iou, area, MAX_DETECTIONS, repr(float(value))])


def sigmas_for(
    joints: Sequence[str], given: Sequence[float] | None = None, skeleton: Skeleton | None = None
) -> tuple[float, ...]:
    """Return the similarity's sigma of each joint a dataset names.

    Taken from the dataset's category where it gives them, else by name from the skeleton, else by name from COCO. A
    joint that nobody knows gets the mean of COCO's sigmas, with a warning that names it.
    """
    if given is not None:
        return tuple(given)
    known = dict(COCO_SIGMAS)
    for joint, (first, second) in MIDPOINT_JOINTS.items():
        known[joint] = (known[first] + known[second]) / 2
    if skeleton is not None and skeleton.sigmas:
        known |= dict(zip(skeleton.joints, skeleton.sigmas, strict=True))
    unknown = [joint for joint in joints if joint not in known]
    mean = round(sum(COCO_SIGMAS.values()) / len(COCO_SIGMAS), 3)
    if unknown:
        log.warning(
            "No OKS sigma is known for %s: %s (the mean of COCO's) is used. "
            "Give 'sigmas' in the category of the dataset spec to have your own.",
            ", ".join(unknown),
            mean,
        )
    return tuple(known.get(joint, mean) for joint in joints)


def evaluate_keypoints(
    ground_truth: Path | str | Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    sigmas: Sequence[float],
    category_id: int = 1,
    image_ids: Sequence[int] | None = None,
) -> KeypointScores:
    """Score keypoint results against a COCO annotation file (or its content).

    Args:
        ground_truth: the annotation file or what it holds.
        results: dicts of `image_id`, `category_id`, `keypoints` [x, y, v, ...] and `score`; with none AP is 0.
        sigmas: one per joint of the category.
        category_id: the category to evaluate.
        image_ids: the pictures that count, all of the file when None.

    Raises:
        DataError: the annotation file is unreadable or not COCO, a result names a picture that is not in it, or its
            joints are of another number.
    """
    from pycocotools.cocoeval import COCOeval

    printed = io.StringIO()
    with redirect_stdout(printed):
        truth = _coco(ground_truth, len(sigmas))
        _check_results(results, set(truth.imgs), len(sigmas))
        evaluation = COCOeval(truth, _detections(truth, results), iouType="keypoints")
        evaluation.params.kpt_oks_sigmas = np.asarray(sigmas, dtype=np.float64)
        evaluation.params.maxDets = [MAX_DETECTIONS]
        evaluation.params.catIds = [category_id]
        if image_ids is not None:
            evaluation.params.imgIds = sorted(set(image_ids))
        evaluation.evaluate()
        evaluation.accumulate()
        start = len(printed.getvalue())
        evaluation.summarize()
    lines = tuple(line for line in printed.getvalue()[start:].splitlines() if line.strip())
    params = evaluation.params
    return KeypointScores(
        values=np.asarray(evaluation.stats, dtype=np.float64),
        summary=lines,
        images=tuple(int(image) for image in params.imgIds),
        matches=_matches(evaluation),
        thresholds=np.asarray(params.iouThrs, dtype=np.float64),
        recalls=np.asarray(params.recThrs, dtype=np.float64),
    )


def _coco(ground_truth: Path | str | Mapping[str, Any], joints: int) -> Any:
    """Return pycocotools' index of an annotation file or of its content."""
    from pycocotools.coco import COCO

    if isinstance(ground_truth, Mapping):
        coco = COCO()
        coco.dataset = dict(ground_truth)
    else:
        try:
            coco = COCO(str(ground_truth))
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise DataError(f"'{ground_truth}' is no COCO annotation file: {error}.") from error
    # Files of other origin may leave out what the evaluation reads of every annotation.
    for annotation in coco.dataset.get("annotations", []):
        keypoints = annotation.setdefault("keypoints", [0] * (3 * joints))
        annotation.setdefault("num_keypoints", sum(flag > 0 for flag in keypoints[2::3]))
        annotation.setdefault("iscrowd", 0)
    coco.createIndex()
    return coco


def _detections(truth: Any, results: Sequence[Mapping[str, Any]]) -> Any:
    """Index the results; pycocotools itself fails on an empty list."""
    from pycocotools.coco import COCO

    if results:
        return truth.loadRes([dict(result) for result in results])
    empty = COCO()
    empty.dataset = {
        "images": truth.dataset["images"],
        "categories": truth.dataset.get("categories", []),
        "annotations": [],
    }
    empty.createIndex()
    return empty


def _check_results(results: Sequence[Mapping[str, Any]], images: set[int], joints: int) -> None:
    strangers = sorted({result["image_id"] for result in results} - images)
    if strangers:
        raise DataError(
            f"{len(strangers)} pictures of the results are not in the annotation file, the first is {strangers[0]}.",
            "Evaluate the results against the annotation file of the same pictures.",
        )
    wrong = {len(result["keypoints"]) for result in results} - {3 * joints}
    if wrong:
        raise DataError(
            f"The results hold {min(wrong)} numbers a person, {3 * joints} (x, y, v of {joints} joints) needed."
        )


def _matches(evaluation: Any) -> dict[str, Matches]:
    """Collect pycocotools' per-picture matches, per area range, sorted as its accumulation sorts them."""
    params = evaluation.params
    count, thresholds = len(params.imgIds), len(params.iouThrs)
    collected = {}
    for number, label in enumerate(params.areaRngLbl):
        per_image = evaluation.evalImgs[number * count : (number + 1) * count]
        people = np.zeros(count, np.int64)
        scores, image, matched, ignored = [np.zeros(0)], [np.zeros(0, np.intp)], [], []
        for index, found in enumerate(per_image):
            if found is None:
                continue
            people[index] = np.count_nonzero(np.asarray(found["gtIgnore"]) == 0)
            scores.append(np.asarray(found["dtScores"], dtype=np.float64))
            image.append(np.full(len(found["dtScores"]), index, np.intp))
            matched.append(np.asarray(found["dtMatches"]) != 0)
            ignored.append(np.asarray(found["dtIgnore"]).astype(bool))
        all_scores = np.concatenate(scores)
        order = np.argsort(-all_scores, kind="mergesort")
        none = np.zeros((thresholds, 0), bool)
        collected[label] = Matches(
            all_scores[order],
            np.concatenate(image)[order],
            np.concatenate([none, *matched], axis=1)[:, order],
            np.concatenate([none, *ignored], axis=1)[:, order],
            people,
        )
    return collected
