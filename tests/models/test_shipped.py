"""The models in the package: found by name, run without a word, started from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import limbnet
from limbnet.cli import main
from limbnet.errors import ModelFileError
from limbnet.models.checkpoint import load_model
from limbnet.models.filekinds import FileKind, recognise
from limbnet.models.shipped import DEFAULT_MODEL, runnable_file, shipped_models, trainable_file


def test_every_name_stands_for_two_files_of_one_network() -> None:
    assert str(DEFAULT_MODEL) in shipped_models()
    assert sum(path.stat().st_size for path in trainable_file(DEFAULT_MODEL).parent.iterdir()) < 25e6
    for name in shipped_models():
        assert recognise(name) is recognise(trainable_file(name)) is FileKind.LIMBNET
        assert recognise(runnable_file(name)) is FileKind.ONNX
        exact, fast = load_model(name).info, limbnet.load(name, device="cpu").engine.info
        assert (exact.skeleton, exact.input_size) == (fast.skeleton, fast.input_size)
        assert exact.extra["trained_on"]


def test_a_file_of_that_name_and_other_paths_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert trainable_file("models/limbnet-s") == Path("models/limbnet-s")
    assert runnable_file("./other") == Path("other")
    (tmp_path / "limbnet-s").write_bytes(b"")
    assert trainable_file("limbnet-s") == runnable_file("limbnet-s") == Path("limbnet-s")
    with pytest.raises(ModelFileError, match="There is no file 'limbnet-x'") as caught:
        limbnet.load("limbnet-x")
    assert "limbnet-s" in caught.value.todo


def test_a_picture_and_nothing_else(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a first-time user types gives people, and a picture of them."""
    monkeypatch.chdir(tmp_path)
    picture = sorted((root / "examples/images").glob("*.jpg"))[0]
    assert main(["inference", str(picture)]) == 0
    captured = capsys.readouterr()
    assert "drawn in results/images_annotated" in captured.out
    assert "onnxruntime int8" in captured.err
    assert json.loads((tmp_path / "results/detections.json").read_text())["images"][0]["keypoints"]
    assert (tmp_path / "results/images_annotated/0.png").is_file()
    assert main(["inference", str(picture), "--no_visualizations", "-r", "plain"]) == 0
    assert not (tmp_path / "plain/images_annotated").exists()


@pytest.mark.parametrize(
    ("words", "found"), [([], "Neither a PATH nor --input"), (["a.jpg", "--input", "b.jpg"], "Both a PATH and --input")]
)
def test_the_pictures_are_named_once(words: list[str], found: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inference", *words]) == 2
    assert found in capsys.readouterr().err


def test_torch_runs_the_weights_and_the_name_can_be_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert limbnet.load(engine="torch", device="cpu").engine.name.startswith("torch")
    assert main(["prune", "-m", "limbnet-s", "-o", "pruned.tlt", "-pth", "0.3", "-r", "r"]) == 0
    assert recognise("pruned.tlt") is FileKind.LIMBNET
