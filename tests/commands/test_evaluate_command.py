"""`limbnet evaluate`, whole: the command line with a real network, and its function with one that knows the answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from limbnet.cli import main
from limbnet.commands.evaluate import evaluate
from limbnet.errors import DataError, SpecError
from limbnet.evaluation.coco import METRICS, evaluate_keypoints
from limbnet.runtime.predictor import PoseEstimator
from limbnet.skeleton import COCO_JOINTS, COCO_SIGMAS
from limbnet.specs.dataset import Category
from oracle import Oracle, coco_spec

SIZE = (256, 256)


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> Path:
    """Four of the examples in a folder of their own, with a dataset spec; returns the folder."""
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    truth = json.loads((root / "examples" / "annotations" / "person_keypoints.json").read_text())
    truth["images"] = truth["images"][:4]
    ids = [image["id"] for image in truth["images"]]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    for image in truth["images"]:
        shutil.copy(root / "examples" / "images" / image["file_name"], folder / "images")
    (folder / "truth.json").write_text(json.dumps(truth))
    paths = {"images_root_dir_path": "images", "annotation_root_dir_path": "truth.json"}
    category = {"name": "person", "keypoints": COCO_JOINTS}
    spec = {"root_directory_path": str(folder), "train_data": paths, "test_data": paths, "categories": [category]}
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder


def knowing(folder: Path) -> tuple[PoseEstimator, Any]:
    spec = coco_spec(folder, "truth.json", "images")
    oracle = Oracle()
    oracle.learn_dataset(spec, SIZE, "adjust_network_input")
    return PoseEstimator(oracle, input_size=SIZE), spec


def test_the_command_writes_every_file_and_prints_ten_lines(
    dataset: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "infer.yaml").write_text(f"model_path: {tiny_model}\ninput_shape: [64, 96]\nheatmap_threshold: 0.2\n")
    words = ["evaluate", "-i", str(tmp_path / "infer.yaml"), "-d", str(dataset / "dataset.json"), "--device", "cpu"]
    results = tmp_path / "results"
    assert main([*words, "-r", str(results), "-k", "unused", "--dataset", "coco", "-l", "warning"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[0].startswith(" Average Precision  (AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = ")
    detections = json.loads((results / "detections.json").read_text())
    assert detections["inference_spec"] == {
        "model_path": str(tiny_model), "input_shape": [64, 96], "heatmap_threshold": 0.2,
    }  # fmt: skip
    assert len(detections["images"]) == 4
    assert sorted(path.name for path in results.iterdir()) == [
        "detections.json", "detections_coco_format.json", "results.csv", "status.json",
    ]  # fmt: skip
    status = [json.loads(line) for line in (results / "status.json").read_text().splitlines()]
    assert [line["status"] for line in status] == ["STARTED", "RUNNING", "SUCCESS"]
    assert list(status[1]["kpi"]) == [name for *_, name in METRICS]
    assert main([*words, "-m", str(tiny_model), "--results_dir", str(results), "--json", "--bootstrap", "0"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line)["AP_0.5"] == 0
    assert json.loads(line)["pictures"] == 4


def test_the_printed_ap_is_that_of_the_written_json(dataset: Path, tmp_path: Path) -> None:
    estimator, spec = knowing(dataset)
    evaluation = evaluate(estimator, spec, tmp_path, {"written": "by the user"})
    assert evaluation.scores.ap > 0.5
    written = json.loads((tmp_path / "detections_coco_format.json").read_text())
    again = evaluate_keypoints(dataset / "truth.json", written, tuple(COCO_SIGMAS.values()))
    np.testing.assert_allclose(again.values, evaluation.scores.values, atol=1e-6)
    assert any(value != round(value) for result in written for value in result["keypoints"])  # not cut to whole pixels

    detections = json.loads((tmp_path / "detections.json").read_text())
    assert detections["inference_spec"] == {"written": "by the user"}
    joints = detections["categories"][0]["keypoints"]
    people = [
        (entry["image_id"], person, score)
        for entry in detections["images"]
        for person, score in zip(entry["keypoints"], entry["scores"], strict=True)
    ]
    assert len(people) == len(written)
    for (image, person, score), result in zip(people, written, strict=True):
        assert (image, score, 1) == (result["image_id"], result["score"], result["category_id"])
        for name, (x, y, flag) in zip(COCO_JOINTS, np.reshape(result["keypoints"], (-1, 3)), strict=True):
            assert person[joints.index(name)] == [x, y]
            assert flag == ((x, y) != (0, 0))
    for entry in detections["images"]:
        assert Path(entry["full_image_path"]).is_file()
        with Image.open(entry["full_image_path"]) as image:
            assert entry["image_meta"] | {"file_name": ""} == {
                "file_name": "", "height": image.height, "width": image.width,
            }  # fmt: skip


def test_pictures_that_cannot_be_read_count_as_empty(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    estimator, spec = knowing(dataset)
    whole = evaluate(estimator, spec, tmp_path / "whole")
    names = [image["file_name"] for image in json.loads((dataset / "truth.json").read_text())["images"]]
    (dataset / "images" / names[1]).unlink()
    content = (dataset / "images" / names[2]).read_bytes()
    (dataset / "images" / names[2]).write_bytes(content[: len(content) // 2])
    caplog.clear()
    part = evaluate(estimator, spec, tmp_path / "part")
    assert [image.file_name for image, _ in part.unreadable] == names[1:3]
    assert "2 of 4 pictures could not be read" in caplog.text
    for name in names[1:3]:
        assert name in caplog.text
    assert part.scores.ap < whole.scores.ap
    entries = json.loads((tmp_path / "part" / "detections.json").read_text())["images"]
    assert ["keypoints" in entry for entry in entries] == [True, False, False, True]


def test_no_readable_picture_is_an_error_and_leaves_earlier_results(dataset: Path, tmp_path: Path) -> None:
    estimator, spec = knowing(dataset)
    evaluate(estimator, spec, tmp_path)
    earlier = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for picture in (dataset / "images").iterdir():
        picture.unlink()
    with pytest.raises(DataError, match=r"None of the 4 pictures(.|\n)*images_root_dir_path"):
        evaluate(estimator, spec, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == earlier


def test_pictures_of_another_size_than_annotated_are_told(
    dataset: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    estimator, spec = knowing(dataset)
    truth = json.loads((dataset / "truth.json").read_text())
    height, width = truth["images"][0]["height"], truth["images"][0]["width"]
    truth["images"][0]["width"] += 37
    (dataset / "truth.json").write_text(json.dumps(truth))
    evaluate(estimator, spec, tmp_path)
    (line,) = [record.message for record in caplog.records if "will not match" in record.message]
    assert f"is {height}x{width} pixels" in line
    assert f"the annotations say {height}x{width + 37}" in line


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_keypoints": 0, "keypoints": [0] * 51}, "Nobody in '.*' is labelled"),
        ({"iscrowd": 1}, "Nobody in '.*' is labelled"),
        ({"num_keypoints": 17, "keypoints": [1, 1, 3] * 17}, "visibility flag 3"),
    ],
)
def test_test_data_that_measure_nothing_are_refused(
    dataset: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    estimator, spec = knowing(dataset)
    truth = json.loads((dataset / "truth.json").read_text())
    for annotation in truth["annotations"]:
        annotation.update(changes)
    (dataset / "truth.json").write_text(json.dumps(truth))
    with pytest.raises(DataError, match=message):
        evaluate(estimator, spec, tmp_path / "results")
    assert not (tmp_path / "results").exists()


def test_a_dataset_of_other_joints_is_refused(dataset: Path, tmp_path: Path) -> None:
    estimator, spec = knowing(dataset)
    other = spec.model_copy(update={"categories": (Category(keypoints=("bow", "stern")),)})
    with pytest.raises(SpecError, match="bow, stern"):
        evaluate(estimator, other, tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-d", "missing.json", "-m", "x"], 1, "missing.json"),
        (["-m", "x"], 2, "dataset_spec"),
        (["-d", "{dataset}", "-m", "nothing.tlt"], 1, "nothing.tlt"),
        (["-d", "{dataset}", "-m", "{dataset}"], 1, "text file"),
        (["-d", "{dataset}", "-m", "x", "--inference_spek", "y"], 2, "--inference_spec"),
    ],
)
def test_mistakes_are_one_message(
    dataset: Path, tmp_path: Path, words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [word.format(dataset=dataset / "dataset.json") for word in words]
    assert main(["evaluate", *filled, "-r", str(tmp_path / "results")]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out
