"""`limbnet profile`, whole: a small network on torch and ONNX Runtime at two sizes, and its mistakes."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import onnx
import pytest
from PIL import Image

from limbnet.benchmark.rows import STAGES
from limbnet.cli import main
from limbnet.export.graph import build_graph
from limbnet.models.checkpoint import load_model
from limbnet.runtime.signature import Signature
from limbnet.skeleton import COCO_JOINTS

QUICK = ["--rounds", "3", "--seconds", "0", "--people", "1,3"]


@pytest.fixture(scope="module")
def exported(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The network as an ONNX file of any size, and of 64x96 only."""
    loaded = load_model(tiny_model)
    model = build_graph(loaded.model, loaded.info, Signature())
    folder = tmp_path_factory.mktemp("exported")
    onnx.save(model, folder / "open.onnx")
    for dim, side in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 64, 96), strict=False):
        dim.dim_value = side
    onnx.save(model, folder / "fixed.onnx")
    return folder / "open.onnx", folder / "fixed.onnx"


@pytest.fixture
def dataset(root: Path, tmp_path: Path) -> Path:
    """Two of the examples with a dataset spec; returns the spec."""
    truth = json.loads((root / "examples" / "annotations" / "person_keypoints.json").read_text())
    truth["images"] = truth["images"][:2]
    ids = [image["id"] for image in truth["images"]]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] in ids]
    (tmp_path / "images").mkdir()
    for image in truth["images"]:
        shutil.copy(root / "examples" / "images" / image["file_name"], tmp_path / "images")
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    paths = {"images_root_dir_path": "images", "annotation_root_dir_path": "truth.json"}
    category = {"name": "person", "keypoints": COCO_JOINTS}
    spec = {"root_directory_path": str(tmp_path), "train_data": paths, "test_data": paths, "categories": [category]}
    (tmp_path / "dataset.json").write_text(json.dumps(spec))
    return tmp_path / "dataset.json"


def test_two_sizes_on_two_runtimes(
    tiny_model: Path, exported: tuple[Path, Path], dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    words = ["profile", str(tiny_model), *map(str, exported), "--sizes", "64x96,96x128", "-d", str(dataset)]
    words += ["--input", str(dataset.parent / "images"), "-r", str(results), "--threads", "1", *QUICK]
    assert main(words) == 0
    shown = capsys.readouterr().out
    for word in ("Overview", "Stages", "AP-medium", "CPUExecutionProvider on cpu with 1 thread", "2 pictures, padded",
                 "fixed.onnx",
                 "takes inputs of 64x96 (height x width) only", "Machine: ", "onnxruntime 1."):  # fmt: skip
        assert word in shown, word
    assert sorted(path.name for path in results.iterdir()) == [
        "people.png", "people.svg", "profile.csv", "profile.json", "profile.md", "resolution.png", "resolution.svg",
        "status.json",
    ]  # fmt: skip

    content = json.loads((results / "profile.json").read_text())
    ran = [row for row in content["rows"] if "reason" not in row]
    assert [(row["model"], row["engine"], row["size"]) for row in ran] == [
        ("bpnet_model.tlt", "torch", [64, 96]), ("bpnet_model.tlt", "torch", [96, 128]),
        ("open.onnx", "onnxruntime", [64, 96]), ("open.onnx", "onnxruntime", [96, 128]),
        ("fixed.onnx", "onnxruntime", [64, 96]),
    ]  # fmt: skip
    for row in ran:
        stages = row["stages_ms"]
        assert tuple(stages) == STAGES
        assert all(0 < one["p50"] <= one["p95"] <= one["p99"] and one["runs"] == 3 for one in stages.values())
        assert stages["end to end"]["p99"] >= stages["network"]["p50"]
        assert all(one["pictures_per_second"] > 0 for one in stages.values())
        assert (row["threads"], row["device"], row["precision"]) == (1, "cpu", "fp32")
        assert row["ap"]["all"] == 0  # the network is not trained
    assert [(one["size"], one["people"], one["found"]) for one in content["decoding"]] == [
        ([64, 96], 1, 1), ([64, 96], 3, 3), ([96, 128], 1, 1), ([96, 128], 3, 3),
    ]  # fmt: skip
    assert content["machine"]["versions"]["torch"]

    with (results / "profile.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 5 * len(STAGES) + 1
    first = ran[0]["stages_ms"]["load"]
    assert (lines[0]["stage"], float(lines[0]["p50_ms"]), float(lines[0]["p95_ms"])) == (
        "load", first["p50"], first["p95"],
    )  # fmt: skip
    assert "only" in lines[-1]["reason"]
    page = (results / "profile.md").read_text()
    assert page.count("\n## ") == 4
    assert "| fixed.onnx | onnxruntime | 96x128 | 1 |" in page
    for name in ("people", "resolution"):
        with Image.open(results / f"{name}.png") as image:
            assert min(image.size) > 500


def test_json_stages_and_a_picture_of_its_own(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["profile", str(tiny_model), "--stages", "1,2,3", "--batch", "2", "--json", "-r", str(tmp_path), *QUICK]
    assert main([*words, "--no_charts"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    content = json.loads(line)
    assert content["pictures"].startswith("a synthetic JPEG")
    assert [(row["output_stage"], row["batch"], row["size"]) for row in content["rows"]] == [
        (stage, 2, [64, 96]) for stage in (1, 2, 3)
    ]
    assert "this network has 2 stages" in content["rows"][2]["reason"]
    assert "stages_ms" in content["rows"][1]
    assert not list(tmp_path.glob("*.png"))


def test_a_checkpoint_in_other_precisions(
    tiny_model: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["profile", str(tiny_model), "--precision", "fp16", "--input", str(root / "examples" / "images")]
    assert main([*words, "--json", "--no_charts", "-r", str(tmp_path), *QUICK]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["engine"], row["precision"]) for row in content["rows"]] == [
        ("bpnet_model.tlt", "torch", "fp32"), ("bpnet_model.fp16.onnx", "onnxruntime", "fp16"),
    ]  # fmt: skip
    assert [path.name for path in tmp_path.glob("*.onnx")] == []
    engines = ["--engine", "torch,openvino"]
    assert main([*words, *engines, "--json", "--no_charts", "-r", str(tmp_path), *QUICK]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [(row["model"], row["engine"]) for row in content["rows"]] == [
        ("bpnet_model.tlt", "torch"), ("bpnet_model.fp16.onnx", "openvino"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nothing.onnx", "{model}"], 1, "nothing.onnx"),
        (["{model}", "--precision", "int8"], 2, "INT8 needs pictures"),
        (["{model}", "--precision", "int4"], 2, "expected fp32, fp16 or int8"),
        (["{model}", "--precision", "fp16", "--engine", "torch"], 2, "Name an engine for the exports too"),
        (["{onnx}", "--precision", "fp16"], 2, "None of the models can be exported"),
        (["{model}", "--engine", "torhc"], 2, "Did you mean 'torch'"),
        (["{model}", "--engine", "onnxruntime"], 1, "Nothing could be measured"),
        (["{model}", "--sizes", "60x96,64x100"], 1, "no multiple of the stride"),
        (["{model}", "--sizes", "64"], 2, "expected height,width"),
        (["{model}", "--people", "1,x"], 2, "expected a whole number"),
        (["{model}", "--input", "nowhere"], 1, "nowhere"),
    ],
)
def test_mistakes_are_one_message(
    tiny_model: Path,
    exported: tuple[Path, Path],
    tmp_path: Path,
    words: list[str],
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filled = [word.format(model=tiny_model, onnx=exported[0]) for word in words]
    assert main(["profile", *filled, "-r", str(tmp_path)]) == code
    captured = capsys.readouterr()
    assert message in captured.err
    assert "Traceback" not in captured.err
    assert not captured.out


def test_charts_that_cannot_be_drawn_are_said_first(
    tiny_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("limbnet.benchmark.charts.find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["profile", str(tiny_model), "--charts", "-r", str(tmp_path), *QUICK]) == 1
    assert "pip install matplotlib" in capsys.readouterr().err
    assert main(["profile", str(tiny_model), "-r", str(tmp_path), *QUICK]) == 0
    assert not list(tmp_path.glob("*.png"))
