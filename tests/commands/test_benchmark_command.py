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

import onnx
import pytest
import torch

from limbnet.benchmark.study_rows import STEPS, OpenRow
from limbnet.cli import main
from limbnet.models.zoo import create_model

IDS = (86, 165)
NAIVE = "naive_litehrnet_18_256x192"

#: The network that is exported soonest.
TRANSPOSE = "transpose_r_a3_256x192"


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


@pytest.mark.timeout(900)
def test_a_killed_run_goes_on_at_its_row_and_picture(write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [f"row: {name}, model: {NAIVE}, boxes: ground_truth" for name in ("p", "q")]
    results = tmp_path / "results"
    words = ["benchmark", write(*rows, repetitions=100_000), "-r", str(results), "--no_charts"]
    logs = [results / "rows" / f"{name}.jsonl" for name in ("p", "q")]
    with subprocess.Popen([sys.executable, "-m", "limbnet", *words], stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 400
        while not (logs[1].exists() and len(logs[1].read_bytes().splitlines()) > 1) and time.monotonic() < deadline:
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    left = [log.read_bytes() for log in logs]
    whole = [content[: content.rfind(b"\n") + 1] for content in left]
    done = [len(content.splitlines()) - 1 for content in whole]
    assert done[0] >= len(IDS)  # row p was through its first turn, row q in it or further
    assert done[1] >= 1
    logs[1].write_bytes(whole[1] + b'{"repetition": 7, "ima')  # as if it had been torn

    repetitions = max(done) // len(IDS) + 1
    measured = []
    original = OpenRow.measure

    def measure(opened: OpenRow, data, place: int):
        measured.append((opened.plan.row.row, data.coco.images[place].id))
        return original(opened, data, place)

    monkeypatch.setattr(OpenRow, "measure", measure)
    assert main(["benchmark", write(*rows, repetitions=repetitions), "-r", str(results), "--no_charts"]) == 0
    for name, log, kept, count in zip("pq", logs, whole, done, strict=True):
        every = [image for _ in range(repetitions) for image in IDS]
        assert [image for row, image in measured if row == name] == every[count:]
        assert log.read_bytes().startswith(kept), "nothing of what was measured has changed"
        assert [line["image"] for line in lines_of(log)[1:]] == every


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


#: Runtime and precision of each row; fp32 of torch comes first.
RUN_AS = [("torch", "fp32"), ("onnxruntime", "fp32"), ("openvino", "fp32"), ("onnxruntime", "fp16"),
          ("openvino", "fp16"), ("onnxruntime", "int8"), ("openvino", "int8")]  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_published_networks_on_other_runtimes_say_what_torch_says(
    write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, results = tmp_path / "transpose.pth", tmp_path / "results"
    torch.save(create_model(TRANSPOSE, seed=3).state_dict(), weights)
    rows = [
        f"row: {engine}-{precision}, model: {TRANSPOSE}, boxes: ground_truth, checkpoint: {weights}, engine: {engine}, "
        f"precision: {precision}"
        for engine, precision in RUN_AS
    ]
    words = ["-r", str(results), "--no_charts"]
    assert main(["benchmark", write(*rows, pictures=1, bootstrap=0), *words]) == 0
    lines = lines_of(results / "study.jsonl")
    assert [(line["facts"]["engine"], line["facts"]["precision"]) for line in lines] == RUN_AS
    graphs = sorted((results / "exported").iterdir())
    assert [path.name.split(".")[1] for path in graphs] == ["fp16", "fp32", "int8"], "both runtimes use one graph"
    allowed = {"fp32": 1e-4, "fp16": 2e-2, "int8": 0.2}
    for line in lines[1:]:
        assert 0 < line["facts"]["from_torch"]["largest"] < allowed[line["facts"]["precision"]]
    assert [line["row"] for line in lines if "INT8 ranges from the study's own pictures" in line["notes"]] == [
        "onnxruntime-int8", "openvino-int8",
    ]  # fmt: skip
    (expected,), *others = (
        [pose["keypoints"] for pose in lines_of(results / f"rows/{line['row']}.jsonl")[1]["poses"]] for line in lines
    )
    for (found,) in others[:2]:
        apart = [abs(a - b) for a, b in zip(found, expected, strict=True)]
        assert sorted(apart)[len(apart) // 2] < 0.5  # a map that is nearly flat may have its peak elsewhere

    # A graph with an operator that no runtime has: its rows cannot run, and the table says which operator it is.
    (graph,) = (path for path in graphs if ".fp32." in path.name)
    with_unknown_operator(graph)
    assert main(["benchmark", write(*rows[:3], pictures=1, bootstrap=0), *words, "--overwrite"]) == 0
    ran, *refused = lines_of(results / "study.jsonl")
    assert ran["row"] == "torch-fp32"
    assert [line["row"] for line in refused] == ["onnxruntime-fp32", "openvino-fp32"]
    assert [line["cannot_run"]["operators"] for line in refused] == [["nobody:Knows"], ["nobody.Knows"]]
    page = (results / "study.md").read_text()
    assert "## Cannot run" in page
    assert "| onnxruntime-fp32 | TransPose-R-A3 256x192, true boxes, onnxruntime fp32 | ONNX Runtime" in page
    assert "nobody:Knows" in capsys.readouterr().out
    with (results / "study.csv").open() as file:
        assert [row["notes"] for row in csv.DictReader(file)][1] == "cannot run; operator: nobody:Knows"
    assert main(["benchmark", write(rows[1], pictures=1), *words, "--overwrite"]) == 1
    assert "No row of the study can run" in capsys.readouterr().err


def with_unknown_operator(path: Path) -> None:
    """Put a node that no runtime knows behind a graph's output."""
    model = onnx.load(path)
    output = model.graph.output[0].name
    for node in model.graph.node:
        node.output[:] = [f"{name}/known" if name == output else name for name in node.output]
    model.graph.node.append(onnx.helper.make_node("Knows", [f"{output}/known"], [output], domain="nobody"))
    model.opset_import.append(onnx.helper.make_opsetid("nobody", 1))
    path.write_bytes(model.SerializeToString())


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
        ({"synthetic_detections": None, "detections": "{none}"}, "Cannot read the detections file"),
    ],
)
def test_wrong_data(write, tmp_path: Path, capsys, others: dict[str, Any], message: str) -> None:
    entry = {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "other.json").write_text(json.dumps([entry]))
    (tmp_path / "wrong.json").write_text(json.dumps([entry | {"image_id": 86, "bbox": [1, 2]}]))
    places = {key: tmp_path / f"{key}.json" for key in ("other", "wrong", "none")}
    filled = {key: value.format(**places) if isinstance(value, str) else value for key, value in others.items()}
    study = write(f"row: p, model: {NAIVE}, boxes: detected", **filled)
    assert main(["benchmark", study, "-r", str(tmp_path / "results")]) == 1
    assert message in capsys.readouterr().err


def test_boxes_that_cannot_be_used_are_left_out_and_counted(write, tmp_path: Path, capsys) -> None:
    entry = {"image_id": IDS[0], "category_id": 1, "bbox": [10, 20, 100, 200], "score": 0.5}
    others = [{"bbox": [10, 20, 0, 200]}, {"bbox": [-90, 20, 80, 200]}, {"image_id": 7}, {"category_id": 2}]
    (tmp_path / "boxes.json").write_text(json.dumps([entry, *(entry | other for other in others)]))
    study = write(
        f"row: p, model: {NAIVE}, boxes: detected", synthetic_detections=None, detections=str(tmp_path / "boxes.json"),
    )  # fmt: skip
    results = tmp_path / "results"
    assert main(["benchmark", study, "-r", str(results), "--no_charts"]) == 0
    (line,) = lines_of(results / "study.jsonl")
    assert line["people"] == 1
    shown = " ".join(capsys.readouterr().out.split())
    for reason in ("1 of zero size", "1 outside their picture", "1 of pictures that are not in the dataset"):
        assert reason in shown
