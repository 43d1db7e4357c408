"""`limbnet benchmark`, whole: small studies of real networks on real pictures, killed runs, and its mistakes."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from limbnet.benchmark.study_rows import STEPS, OpenRow
from limbnet.cli import main
from limbnet.models.zoo import create_model

IDS = (86, 165)
NAIVE = "naive_litehrnet_18_256x192"


@pytest.fixture(autouse=True)
def in_the_checkout(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weight file as training programs write them: initial weights, but a file."""
    path = tmp_path_factory.mktemp("weights") / "naive.pth"
    torch.save({"state_dict": create_model(NAIVE, seed=3).state_dict()}, path)
    return path


@pytest.fixture
def write(tmp_path: Path):
    def study(*rows: str, **others: Any) -> str:
        content = {"dataset": "specs/dataset_examples.json", "images": list(IDS), "repetitions": 1, "bootstrap": 50}
        content |= {"synthetic_detections": {"per_picture": 4}} | others
        lines = [f"{key}: {json.dumps(value)}" for key, value in content.items() if value is not None]
        path = tmp_path / "study.yaml"
        path.write_text("\n".join([*lines, "rows:", *(f"  - {{{row}}}" for row in rows)]) + "\n")
        return str(path)

    return study


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_with_and_without_weights_and_of_limbnets_own(
    write, weights: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write(
        f"row: p, model: {NAIVE}, boxes: ground_truth, flip: true, checkpoint: {weights}, batch: 4",
        f"row: o, model: {NAIVE}, boxes: detected, threads: 1",
        f"row: mine, model: limbnet, checkpoint: {tiny_model}, scales: [0.5, 1.0], flip: true",
        repetitions=2,
    )
    results = tmp_path / "results"
    assert main(["benchmark", study, "-r", str(results)]) == 0
    shown = capsys.readouterr().out
    for word in ("Speed", "Accuracy", "speed only", "made up, about 4 a picture", "torch fp32 on cpu with 1 thread"):
        assert word in shown, word
    assert sorted(path.name for path in results.iterdir()) == [
        "all.png", "all.svg", "bottom-up.png", "bottom-up.svg", "rows", "status.json", "study.csv", "study.jsonl",
        "study.md", "synthetic_detections.json", "top-down.png", "top-down.svg",
    ]  # fmt: skip
    known, blind, mine = lines_of(results / "study.jsonl")
    assert [one["weights"] for one in (known, blind, mine)] == [
        "checkpoint", "initial weights: speed only", "checkpoint",
    ]  # fmt: skip
    assert len(known["ap"]) == len(mine["ap"]) == 10
    assert blind["ap"] == {}
    assert known["ap_interval"][0] <= known["ap"]["AP_0.50:0.95_all"] <= known["ap_interval"][1]
    assert known["people"] == 3  # the true boxes
    assert 2 <= blind["people"] <= 14
    assert blind["boxes"] == "synthetic"
    assert (known["facts"]["parameters"], known["facts"]["multiply_adds"]) == (760_365, 185_517_888)
    assert mine["facts"]["parameters"] > 0
    assert mine["facts"]["multiply_adds"] > 0
    for one in (known, blind, mine):
        first, *measured = lines_of(results / "rows" / f"{one['row']}.jsonl")
        assert first["identity"]["row"] == one["row"]
        assert [(line["repetition"], line["image"]) for line in measured] == [(r, i) for r in (0, 1) for i in IDS]
        rounds = [[line for line in measured if line["repetition"] == r] for r in (0, 1)]
        inference = sorted(sum(line[step] for line in lines for step in STEPS[1:]) for lines in rounds)
        whole = sorted(sum(line[step] for line in lines for step in STEPS) for lines in rounds)
        assert one["fps"] == pytest.approx(2 / (sum(whole) / 2))
        assert one["fps_inference"] == pytest.approx(2 / (sum(inference) / 2))
        assert one["fps_range"] == pytest.approx([2 / whole[1], 2 / whole[0]])
        assert one["person_ms"] == pytest.approx(1000 * sum(inference) / 2 / one["people"])
        assert sys.platform != "linux" or one["memory"] > 0
    with (results / "study.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["row"] for row in rows] == ["p", "o", "mine"]
    assert float(rows[0]["fps"]) == known["fps"]
    assert rows[1]["AP_0.50:0.95_all"] == ""
    boxes = json.loads((results / "synthetic_detections.json").read_text())
    assert {box["image_id"] for box in boxes} == set(IDS)

    # Everything is there already: nothing is measured, and the answer is the same.
    before = (results / "study.csv").read_bytes()
    assert main(["benchmark", study, "-r", str(results), "--json", "--no_charts"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert [one["row"] for one in json.loads(line)["outcomes"]] == ["p", "o", "mine"]
    assert (results / "study.csv").read_bytes() == before


def test_a_killed_run_goes_on_at_its_picture(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = f"row: p, model: {NAIVE}, boxes: ground_truth"
    results = tmp_path / "results"
    words = ["benchmark", write(row, repetitions=100_000), "-r", str(results), "--no_charts"]
    log = results / "rows" / "p.jsonl"
    with subprocess.Popen([sys.executable, "-m", "limbnet", *words], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (log.exists() and len(log.read_bytes().splitlines()) > 4) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    left = log.read_bytes()
    whole = left[: left.rfind(b"\n") + 1]
    done = len(whole.splitlines()) - 1
    assert done >= 3
    log.write_bytes(whole + b'{"repetition": 7, "ima')  # as if it had been torn

    repetitions = done // len(IDS) + 1
    measured = []
    original = OpenRow.measure
    monkeypatch.setattr(OpenRow, "measure", lambda *args: measured.append(args) or original(*args))
    assert main(["benchmark", write(row, repetitions=repetitions), "-r", str(results), "--no_charts"]) == 0
    assert len(measured) == repetitions * len(IDS) - done
    assert log.read_bytes().startswith(whole), "nothing of what was measured has changed"
    assert len(lines_of(log)) == 1 + repetitions * len(IDS)


def test_a_folder_of_other_rows_is_refused_and_can_be_overwritten(
    write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = f"row: p, model: {NAIVE}, boxes: detected"
    words = ["-r", str(tmp_path / "results"), "--no_charts"]
    assert main(["benchmark", write(row), *words]) == 0
    assert main(["benchmark", write(f"{row}, flip: true"), *words]) == 1
    error = capsys.readouterr().err
    assert "row p: flip was false and is true" in error
    assert "--overwrite" in error
    assert main(["benchmark", write(row, synthetic_detections={"per_picture": 2}), *words]) == 1
    assert "row p: pictures_and_boxes was" in capsys.readouterr().err
    (tmp_path / "results/rows/p.jsonl").write_text("no JSON\n")
    assert main(["benchmark", write(row), *words]) == 1
    assert "damaged" in capsys.readouterr().err
    assert main(["benchmark", write(f"{row}, flip: true"), *words, "--overwrite"]) == 0


def test_all_rows_that_cannot_run_are_told_before_one_runs(
    write, weights: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr("limbnet.benchmark.study_engines.find_spec", lambda name: None)
    study = write(
        f"row: a, model: hrnet_w32_256x192, boxes: detected, checkpoint: {weights}",
        "row: b, model: hrnet_w32_256x192, boxes: detected, checkpoint: nothing.pth",
        f"row: c, model: limbnet, checkpoint: {weights.parent / 'none.tlt'}",
        "row: d, model: openpose_coco, engine: openvino",
        f"row: p, model: {NAIVE}, boxes: detected, checkpoint: {weights}",
    )
    assert main(["benchmark", study, "-r", str(tmp_path / "results")]) == 1
    error = capsys.readouterr().err
    for line in (
        "4 rows of the study cannot run",
        "does not fit 'hrnet_w32_256x192'",
        "row b: Cannot read 'nothing.pth'",
        "row c: ",
        "row d: The engine 'openvino' needs the package 'openvino', which is not installed.",
        "--allow_missing",
    ):
        assert line in error, error
    assert "row p" not in error
    assert not (tmp_path / "results" / "rows").exists()


def test_missing_weights_are_done_without_only_when_allowed(write, tmp_path: Path) -> None:
    study = write(f"row: p, model: {NAIVE}, boxes: ground_truth, checkpoint: nothing.pth", pictures=1)
    results = tmp_path / "results"
    assert main(["benchmark", study, "-r", str(results), "--no_charts"]) == 1
    assert main(["benchmark", study, "-r", str(results), "--no_charts", "--allow_missing"]) == 0
    (line,) = lines_of(results / "study.jsonl")
    assert (line["weights"], line["pictures"]) == ("initial weights: speed only", 1)


@pytest.mark.slow
def test_published_networks_on_other_runtimes_say_what_torch_says(write, weights: Path, tmp_path: Path) -> None:
    row = f"model: {NAIVE}, boxes: ground_truth, checkpoint: {weights}"
    runtimes = ("torch", "onnxruntime", "openvino")
    results = tmp_path / "results"
    study = write(*(f"row: {name}, {row}, engine: {name}" for name in runtimes), pictures=1, bootstrap=0)
    assert main(["benchmark", study, "-r", str(results), "--no_charts"]) == 0
    lines = lines_of(results / "study.jsonl")
    assert [line["facts"]["engine"] for line in lines] == list(runtimes)
    assert len(list((results / "exported").iterdir())) == 1, "both runtimes use one graph"
    (expected,), *others = (
        [pose["keypoints"] for pose in lines_of(results / f"rows/{name}.jsonl")[1]["poses"]] for name in runtimes
    )
    for (found,) in others:
        apart = [abs(a - b) for a, b in zip(found, expected, strict=True)]
        assert sorted(apart)[len(apart) // 2] < 0.5  # a map that is nearly flat may have its peak elsewhere


def test_precision_is_that_of_the_file(write, tiny_model: Path, tmp_path: Path, capsys) -> None:
    study = write(f"row: mine, model: limbnet, checkpoint: {tiny_model}, precision: int8")
    assert main(["benchmark", study, "-r", str(tmp_path / "results")]) == 1
    assert "Row mine: precision is int8, but" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"images": [86, 1, 2]}, "2 ids in images of the study are not in"),
        ({"dataset": "specs/nothing.json"}, "nothing.json"),
        ({"synthetic_detections": None, "detections": "{other}"}, "knows none of the 28 pictures of the dataset"),
        ({"synthetic_detections": None, "detections": "{wrong}"}, "entry 0: bbox"),
    ],
)
def test_wrong_data(write, tmp_path: Path, capsys, others: dict[str, Any], message: str) -> None:
    entry = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "other.json").write_text(json.dumps([entry]))
    (tmp_path / "wrong.json").write_text(json.dumps([entry | {"image_id": 86, "bbox": [1, 2]}]))
    places = {key: tmp_path / f"{key}.json" for key in ("other", "wrong")}
    filled = {key: value.format(**places) if isinstance(value, str) else value for key, value in others.items()}
    study = write(f"row: p, model: {NAIVE}, boxes: detected", **filled)
    assert main(["benchmark", study, "-r", str(tmp_path / "results")]) == 1
    assert message in capsys.readouterr().err
