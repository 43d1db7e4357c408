"""Bootstrap: AP of weighted pictures against pycocotools on a dataset whose pictures are repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_scores import SIGMAS, crowd, guesses

from limbnet.errors import LimbnetError
from limbnet.evaluation.bootstrap import average_precision, bootstrap_ap, bootstrap_difference
from limbnet.evaluation.coco import METRICS, evaluate_keypoints


def repeated(
    truth: dict[str, Any], results: list[dict[str, Any]], weights: np.ndarray
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The slow clear twin of weights: every picture copied as often as it was drawn, with new ids."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image, weight in zip(truth["images"], weights, strict=True):
        for _ in range(weight):
            new = len(images) + 1
            images.append(image | {"id": new})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    annotations.append(annotation | {"id": len(annotations) + 1, "image_id": new})
            found += [result | {"image_id": new} for result in results if result["image_id"] == image["id"]]
    return truth | {"images": images, "annotations": annotations}, found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("area", ["all", "medium", "large"])
def test_weights_of_one_give_the_number_itself(seed: int, area: str) -> None:
    truth = crowd(seed=seed)
    scores = evaluate_keypoints(truth, guesses(truth, seed=seed), SIGMAS)
    place = [(metric, iou, name) for metric, iou, name, _ in METRICS].index(("AP", "0.50:0.95", area))
    assert average_precision(scores, area) == pytest.approx(scores.values[place], abs=1e-12)


@pytest.mark.parametrize("seed", range(6))
def test_weights_stand_for_repeated_pictures(seed: int) -> None:
    truth = crowd(seed=seed)
    results = guesses(truth, seed=seed)
    scores = evaluate_keypoints(truth, results, SIGMAS)
    weights = np.random.default_rng(seed).integers(0, 4, len(truth["images"]))
    expected = evaluate_keypoints(*repeated(truth, results, weights), SIGMAS)
    assert average_precision(scores, weights=weights) == pytest.approx(expected.ap, abs=1e-9)
    assert abs(expected.ap - scores.ap) > 1e-4


def test_the_interval_is_that_of_ap_over_redrawn_pictures() -> None:
    """Against the slow way, draw by draw."""
    truth = crowd()
    results = guesses(truth)
    interval = bootstrap_ap(evaluate_keypoints(truth, results, SIGMAS), draws=20, seed=7)
    random = np.random.default_rng(7)
    slow = []
    for _ in range(20):
        drawn = random.integers(0, 12, 12)
        slow.append(evaluate_keypoints(*repeated(truth, results, np.bincount(drawn, minlength=12)), SIGMAS).ap)
    np.testing.assert_allclose(interval.draws, slow, atol=1e-9)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(slow, [0.025, 0.975])))
    assert interval.low < interval.value < interval.high


def test_a_difference_is_paired() -> None:
    truth = crowd(40)
    good, bad = guesses(truth, noise=3), guesses(truth, noise=4)
    first, second = (evaluate_keypoints(truth, results, SIGMAS) for results in (bad, good))
    paired = bootstrap_difference(first, second, draws=300)
    assert paired.value == pytest.approx(second.ap - first.ap)
    assert 0 < paired.low < paired.value < paired.high
    alone = [bootstrap_ap(scores, draws=300) for scores in (first, second)]
    assert alone[0].high > alone[1].low  # side by side the two could not be told apart
    same = bootstrap_difference(first, first, draws=50)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_different_pictures_are_not_compared() -> None:
    truth = crowd()
    whole, part = (evaluate_keypoints(truth, [], SIGMAS, image_ids=ids) for ids in (None, [1, 2]))
    with pytest.raises(LimbnetError, match=r"different pictures \(12 and 2\)"):
        bootstrap_difference(whole, part)


def test_no_people_and_no_detections_have_an_interval_too() -> None:
    truth = crowd()
    nothing = bootstrap_ap(evaluate_keypoints(truth, [], SIGMAS), draws=10)
    assert (nothing.value, nothing.low, nothing.high) == (0, 0, 0)
    nobody = bootstrap_ap(evaluate_keypoints(truth | {"annotations": []}, [], SIGMAS), draws=10)
    assert (nobody.value, nobody.low, nobody.high) == (-1, -1, -1)
