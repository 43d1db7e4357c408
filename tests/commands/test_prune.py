"""`limbnet prune` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from limbnet.cli import main
from limbnet.models.bodyposenet import build_model
from limbnet.models.checkpoint import load_model, save_model
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18
from limbnet.specs.train import BackboneAttributes, ModelSpec


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    spec = ModelSpec(backbone_attributes=BackboneAttributes(width=0.25), width=0.25, stages=2)
    model = build_model(spec, BODY_18)
    with torch.no_grad():
        for conv in model.conv_layers().values():
            conv.weight.mul_(torch.rand(conv.out_channels, 1, 1, 1))
    path = tmp_path_factory.mktemp("prune") / "bpnet_model.tlt"
    save_model(path, model, ModelInfo(BODY_18, input_size=(64, 96)))
    return path


def test_the_manuals_command(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output = tmp_path / "bpnet_model.pruned-0.05.tlt"
    words = ["-m", str(model_file), "-o", str(output), "-eq", "union", "-pth", "0.5", "-k", "secret", "--json"]
    assert main(["prune", *words]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"][1] < report["parameters"][0]
    assert report["multiply_adds"][1] < report["multiply_adds"][0]
    assert report["input_size"] == [64, 96]
    pruned = load_model(output, key="secret")
    assert pruned.info.extra["pruned"][0]["threshold"] == 0.5
    assert {name: pair[1] for name, pair in report["filters"].items()}.items() <= {
        name: conv.out_channels for name, conv in pruned.model.conv_layers().items()
    }.items()
    assert json.loads((tmp_path / "results" / "status.json").read_text().splitlines()[-1])["status"] == "SUCCESS"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["-pth", "1.5"], "removes every filter"),
        (["-el", "stage1/conv12"], "Did you mean 'stage1/conv"),
        (["-pth", "-1"], "expected a number from 0"),
        (["-eq", "onion"], "invalid choice"),
        (["-pruning_granulatity", "8"], "Did you mean '--pruning_granularity'?"),
    ],
)
def test_mistakes_leave_no_file(
    words: list[str], said: str, model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.tlt"
    assert main(["prune", "-m", str(model_file), "-o", str(output), "-r", str(tmp_path / "r"), *words]) != 0
    assert said in capsys.readouterr().err
    assert not output.exists()


def test_an_output_is_only_replaced_when_asked(
    model_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out.tlt"
    output.write_text("precious")
    words = ["prune", "-m", str(model_file), "-o", str(output), "-pth", "0", "-r", str(tmp_path / "r")]
    assert main(words) == 2
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_text() == "precious"
    assert main([*words, "--overwrite"]) == 0
    assert load_model(output).info.input_size == (64, 96)
