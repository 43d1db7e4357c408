"""OpenVINO's throughput mode: several pictures at a time, by one caller or by several."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from limbnet.runtime.engine import Maps
from limbnet.runtime.load import load_engine
from limbnet.runtime.openvino_engine import OpenVinoEngine
from limbnet.runtime.predictor import PoseEstimator

pytest.importorskip("openvino")
pytestmark = pytest.mark.timeout(120)  # a request that is lost would be waited for without end

IMAGES = np.random.default_rng(0).integers(0, 256, (23, 64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def engine() -> OpenVinoEngine:
    engine = load_engine("limbnet-s", engine="openvino-throughput", device="cpu", threads=2)
    assert isinstance(engine, OpenVinoEngine)
    assert engine.preferred_batch == 1
    return engine


def maps_of(engine: OpenVinoEngine, images: np.ndarray) -> Maps:
    output = engine.run(images)
    assert isinstance(output, Maps)
    return output


def test_many_pictures_are_answered_in_order_by_one_and_by_many_callers(engine: OpenVinoEngine) -> None:
    alone = [maps_of(engine, image[None]) for image in IMAGES]
    for expected, got in zip(alone, maps_of(engine, IMAGES).heatmaps, strict=True):
        np.testing.assert_array_equal(expected.heatmaps[0], got)
    with ThreadPoolExecutor(engine.parallel_runs + 2) as callers:  # two too many: they wait
        answers = list(callers.map(lambda _: maps_of(engine, IMAGES), range(12)))
    for answer in answers:
        for expected, got in zip(alone, answer.pafs, strict=True):
            np.testing.assert_array_equal(expected.pafs[0], got)


def test_failures_lose_no_request(engine: OpenVinoEngine) -> None:
    for _ in range(2 * engine.parallel_runs):
        with pytest.raises(RuntimeError):
            engine.run(IMAGES[..., :2])
    assert len(maps_of(engine, IMAGES)) == len(IMAGES)


def test_a_stream_finds_what_single_pictures_give(engine: OpenVinoEngine, root: Path) -> None:
    pictures = sorted((root / "examples" / "images").glob("*.jpg"))[:6]
    estimator = PoseEstimator(engine, input_size=(128, 192), scales=(1.0,))
    for picture, result in zip(pictures, estimator.stream(pictures), strict=True):
        assert result.poses is not None
        np.testing.assert_array_equal(result.poses.keypoints, estimator(picture).keypoints)
