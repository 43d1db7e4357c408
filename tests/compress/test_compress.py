"""`limbnet compress` as a user runs it, on a network of seconds."""

from __future__ import annotations

import csv
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import limbnet.compress.search as search
from limbnet.cli import main
from limbnet.compress.candidates import Budget
from limbnet.compress.thresholds import planned_cost, threshold_for
from limbnet.encryption import is_sealed
from limbnet.errors import UsageError
from limbnet.models.checkpoint import load_model
from limbnet.models.counting import count_cost
from limbnet.pruning import PruneSettings, prune
from limbnet.runtime.load import load
from limbnet.specs.load import load_dataset_spec, load_train_spec
from limbnet.specs.optimiser import AdamW, CosineSchedule, PlannedEpochs

from .conftest import SIZE

PRUNING = PruneSettings(granularity=2, min_filters=2)


@pytest.fixture
def words(model_file: Path, train_file: Path, dataset_file: Path, tmp_path: Path) -> list[str]:
    """The command line, the budget aside."""
    return [
        "compress", "-m", str(model_file), "-e", str(train_file), "-d", str(dataset_file), "-r", str(tmp_path / "run"),
        "--threads", "1", "-pg", "2", "-nf", "2", "--cal_pictures", "2", "--device", "cpu",
    ]  # fmt: skip


@pytest.fixture
def retrains(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Path]]:
    """The folders that were trained in, in order."""
    folders: list[Path] = []
    whole = search.train

    def train(spec: Any, folder: Path, **options: Any) -> Any:
        folders.append(folder)
        return whole(spec, folder, **options)

    monkeypatch.setattr(search, "train", train)
    return folders


def test_retraining_follows_its_own_number_of_epochs(train_file: Path) -> None:
    schedule = CosineSchedule(planned_epochs=(PlannedEpochs(first_epoch=0, num_epoch=1),))
    spec = load_train_spec(train_file).model_copy(update={"optimizer": AdamW(learning_rate_schedule=schedule)})
    recipe = search._recipe(spec, 3)
    assert recipe.num_epoch == 3
    assert recipe.optimizer == AdamW()


def test_a_share_is_kept_and_the_threshold_does_what_was_planned(model_file: Path) -> None:
    model = load_model(model_file).model
    whole = count_cost(model, SIZE).multiply_adds
    for keep in (0.8, 0.4):
        threshold, planned = threshold_for(model, keep, PRUNING, SIZE)
        pruned = count_cost(prune(model, replace(PRUNING, threshold=threshold)), SIZE)
        assert pruned == planned
        assert pruned.multiply_adds <= keep * whole
        less = planned_cost(model, replace(PRUNING, threshold=threshold - 1e-5), SIZE)
        assert less.multiply_adds > keep * whole  # the smallest such threshold
    impossible, floor = threshold_for(model, 1e-6, PRUNING, SIZE)
    assert floor.multiply_adds == count_cost(prune(model, replace(PRUNING, threshold=impossible)), SIZE).multiply_adds
    by_l2 = replace(PRUNING, normalizer="L2")
    assert threshold_for(model, 0.4, by_l2, SIZE)[1].multiply_adds <= 0.4 * whole
    with pytest.raises(UsageError, match="stage9"):
        threshold_for(model, 0.5, replace(PRUNING, excluded=("stage9/conv1",)), SIZE)


@pytest.mark.slow
def test_the_road_to_a_latency(
    words: list[str], root: Path, tmp_path: Path, retrains: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    words += ["--engine", "onnxruntime", "--keep", "0.5", "--refinements", "0"]
    assert main([*words, "--latency", "1000", "--json"]) == 0
    outcome = json.loads(capsys.readouterr().out)
    names = [(one["keep"], one["precision"]) for one in outcome["candidates"]]
    assert names == [(keep, precision) for keep in (1.0, 0.5) for precision in ("fp32", "int8")]
    assert retrains == [run / "keep-0.5/retrained"]
    whole, half = outcome["candidates"][0], outcome["candidates"][2]
    assert half["multiply_adds"] <= 0.5 * whole["multiply_adds"]
    for one in outcome["candidates"]:
        assert one["size"] == (run / one["file"]).stat().st_size
        assert one["latency"] > 0
    with (run / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chosen"] for row in rows].count("True") == 1
    assert [float(row["latency"]) for row in rows] == [one["latency"] for one in outcome["candidates"]]
    assert len((run / "candidates.md").read_text().splitlines()) == 2 + 2 + len(rows)
    assert json.loads((run / "candidates.json").read_text())["budget"]["latency"] == 1000
    assert Image.open(run / "pareto.png").size == (1200, 750)
    assert ElementTree.parse(run / "pareto.svg").getroot().tag.endswith("svg")
    picture = next((root / "examples/images").glob("*.jpg"))
    for name in ("chosen.tlt", "chosen.onnx"):
        assert load(run / name, device="cpu")(picture) is not None

    # The same folder and another budget: nothing is trained or exported again.
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*.onnx") if path.parent != run}
    assert main([*words, "--latency", "500"]) == 0
    assert len(retrains) == 1
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert json.loads((run / "candidates.json").read_text())["budget"]["latency"] == 500


@pytest.mark.long
def test_parameters_on_torch_with_a_closer_look_and_an_interruption(
    words: list[str], model_file: Path, train_file: Path, dataset_file: Path, tmp_path: Path, retrains: list[Path],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    run = tmp_path / "run"
    words += ["--engine", "torch", "--parameters", "30000", "--keep", "0.6", "0.4", "--json"]
    whole = search.strict_scores
    scored = 0

    def interrupted(*arguments: Any) -> Any:
        nonlocal scored
        scored += 1
        if scored == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(search, "strict_scores", interrupted)
        assert main(words) == 130
    assert [path.parent.name for path in retrains] == ["keep-0.6", "keep-0.4"]
    trained = (run / "keep-0.4/retrained/model.tlt").read_bytes()
    assert main(words) == 0
    outcome = json.loads(capsys.readouterr().out)
    assert [path.parent.name for path in retrains[2:]] == ["keep-0.4", "keep-0.2", "keep-0.2828"]
    assert (run / "keep-0.4/retrained/model.tlt").read_bytes() == trained
    parameters = {one["keep"]: one["parameters"] for one in outcome["candidates"]}
    assert parameters[0.4] > 30000 >= parameters[0.2]
    assert outcome["chosen"]["parameters"] <= 30000
    weights = load_model(run / "chosen.tlt").model
    assert count_cost(weights, SIZE).parameters == outcome["chosen"]["parameters"]
    assert (run / "chosen.onnx").exists()

    assert main(words) == 0  # a search that is done is done
    assert len(retrains) == 5
    capsys.readouterr()

    again = tmp_path / "new"  # never interrupted; as long a name, since the files keep the paths of their spec
    settings = search.CompressSettings(
        Budget(parameters=30000), "torch", keep=(0.6, 0.4), pruning=PRUNING, threads=1, device="cpu"
    )
    specs = load_train_spec(train_file), load_dataset_spec(dataset_file)
    second = search.Search(model_file, *specs, settings, again, key=None).run()
    for one, other in zip(outcome["candidates"], second, strict=True):
        assert (one["keep"], one["threshold"], one["ap"]) == (other.keep, other.threshold, other.ap)
        weights, twin = (load_model(folder / one["weights"]).model.state_dict() for folder in (run, again))
        assert all(torch.equal(tensor, twin[name]) for name, tensor in weights.items())


def test_a_budget_that_nothing_meets(
    words: list[str], tmp_path: Path, retrains: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words[words.index("-nf") + 1] = "16"  # so much must stay that both networks are the same
    words += ["-k", "secret"]
    assert main([*words, "--engine", "torch", "--parameters", "1", "--keep", "0.01", "0.001"]) == 1
    assert len(retrains) == 2
    said = capsys.readouterr().err
    assert "No candidate is within 1 parameters" in said
    assert "None is within the budget; the nearest is '0.0" in said
    rows = json.loads((tmp_path / "run/candidates.json").read_text())["candidates"]
    assert [row["chosen"] for row in rows] == [False] * 3
    assert (tmp_path / "run/pareto.png").exists()
    assert not (tmp_path / "run/chosen.tlt").exists()
    files = [path for path in tmp_path.joinpath("run").rglob("*.tlt") if "epoch" not in path.name]
    assert len(files) == 5
    assert all(is_sealed(path.read_bytes()) for path in files)  # the one that was given plain too
    assert json.loads((tmp_path / "run/status.json").read_text().splitlines()[-1])["status"] == "FAILURE"


def test_mistakes(words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*more: str) -> str:
        assert main([*words, *more]) != 0
        return capsys.readouterr().err

    assert "either --latency MS or --parameters N" in said()
    assert "Give falling numbers between 0 and 1" in said("--latency", "1", "--keep", "0.2", "0.5")
    assert "Calibration needs 99 pictures" in said("--latency", "1", "--cal_pictures", "99")
    assert "60x96" in said("--latency", "1", "--input_dims", "60,96")
    state = tmp_path / "run/state.json"
    state.parent.mkdir(exist_ok=True)
    state.write_text('{"run": {"engine": "openvino"}, "steps": {}}')
    message = said("--latency", "1")
    for line in ("engine: 'openvino' then, 'onnxruntime' now", "train_spec.dataloader.batch_size: None then, 2 now"):
        assert line in message
    state.write_text("{")
    assert "Delete it to begin anew" in said("--latency", "1")
