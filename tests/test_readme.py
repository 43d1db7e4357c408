"""What README says can be done as it stands there: its commands parse, name files that exist, and follow each other."""

from __future__ import annotations

import re
import shlex
from argparse import Namespace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from limbnet import cli
from limbnet.commands.parser import command_parser
from limbnet.specs.load import load_train_spec


@pytest.fixture
def text(root: Path) -> str:
    return (root / "README.md").read_text()


@pytest.fixture
def commands(text: str) -> list[tuple[str, Namespace]]:
    lines = re.findall(r"^limbnet (.+)$", text.replace("\\\n", ""), re.MULTILINE)
    parsed = []
    for name, *words in map(shlex.split, lines):
        parsed.append((name, command_parser(name, import_module(cli.COMMANDS[name][0])).read(words)))
    return parsed


def test_commands_name_specs_and_pictures_that_exist(root: Path, commands: list[tuple[str, Namespace]]) -> None:
    assert [name for name, _ in commands] == [
        "inference", "dataset_convert", "train", "evaluate", "inference", "prune", "train", "profile", "benchmark",
    ]  # fmt: skip
    for _, arguments in commands:
        for key in ("dataset_spec", "experiment_spec", "inference_spec", "input", "study"):
            path = getattr(arguments, key, None)
            assert path is None or (root / path).exists(), path


def test_each_command_finds_what_the_one_before_it_wrote(
    root: Path, commands: list[tuple[str, Namespace]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(root)
    _, convert, train, evaluate, inference, prune, retrain, *_ = (arguments for _, arguments in commands)
    spec = load_train_spec(train.experiment_spec)
    config = spec.dataloader.dataset_config
    assert config.train_records_folder_path is not None
    (records,) = config.train_records_path
    written = f"{convert.output_filename}-fold-000-of-001"
    assert config.train_records_folder_path.resolve() / records == Path(written).resolve()
    model = train.results_dir / f"{spec.final_model_name}.tlt"
    assert evaluate.model == inference.model == prune.model == model
    assert evaluate.results_dir != inference.results_dir, "both write detections.json"
    pruned = load_train_spec(retrain.experiment_spec).pretrained_weights
    assert pruned is not None
    assert pruned.resolve() == prune.output_file.resolve()


def test_the_tree_names_every_room(root: Path, text: str) -> None:
    for path in (root / "src/limbnet").iterdir():
        if path.name.startswith("_") or path.name == "py.typed" or (path.is_dir() and not list(path.glob("*"))):
            continue
        name = f"{path.name}/" if path.is_dir() else path.name
        assert re.search(rf"(^|\s){re.escape(name)}", text), f"README's tree lacks {name}"


def test_python_runs_as_written(root: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With an example in the place of the reader's photograph."""
    (code,) = re.findall(r"```python\n(.+?)```", text, re.DOTALL)
    assert '"photo.jpg"' in code
    monkeypatch.chdir(root)
    names: dict[str, Any] = {}
    exec(code.replace("photo.jpg", "examples/images/000000000165.jpg"), names)
    assert len(names["poses"]) > 0
