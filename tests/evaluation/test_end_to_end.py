"""Pictures to AP with an engine that knows the answers: what fitting, averaging, decoding and the way back cost.

A wrong half pixel anywhere shows here, for eyes and noses are scored within a few pixels.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from limbnet.evaluation.coco import evaluate_keypoints
from limbnet.evaluation.dataset import evaluate_dataset, load_test_data
from limbnet.geometry import FitMode
from limbnet.runtime.predictor import PoseEstimator
from limbnet.skeleton import BODY_18
from limbnet.specs.dataset import DatasetSpec
from oracle import Oracle, assembled_truth, coco_spec

MODES: tuple[FitMode, ...] = ("adjust_network_input", "pad_image_input", "stretch")
MULTI = (0.5, 1.0, 1.5, 2.0)


@pytest.fixture(scope="module")
def examples(root: Path) -> DatasetSpec:
    (annotations,) = (root / "examples" / "annotations").glob("*.json")
    return coco_spec(root / "examples", f"annotations/{annotations.name}", "images")


@pytest.fixture(scope="module")
def coco_mini(shared_data: Path) -> DatasetSpec:
    return coco_spec(shared_data / "coco-mini", "annotations/person_keypoints_val.json", "images/val")


def oracle_ap(
    spec: DatasetSpec, mode: FitMode, scales: tuple[float, ...] = (1.0,), flip: bool = False
) -> tuple[float, float]:
    """AP of an all-knowing network: of all people, and of those whom part affinity fields can assemble."""
    oracle = Oracle()
    oracle.learn_dataset(spec, (368, 368), mode, scales, flip)
    estimator = PoseEstimator(oracle, fit_mode=mode, scales=scales, flip=flip)
    data = load_test_data(spec, BODY_18)
    evaluation = evaluate_dataset(estimator, data)
    assert not evaluation.unreadable
    assembled = evaluate_keypoints(assembled_truth(spec, BODY_18), evaluation.results, data.sigmas)
    print(f"{spec.root_directory_path.name} {mode} {scales} flip={flip}: {evaluation.scores.ap:.4f} {assembled.ap:.4f}")
    return evaluation.scores.ap, assembled.ap


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0, 1.5), True)])
def test_on_the_examples(examples: DatasetSpec, mode: FitMode, scales: tuple[float, ...], flip: bool) -> None:
    every, assembled = oracle_ap(examples, mode, scales, flip)
    assert assembled > 0.9
    assert every > 0.7


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "scales", "flip"),
    [(mode, (1.0,), False) for mode in MODES]
    + [("adjust_network_input", MULTI, False), ("pad_image_input", (1.0,), True)],
)
def test_on_coco_mini(coco_mini: DatasetSpec, mode: FitMode, scales: tuple[float, ...], flip: bool) -> None:
    every, assembled = oracle_ap(coco_mini, mode, scales, flip)
    assert assembled > 0.91
    assert every > 0.74
