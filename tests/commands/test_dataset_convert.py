"""`limbnet dataset_convert` as a user runs it, on the examples."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from limbnet.cli import main
from limbnet.data.records import read_records


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> Path:
    """A dataset spec of the manuals' layout, with the examples' pictures and annotations in a folder of their own."""
    shutil.copytree(root / "examples" / "annotations", tmp_path / "data" / "annotations")
    (tmp_path / "data" / "images").symlink_to(root / "examples" / "images")
    spec: dict[str, Any] = json.loads((root / "specs" / "dataset_examples.json").read_text())
    part = spec["train_data"] | {"mask_root_dir_path": "masks", "images_root_dir_path": "images"}
    spec |= {"root_directory_path": str(tmp_path / "data"), "train_data": part, "test_data": part}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    return tmp_path / "spec.json"


def annotation_file(dataset: Path) -> Path:
    return next((dataset.parent / "data" / "annotations").glob("*.json"))


def states(folder: Path) -> list[str]:
    return [json.loads(line)["status"] for line in (folder / "status.json").read_text().splitlines()]


def test_the_manuals_command(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["-d", str(dataset), "-o", str(tmp_path / "out" / "train"), "-m", "train", "--generate_masks"]
    assert main(["dataset_convert", *words]) == 0
    records = list(read_records(tmp_path / "out" / "train-fold-000-of-001"))
    assert len(records) > 10
    for record in records:
        assert (tmp_path / "data" / record.image_path).is_file()
        assert (tmp_path / "data" / record.mask_path).is_file()
    assert states(tmp_path / "results")[0] == "STARTED"
    assert states(tmp_path / "results")[-1] == "SUCCESS"


def test_every_flag(dataset: Path, tmp_path: Path) -> None:
    words = ["--dataset_spec", str(dataset), "--output_filename", str(tmp_path / "val"), "--mode", "test"]
    words += ["--num_partitions", "2", "--num_shards", "3", "--generate_masks", "--check_files"]
    words += ["--results_dir", str(tmp_path / "r"), "--log_level", "ERROR"]
    assert main(["dataset_convert", *words]) == 0
    names = sorted(path.name for path in tmp_path.glob("val-*"))
    assert names[0] == "val-fold-000-of-002-shard-00000-of-00003"
    assert len(names) == 6
    assert states(tmp_path / "r")[-1] == "SUCCESS"


def test_same_bytes_twice(dataset: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert main(["dataset_convert", "-d", str(dataset), "-o", str(tmp_path / name), "-r", str(tmp_path)]) == 0
    assert (tmp_path / "a-fold-000-of-001").read_bytes() == (tmp_path / "b-fold-000-of-001").read_bytes()


def test_wrong_annotations_leave_earlier_records(
    dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["-d", str(dataset), "-o", str(tmp_path / "train"), "-r", str(tmp_path / "r")]
    assert main(["dataset_convert", *words]) == 0
    before = (tmp_path / "train-fold-000-of-001").read_bytes()
    file = annotation_file(dataset)
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"] = [1, 2, float("nan"), 4]
    content["annotations"][1]["keypoints"] = [1, 2, 2]
    content["images"][0]["file_name"] = "../../etc/passwd"
    file.write_text(json.dumps(content))
    capsys.readouterr()
    assert main(["dataset_convert", *words]) == 1
    text = capsys.readouterr().err
    assert "file_name '../../etc/passwd' leads out of the picture folder" in text
    assert "Traceback" not in text
    assert (tmp_path / "train-fold-000-of-001").read_bytes() == before
    assert states(tmp_path / "r")[-1] == "FAILURE"


def test_unknown_flag_and_missing_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dataset_convert", "-d", "x", "-o", "y", "--generate_mask"]) == 2
    assert "--generate_masks" in capsys.readouterr().err
    assert (
        main(["dataset_convert", "-d", str(tmp_path / "no.json"), "-o", str(tmp_path / "y"), "-r", str(tmp_path)]) == 1
    )
    assert "no.json" in capsys.readouterr().err
