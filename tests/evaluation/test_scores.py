"""COCO scores: pycocotools' numbers, on files of any origin, and what is refused."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from limbnet.errors import DataError
from limbnet.evaluation.coco import METRICS, evaluate_keypoints, sigmas_for
from limbnet.skeleton import COCO_JOINTS, COCO_SIGMAS, Skeleton

SIGMAS = tuple(COCO_SIGMAS.values())


def crowd(images: int = 12, seed: int = 0, joints: int = 17) -> dict[str, Any]:
    """An annotation file of random people, some unlabelled, some crowds, one picture empty."""
    random = np.random.default_rng(seed)
    annotations = []
    for image in range(images):
        for _ in range(int(random.integers(0, 5)) if image else 0):
            side = random.uniform(30, 200)
            points = np.column_stack([random.uniform(0, side, (joints, 2)) + 20, random.integers(0, 3, joints)])
            if random.random() < 0.1:
                points[:] = 0
            points[points[:, 2] == 0] = 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image + 1,
                    "category_id": 1,
                    "keypoints": points.ravel().tolist(),
                    "num_keypoints": int((points[:, 2] > 0).sum()),
                    "bbox": [20, 20, side, side],
                    "area": side * side * 0.5,
                    "iscrowd": int(random.random() < 0.1),
                }
            )
    return {
        "images": [
            {"id": image + 1, "width": 300, "height": 300, "file_name": f"{image}.jpg"} for image in range(images)
        ],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_JOINTS[:joints])}],
    }


def guesses(truth: dict[str, Any], noise: float = 4.0, seed: int = 1) -> list[dict[str, Any]]:
    """Detections near the truth, some missed, some invented, with scores."""
    random = np.random.default_rng(seed)
    results = []
    for annotation in truth["annotations"]:
        if random.random() < 0.2:
            continue
        points = np.array(annotation["keypoints"]).reshape(-1, 3)
        points[:, :2] += random.normal(0, noise * random.random() * 2, points[:, :2].shape)
        points[:, 2] = 1
        results.append(
            {
                "image_id": annotation["image_id"] if random.random() < 0.9 else 1,
                "category_id": 1,
                "keypoints": points.ravel().tolist(),
                "score": float(random.random()),
            }
        )
    return results


def pycocotools_says(truth: Path, results: Path) -> tuple[np.ndarray, list[str]]:
    """The ten numbers and lines as its own tutorial computes them, from files."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        ground_truth = COCO(str(truth))
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(str(results)), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats, printed.getvalue().splitlines()[-10:]


@pytest.mark.parametrize("seed", range(5))
def test_numbers_and_lines_are_pycocotools_own(tmp_path: Path, seed: int, capsys: pytest.CaptureFixture[str]) -> None:
    truth = crowd(seed=seed)
    results = guesses(truth, seed=seed)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    expected, lines = pycocotools_says(tmp_path / "truth.json", tmp_path / "results.json")
    for source in (tmp_path / "truth.json", truth):
        scores = evaluate_keypoints(source, results, SIGMAS)
        np.testing.assert_allclose(scores.values, expected, atol=1e-12)
        assert list(scores.summary) == lines
        assert 0.05 < scores.ap < 0.95
        assert list(scores.kpis().values()) == scores.values.tolist()
    assert not capsys.readouterr().out


def test_the_truth_itself_is_perfect_and_nothing_is_zero(tmp_path: Path) -> None:
    truth = crowd()
    for annotation in truth["annotations"]:
        annotation["iscrowd"] = 0
    perfect = [
        {key: annotation[key] for key in ("image_id", "category_id", "keypoints")} | {"score": 1.0}
        for annotation in truth["annotations"]
    ]
    assert evaluate_keypoints(truth, perfect, SIGMAS).ap == pytest.approx(1)
    nothing = evaluate_keypoints(truth, [], SIGMAS)
    np.testing.assert_array_equal(nothing.values, 0)
    assert len(nothing.summary) == 10
    nobody = evaluate_keypoints(truth | {"annotations": []}, [], SIGMAS)
    np.testing.assert_array_equal(nobody.values, -1)


def test_one_keypoint_off_by_one_sigma_by_hand() -> None:
    """OKS = exp(-d^2 / (2 area (2 sigma)^2)): at d = 2 sigma sqrt(area) it is exp(-1/2) = 0.607, right at three of ten.

    The thresholds passed are 0.50, 0.55 and 0.60.
    """
    area, sigma = 100.0**2, 0.05
    truth = {
        "images": [{"id": 1, "width": 300, "height": 300}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "keypoints": [100, 100, 2],
                "bbox": [0, 0, 200, 200],
                "area": area,
            }
        ],
        "categories": [{"id": 1, "name": "thing", "keypoints": ["tip"]}],
    }
    found = [{"image_id": 1, "category_id": 1, "keypoints": [110, 100, 1], "score": 0.5}]
    scores = evaluate_keypoints(truth, found, (sigma,))
    assert scores.ap == pytest.approx(0.3)
    assert scores.kpis()["AP_0.5"] == pytest.approx(1)
    assert scores.kpis()["AP_0.75"] == pytest.approx(0)


def test_only_the_pictures_asked_for_count() -> None:
    truth = crowd()
    results = guesses(truth)
    chosen = [3, 5, 7]
    part = truth | {
        "images": [image for image in truth["images"] if image["id"] in chosen],
        "annotations": [a for a in truth["annotations"] if a["image_id"] in chosen],
    }
    expected = evaluate_keypoints(part, [r for r in results if r["image_id"] in chosen], SIGMAS)
    scores = evaluate_keypoints(truth, results, SIGMAS, image_ids=chosen)
    np.testing.assert_array_equal(scores.values, expected.values)
    assert scores.images == (3, 5, 7)


def test_annotations_may_leave_out_what_they_have_not() -> None:
    truth = crowd()
    for annotation in truth["annotations"]:
        if not annotation["num_keypoints"]:
            del annotation["keypoints"]
        del annotation["num_keypoints"]
    whole = crowd()
    results = guesses(whole)
    np.testing.assert_array_equal(
        evaluate_keypoints(truth, results, SIGMAS).values, evaluate_keypoints(whole, results, SIGMAS).values
    )


def test_wrong_results_and_files_are_refused(tmp_path: Path) -> None:
    truth = crowd()
    stranger = [{"image_id": 99, "category_id": 1, "keypoints": [0] * 51, "score": 1}]
    with pytest.raises(DataError, match="not in the annotation file, the first is 99"):
        evaluate_keypoints(truth, stranger, SIGMAS)
    with pytest.raises(DataError, match="hold 3 numbers a person, 51"):
        evaluate_keypoints(truth, [stranger[0] | {"image_id": 1, "keypoints": [0, 0, 0]}], SIGMAS)
    (tmp_path / "text.json").write_text("no")
    for name in ("text.json", "missing.json"):
        with pytest.raises(DataError, match=name):
            evaluate_keypoints(tmp_path / name, [], SIGMAS)


def test_the_table_holds_the_ten_numbers(tmp_path: Path) -> None:
    scores = evaluate_keypoints(crowd(), guesses(crowd()), SIGMAS)
    scores.write_csv(tmp_path / "results.csv")
    with (tmp_path / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["index", "metric", "IoU", "area", "maxDets", "score"]
    assert [int(row["index"]) for row in rows] == list(range(10))
    assert [float(row["score"]) for row in rows] == scores.values.tolist()
    for row, line, (metric, iou, area, name) in zip(rows, scores.summary, METRICS, strict=True):
        assert (row["metric"], row["IoU"], row["area"], row["maxDets"]) == (metric, iou, area, "20")
        assert f"({metric}) @[ IoU={iou}" in line
        assert f"area={area:>6}" in line
        assert name.startswith(metric)


def test_sigmas_come_from_the_dataset_then_the_skeleton_then_coco(caplog: pytest.LogCaptureFixture) -> None:
    hand = Skeleton.from_names(
        "hand", ("wrist", "tip", "nose"), [("wrist", "tip"), ("tip", "nose")], sigmas=(0.1, 0.2, 0.3)
    )
    assert sigmas_for(("a", "b"), given=(0.5, 0.6), skeleton=hand) == (0.5, 0.6)
    assert sigmas_for(("tip", "nose", "left_eye"), skeleton=hand) == (0.2, 0.3, 0.025)
    assert sigmas_for(("nose", "neck")) == (0.026, 0.079)
    assert not caplog.messages
    with caplog.at_level(logging.WARNING, "limbnet"):
        assert sigmas_for(("nose", "tail", "ear")) == (0.026, 0.067, 0.067)
    assert "tail, ear" in caplog.text
    assert sum(SIGMAS) / 17 == pytest.approx(0.067, abs=5e-4)
