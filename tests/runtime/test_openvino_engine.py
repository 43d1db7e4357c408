"""OpenVINO's streams: batches that are started before the ones in front of them are fetched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from limbnet.runtime.engine import Engine, Maps, OverlappingEngine, most_started, start
from limbnet.runtime.load import load_engine
from limbnet.runtime.openvino_engine import OpenVinoEngine
from limbnet.runtime.predictor import PoseEstimator

pytestmark = pytest.mark.timeout(120)  # an answer that is lost would be waited for without end

SIZE = (64, 96)


@pytest.fixture(scope="module")
def engine() -> OpenVinoEngine:
    opened = load_engine("limbnet-s", engine="openvino-throughput", device="cpu", threads=2)
    assert isinstance(opened, OpenVinoEngine)
    return opened


@pytest.fixture(scope="module")
def pictures() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (40, *SIZE, 3), np.uint8)


def same(found: object, expected: object) -> bool:
    assert isinstance(found, Maps)
    assert isinstance(expected, Maps)
    return np.array_equal(found.heatmaps, expected.heatmaps) and np.array_equal(found.pafs, expected.pafs)


def test_batches_may_be_fetched_in_any_order_and_more_started_than_there_are_requests(
    engine: OpenVinoEngine, pictures: NDArray[np.uint8]
) -> None:
    assert isinstance(engine, OverlappingEngine)
    assert most_started(engine) > 1
    batches = np.split(pictures, len(pictures) // engine.preferred_batch)
    assert len(batches) > most_started(engine) + 2
    expected = [engine.run(batch) for batch in batches]
    assert not same(expected[0], expected[1])
    fetches = [start(engine, batch) for batch in batches]
    assert all(same(fetch(), one) for fetch, one in reversed(list(zip(fetches, expected, strict=True))))
    assert same(fetches[0](), expected[0])  # fetched again


def test_a_batch_larger_than_the_streams_is_one_answer(engine: OpenVinoEngine, pictures: NDArray[np.uint8]) -> None:
    together = engine.run(pictures)
    assert isinstance(together, Maps)
    assert len(together) == len(pictures)
    last = engine.run(pictures[-1:])
    assert isinstance(last, Maps)
    np.testing.assert_array_equal(together.heatmaps[-1:], last.heatmaps)


def test_what_openvino_refuses_leaves_the_engine_usable(engine: OpenVinoEngine, pictures: NDArray[np.uint8]) -> None:
    expected = engine.run(pictures[:2])
    before = engine.start(pictures[:2])
    with pytest.raises(RuntimeError):
        engine.start(np.zeros((1, *SIZE, 4), np.uint8))()  # four channels
    assert same(before(), expected)
    for _ in range(most_started(engine) + 1):
        assert same(engine.run(pictures[:2]), expected)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime", "openvino"])
def test_other_engines_work_while_they_are_called(runtime: str, pictures: NDArray[np.uint8]) -> None:
    engine: Engine = load_engine("limbnet-s", engine=runtime, device="cpu", threads=1)
    assert most_started(engine) == 1
    assert same(start(engine, pictures[:1])(), engine.run(pictures[:1]))


def test_a_stream_says_what_single_calls_say(engine: OpenVinoEngine) -> None:
    paths = sorted((Path(__file__).resolve().parents[2] / "examples/images").glob("*.jpg"))
    estimator = PoseEstimator(engine, input_size=(128, 192), fit_mode="adjust_network_input", scales=(1.0,))
    results = list(estimator.stream(paths))
    assert [result.source for result in results] == paths
    assert sum(len(result.poses or ()) for result in results) > len(paths)
    for result in results[::5]:
        assert result.poses is not None
        np.testing.assert_array_equal(result.poses.keypoints, estimator(result.source).keypoints)
