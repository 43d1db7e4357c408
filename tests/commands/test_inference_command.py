"""`limbnet inference`, whole: kinds of input, files written, bad pictures, memory."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from limbnet.cli import main
from limbnet.commands.inference import inference
from limbnet.commands.pictures import Pictures, find_pictures
from limbnet.draw import DrawStyle
from limbnet.errors import DataError
from limbnet.runtime.load import load_engine
from limbnet.runtime.predictor import PoseEstimator
from oracle import Oracle, coco_spec


@pytest.fixture
def folder(root: Path, tmp_path: Path) -> Path:
    """Three pictures, one of them damaged, beside a text file and a folder."""
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    for name, source in zip(
        ("b.jpg", "a.JPEG", "c.png"), sorted((root / "examples" / "images").iterdir()), strict=False
    ):
        shutil.copy(source, folder / name)
    (folder / "b.jpg").write_bytes((folder / "b.jpg").read_bytes()[:5000])
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.jpg").write_text("not looked at")
    return folder


def run(*words: object) -> int:
    return main(["inference", *map(str, words), "--device", "cpu", "-l", "warning"])


def entries(results: Path) -> list[dict]:
    return json.loads((results / "detections.json").read_text())["images"]


def test_a_folder_with_bad_pictures(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    words = ["-m", tiny_model, "--input_type", "dir", "--input", folder, "--results_dir", results]
    assert run(*words, "--dump_visualizations", "--json") == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "pictures": 2, "people": 0, "unreadable": 2, "results_dir": str(results),
    }  # fmt: skip
    assert "2 of 4 pictures could not be read" in captured.err
    found = entries(results)
    assert [Path(entry["full_image_path"]).name for entry in found] == ["a.JPEG", "b.jpg", "c.png", "notes.txt"]
    assert ["keypoints" in entry for entry in found] == [True, False, True, False]
    assert [entry.get("viz_id") for entry in found] == [0, None, 2, None]
    annotated = results / "images_annotated"
    assert sorted(path.name for path in annotated.iterdir()) == ["0.png", "2.png"]
    for index, name in ((0, "a.JPEG"), (2, "c.png")):
        with Image.open(annotated / f"{index}.png") as drawn, Image.open(folder / name) as picture:
            assert drawn.size == picture.size
            np.testing.assert_array_equal(np.asarray(drawn), np.asarray(picture.convert("RGB")))  # nobody was found
    assert run(*words) == 0
    assert "viz_id" not in entries(results)[0]


def test_a_json_list_and_an_object_whose_other_keys_are_kept(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    plain, rich = tmp_path / "list.json", tmp_path / "object.json"
    plain.write_text(json.dumps(["a.JPEG", "c.png"]))
    rich.write_text(
        json.dumps(
            {
                "made_by": {"whom": "me"},
                "images": [{"full_image_path": "c.png", "keypoints": [1], "tag": 7}, {"full_image_path": "../a/b.png"}],
            }
        )
    )
    assert run("-m", tiny_model, "--input", plain, "--image_root_path", folder, "-r", tmp_path / "1") == 0
    assert [entry["full_image_path"] for entry in entries(tmp_path / "1")] == [
        str(folder / "a.JPEG"), str(folder / "c.png"),
    ]  # fmt: skip
    words = ["--input", rich, "--input_type", "json", "--image_root_path", folder, "-r", tmp_path / "2"]
    assert run("-m", tiny_model, *words, "--dump_visualizations") == 0
    written = json.loads((tmp_path / "2" / "detections.json").read_text())
    assert written["made_by"] == {"whom": "me"}
    assert written["images"][0] == {
        "full_image_path": str(folder / "c.png"), "tag": 7, "viz_id": 0, "keypoints": [], "scores": [],
    }  # fmt: skip
    assert "keypoints" not in written["images"][1]
    assert [path.name for path in (tmp_path / "2" / "images_annotated").iterdir()] == ["0.png"]


def test_one_picture_and_nothing_else(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    assert run("-m", tiny_model, "--input", folder / "c.png", "-r", tmp_path / "1") == 0
    assert len(entries(tmp_path / "1")) == 1
    assert run("-m", tiny_model, "--input", "c.png", "--image_root_path", folder, "-r", tmp_path / "2") == 0


def test_what_is_said_of_one_picture(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["inference", "-m", str(tiny_model), "--input", str(folder / "c.png"), "--device", "cpu"]
    assert main([*words, "-r", str(tmp_path / "1")]) == 0
    captured = capsys.readouterr()
    assert captured.out == f"0 people in 1 picture: {tmp_path / '1' / 'detections.json'}\n"
    assert captured.err.count("Device: cpu") == 1
    assert "Looking at 1 picture with torch" in captured.err


def test_scales_can_be_asked_for(
    folder: Path, tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("-m", tiny_model, "--input", folder / "c.png", "-r", tmp_path / "1")
    assert main(["inference", *map(str, words), "--device", "cpu", "--scales", "0.5,1", "--flip"]) == 0
    assert "with torch fp32 on cpu at scales 0.5, 1, mirrored too" in capsys.readouterr().err
    for wrong in ("0,1", "17", "big", "1,,2"):
        assert run(*words, "--scales", wrong) == 2
        assert f"found '{wrong}', expected factors above 0 and at most 16" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input", "{folder}/b.jpg"], "b.jpg' is cut short or damaged"),
        (["--input", "{folder}/lost.json"], "None of the 2 pictures could be read, as said above"),
        (["--input", "{folder}/more"], "contains no files"),
        (["--input", "{folder}/nothing"], "There is no"),
        (["--input", "{folder}", "--input_type", "image"], "is a folder, but --input_type says image"),
        (["--input", "{folder}/c.png", "--input_type", "dir"], "is a file, but --input_type says dir"),
        (["--input", "{folder}/notes.txt", "--input_type", "json"], "is no JSON file"),
        (["--input", "{folder}/bad.json"], "2 entries of"),
        (["--input", "{folder}/empty.json"], "lists no pictures"),
    ],
)
def test_mistakes_are_one_message_and_leave_earlier_results(
    folder: Path, tiny_model: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "bad.json").write_text(json.dumps([7, "c.png", {"path": "c.png"}]))
    (folder / "empty.json").write_text("{}")
    (folder / "lost.json").write_text(json.dumps(["lost.jpg", "b.jpg"]))
    results = folder / "results"
    results.mkdir()
    (results / "detections.json").write_text("earlier")
    filled = [word.format(folder=folder) for word in words]
    assert run("-m", tiny_model, *filled, "-r", results) == 1
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.count(message) == 1
    assert "Traceback" not in captured.err
    assert (results / "detections.json").read_text() == "earlier"


def test_people_are_written_and_drawn(root: Path, tmp_path: Path) -> None:
    spec = coco_spec(root / "examples", "annotations/person_keypoints.json", "images")
    oracle = Oracle()
    oracle.learn_dataset(spec, (256, 256), "adjust_network_input")
    pictures = find_pictures(root / "examples" / "images")
    pictures = Pictures(pictures.names[:3], pictures.root)
    report = inference(PoseEstimator(oracle, input_size=(256, 256)), pictures, tmp_path, DrawStyle(show_scores=True))
    assert report.pictures == 3
    assert report.people == sum(len(entry["scores"]) for entry in entries(tmp_path)) >= 3
    for entry in entries(tmp_path):
        with Image.open(entry["full_image_path"]) as picture:
            before = np.asarray(picture.convert("RGB")).astype(int)
        with Image.open(tmp_path / "images_annotated" / f"{entry['viz_id']}.png") as drawn:
            changed = np.abs(np.asarray(drawn).astype(int) - before).max(axis=-1) > 30
        assert bool(entry["scores"]) == changed.any()
        for x, y in (joint for person in entry["keypoints"] for joint in person if joint != [0, 0]):
            assert changed[max(0, int(y) - 6) : int(y) + 7, max(0, int(x) - 6) : int(x) + 7].any()


def test_nothing_worked_is_an_error_in_python_too(tiny_model: Path, tmp_path: Path) -> None:
    estimator = PoseEstimator(load_engine(tiny_model, device="cpu"))
    with pytest.raises(DataError, match="None of the 2 pictures"):
        inference(estimator, Pictures(["a", "b"]), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_memory_stays_the_same(folder: Path, tiny_model: Path, tmp_path: Path) -> None:
    """After the first 200 of 2,000 pictures the process does not grow by more than 5 %."""
    estimator = PoseEstimator(load_engine(tiny_model, device="cpu"))
    memory: list[int] = []
    process = psutil.Process()
    with Image.open(folder / "c.png") as picture:
        picture.resize((160, 120)).save(folder / "small.png")
    many = Pictures(["small.png"] * 2000, folder)

    class Watched(Pictures):
        def entry(self, index: int) -> dict:
            if index % 100 == 0:
                memory.append(process.memory_info().rss)
            return {}

    report = inference(estimator, Watched(many.names, many.root), tmp_path)
    assert report.pictures == 2000
    assert max(memory[2:]) < 1.05 * memory[2]
