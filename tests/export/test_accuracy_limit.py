"""`--max_ap_drop` and `--sensitivity` with a dataset, as a user types them.

The dataset's people are those that the float network itself finds: its AP is 1, and whatever the file loses is the
export's own doing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from lively import SIZE, STICK, lively_model

from limbnet.cli import main
from limbnet.data.pictures import read_picture
from limbnet.models.checkpoint import save_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.torch_engine import TorchEngine


@pytest.fixture(scope="module")
def line(image_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The command without its output; six pictures to measure and to calibrate on."""
    folder = tmp_path_factory.mktemp("accuracy")
    model, info = lively_model(3), ModelInfo(STICK, input_size=SIZE)
    save_model(folder / "model.tlt", model, info)
    estimator = PoseEstimator(TorchEngine(model, info, "cpu"), input_size=SIZE, fit_mode="pad_image_input")
    content: dict[str, list[dict[str, object]]] = {"images": [], "annotations": [], "categories": []}
    (folder / "images").mkdir()
    for number, path in enumerate(sorted(image_dir.glob("*.jpg"))[:6], 1):
        (folder / "images" / path.name).write_bytes(path.read_bytes())
        height, width = read_picture(path).shape[:2]
        content["images"].append({"id": number, "file_name": path.name, "height": height, "width": width})
        for joints in estimator(path).keypoints:
            seen = np.isfinite(joints[:, 0])
            labelled = np.column_stack([np.nan_to_num(joints), 2 * seen])
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1, "image_id": number, "category_id": 1, "iscrowd": 0,
                    "keypoints": labelled.ravel().tolist(), "num_keypoints": int(seen.sum()),
                    "bbox": [0, 0, width, height], "area": float(width * height),
                }
            )  # fmt: skip
    content["categories"].append({"id": 1, "name": "stick", "keypoints": list(STICK.joints)})
    (folder / "annotations.json").write_text(json.dumps(content))
    paths = {"images_root_dir_path": "images", "annotation_root_dir_path": "annotations.json"}
    spec = {
        "dataset": "sticks", "root_directory_path": str(folder), "train_data": paths, "test_data": paths,
        "categories": [{"id": 1, "name": "stick", "num_joints": len(STICK.joints), "keypoints": list(STICK.joints)}],
    }  # fmt: skip
    (folder / "dataset.json").write_text(json.dumps(spec))
    return [
        "export", "-m", str(folder / "model.tlt"), "--data_type", "int8", "--cal_image_dir", str(folder / "images"),
        "--batches", "6", "--dataset_spec", str(folder / "dataset.json"), "--max_ap_drop", "0.5", "--threads", "1",
    ]  # fmt: skip


@pytest.mark.slow
def test_a_file_within_the_limit_is_written_with_its_ap(line: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*line, "-o", "good.onnx", "--sensitivity"]) == 0
    printed = capsys.readouterr().out.splitlines()
    ranked = [text for text in printed if ": AP lost " in text]
    lost = [float(text.partition("AP lost ")[2].partition(",")[0]) for text in ranked]
    assert len(ranked) == len(lively_model(3).conv_layers())
    assert lost == sorted(lost, reverse=True)
    report = json.loads(Path("good.onnx.report.json").read_text())
    assert report["accuracy"]["torch"]["AP_0.50:0.95_all"] == pytest.approx(1.0)
    drop = -report["accuracy"]["difference"]
    assert 0 < drop <= 0.5  # noise-like maps forgive little, but these are the same people
    assert [cost["layer"] for cost in report["sensitivity"]] == [text.partition(":")[0] for text in ranked]


def test_a_file_that_loses_more_is_not_written(line: list[str], tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([*line, "-o", "bad.onnx", "--calibration", "percentile", "--percentile", "50"]) == 1
    said = capsys.readouterr().err
    assert "more than --max_ap_drop 0.5: it was not written" in said
    assert "new --cal_cache_file" in said
    assert not [path for path in tmp_path.iterdir() if path.name.startswith("bad")]
    assert json.loads(Path("results/status.json").read_text().splitlines()[-1])["status"] == "FAILURE"
