"""Rows and their stages with an engine and a clock that the tests hold, and AP with one that knows the answers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from limbnet.benchmark import rows as rows_module
from limbnet.benchmark.pictures import readable, write_synthetic
from limbnet.benchmark.profile import ProfileSettings, _measure_ap, _measure_streams, profile
from limbnet.benchmark.rows import STAGES, Case, Row, Runner
from limbnet.benchmark.timing import Percentiles
from limbnet.data.pictures import picture_size, read_picture
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.errors import DataError, ModelFileError, SpecError
from limbnet.evaluation.dataset import load_test_data
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18
from oracle import Oracle, coco_spec

CASE = Case("model", Path("model"), None, (64, 96), 1)


class Clock:
    """Stands still until it is wound on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Slow:
    """An engine that decodes in its graph: 7 seconds a run, and half a second for each picture's people."""

    name = "slow int8"
    device = "cpu"
    fixed_size: tuple[int, int] | None = None
    max_batch: int | None = None
    preferred_batch = 1
    decode = "peaks"

    def __init__(self, clock: Clock) -> None:
        self.info = ModelInfo(BODY_18)
        self.clock = clock
        self.shapes: list[tuple[int, ...]] = []

    def run(self, images: NDArray[np.uint8]) -> Slow:
        self.shapes.append(images.shape)
        self.clock.now += 7
        return self

    def __len__(self) -> int:
        return self.shapes[-1][0]

    def people(self, index: int, info: ModelInfo, settings: DecoderSettings) -> People:
        self.clock.now += 0.5
        return People(np.zeros((0, 18, 2), np.float32), np.zeros((0, 18), np.float32), np.zeros(0, np.float32))


@pytest.fixture
def pictures(tmp_path: Path) -> Sequence[Path]:
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for number, path in enumerate(paths):
        Image.new("RGB", (40 + number, 30), (number, 0, 0)).save(path)
    return paths


def test_stages_add_up_and_pictures_come_round(pictures: Sequence[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    clock, read = Clock(), []

    def slow_picture(path: Path) -> NDArray[np.uint8]:
        clock.now += 2
        read.append(path)
        return read_picture(path)

    monkeypatch.setattr(rows_module, "as_picture", slow_picture)
    engine = Slow(clock)
    runner = Runner(engine, replace(CASE, batch=2), pictures, clock)
    for _ in range(2):
        spent = runner.stages()
        assert spent == {"load": 4, "fit": 0, "network": 7, "decode": 1, "end to end": 12}
        assert tuple(spent) == STAGES
    assert read == [*pictures, pictures[0]]
    assert engine.shapes == [(2, 64, 96, 3)] * 2
    assert not runner.gives_maps


def test_the_stream_is_timed_whole_and_its_rate_counts(pictures: Sequence[Path]) -> None:
    clock = Clock()
    runner = Runner(Slow(clock), replace(CASE, batch=2), pictures, clock)
    assert runner.stream_count(1.0, 0.01) == 200
    assert runner.stream_count(1.0, 0.5) == 16
    assert runner.stream(5) == pytest.approx(3 * 7 + 5 * 0.5)  # three runs of at most two
    row = Row(runner.case, stages={name: Percentiles(8000, 8000, 8000, 1) for name in STAGES})
    _measure_streams([(row, runner)], ProfileSettings())
    assert row.stream_pictures == 16
    assert row.throughput("end to end") == pytest.approx(16 / (8 * 7 + 16 * 0.5))
    assert row.throughput("network") == pytest.approx(2 / 8)


def test_a_picture_that_vanishes_ends_the_measurement(pictures: Sequence[Path]) -> None:
    runner = Runner(Slow(Clock()), CASE, pictures)
    pictures[1].unlink()
    with pytest.raises(DataError, match=r"1\.png"):
        runner.stream(3)


def test_what_an_engine_cannot_do_is_refused(pictures: Sequence[Path]) -> None:
    engine = Slow(Clock())
    with pytest.raises(SpecError, match="no multiple of the stride 8"):
        Runner(engine, replace(CASE, size=(60, 96)), pictures)
    engine.fixed_size, engine.max_batch = (64, 96), 2
    Runner(engine, replace(CASE, batch=2), pictures)
    with pytest.raises(SpecError, match=r"slow int8 takes inputs of 64x96 \(height x width\) only"):
        Runner(engine, replace(CASE, size=(96, 96)), pictures)
    with pytest.raises(SpecError, match="at most 2 pictures"):
        Runner(engine, replace(CASE, batch=4), pictures)


def test_ap_is_measured_once_for_each_size(root: Path) -> None:
    spec = coco_spec(root / "examples", "annotations/person_keypoints.json", "images")
    oracle = Oracle()
    for size in ((256, 256), (128, 128)):
        oracle.learn_dataset(spec, size, "pad_image_input")
    cases = [replace(CASE, size=(256, 256), batch=2), replace(CASE, size=(256, 256)), replace(CASE, size=(128, 128))]
    paths = sorted((root / "examples" / "images").glob("*.jpg"))[:1]
    runners = [(Row(case), Runner(oracle, case, paths)) for case in cases]
    data = load_test_data(spec, oracle.info.skeleton)
    _measure_ap(runners, {oracle.info.skeleton: data})
    assert sum(oracle.batches) == 2 * len(data.images)
    twice, large, small = (row.ap for row, _ in runners)
    assert twice == large
    assert list(large) == ["all", "medium", "large"]
    assert large["all"] > small["all"] > 0.1
    assert large["large"] > 0.5


def test_pictures_that_cannot_be_read_are_left_out(pictures: Sequence[Path], caplog: pytest.LogCaptureFixture) -> None:
    pictures[0].write_bytes(b"no picture")
    assert readable(pictures) == list(pictures[1:])
    assert "0.png" in caplog.text
    assert len(readable([pictures[1]] * 100)) == 64
    with pytest.raises(DataError, match="None of the pictures"):
        readable(pictures[:1])


def test_the_synthetic_picture_is_like_a_photograph(tmp_path: Path) -> None:
    path, described = write_synthetic(tmp_path)
    assert picture_size(path) == (480, 640)
    assert 0.5 < path.stat().st_size / (480 * 640) < 0.65  # 40 pictures of COCO: 0.58 bytes a pixel in the median
    assert described.startswith("a synthetic JPEG of 640x480")
    pixels = read_picture(path).astype(float)
    assert 90 < pixels.mean() < 165
    assert pixels.std() > 30
    assert write_synthetic(tmp_path / "again")[0].read_bytes() == path.read_bytes()


def test_missing_files_are_named_together(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"one\.onnx(.|\n)*two\.onnx"):
        profile([tmp_path / "one.onnx", tiny_model, tmp_path / "two.onnx"], ProfileSettings())


def test_rows_become_json(pictures: Sequence[Path]) -> None:
    row = Row(CASE, "torch", stages={name: Percentiles(1, 2, 3, 4) for name in STAGES})
    content = json.loads(json.dumps(row.to_dict()))
    assert content["stages_ms"]["network"] == {"p50": 1, "p95": 2, "p99": 3, "runs": 4, "pictures_per_second": 1000}
    assert json.loads(json.dumps(Row(CASE, reason="too small").to_dict()))["reason"] == "too small"
