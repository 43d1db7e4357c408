"""Imports go one way, and the product speaks of itself alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

#: From the ground up; a part imports from its own row and from the rows before it.
ROWS = [
    {"errors", "files", "skeleton", "geometry", "console", "status", "devices", "encryption"},
    {"poses", "draw", "specs", "data", "models", "decode"},
    {"runtime", "evaluation"},
    {"training", "pruning", "export"},
    {"compress", "benchmark", "video", "serve"},
    {"commands"},
    {"cli"},
    {"__main__"},
]
ROW = {part: number for number, row in enumerate(ROWS) for part in row}


def imported(tree: ast.AST) -> Iterator[str]:
    """Yield every module of limbnet that a file imports, wherever the import stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "limbnet")
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "limbnet":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level:
            yield "relative"


def python_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*.py") if "__pycache__" not in path.parts)


def test_every_part_has_a_row(root: Path) -> None:
    parts = {path.stem for path in (root / "src/limbnet").iterdir() if path.suffix == ".py" or path.is_dir()}
    parts -= {"__init__", "__pycache__", "weights", "__main__"}
    assert parts <= set(ROW), f"give {parts - set(ROW)} a row"


def test_no_import_goes_back(root: Path) -> None:
    package = root / "src/limbnet"
    wrong = []
    for path in python_files(package):
        part = path.relative_to(package).parts[0].removesuffix(".py")
        for name in imported(ast.parse(path.read_text())):
            target = [*name.split("."), ""][1]
            if part == "__init__" or target in ("", "__version__"):  # the public door opens on every room
                continue
            if name == "relative" or ROW.get(target, 99) > ROW[part]:
                wrong.append(f"{path.relative_to(root)} imports {name}")
    assert not wrong


def test_the_zoo_knows_nothing_of_training(root: Path) -> None:
    for path in python_files(root / "src/limbnet/models/zoo"):
        assert not [name for name in imported(ast.parse(path.read_text())) if ".training" in name], path


def test_library_modules_parse_no_arguments(root: Path) -> None:
    for path in python_files(root / "src/limbnet"):
        if "commands" in path.parts:
            continue
        names = {
            name
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Import | ast.ImportFrom)
            for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
        }
        assert "argparse" not in names, path


@pytest.mark.parametrize("folder", ["src", "tests", "benchmarks", "scripts", "specs", "docs"])
def test_no_file_is_too_long_to_read_in_one_sitting(root: Path, folder: str) -> None:
    long = {
        str(path.relative_to(root)): count
        for path in python_files(root / folder)
        if (count := len(path.read_text().splitlines())) > 450
    }
    assert not long


def test_files_name_no_machine(root: Path) -> None:
    """A path of the machine that a file was written on works nowhere else."""
    forbidden = ("/work" + "/", "/tmp" + "/", "/root" + "/", "/home" + "/")
    found = []
    for folder in ("src", "benchmarks", "scripts", "specs", "docs", ".ci"):
        for path in (root / folder).rglob("*"):
            if path.suffix in (".py", ".md", ".sh", ".yaml", ".json", ".toml", "") and path.is_file():
                text = path.read_text(errors="ignore")
                found += [f"{path.relative_to(root)}: {word}" for word in forbidden if word in text]
    assert not found
