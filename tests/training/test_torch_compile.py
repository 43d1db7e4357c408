"""Training with torch.compile: the same network, built anew."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from limbnet.specs.load import resolved
from limbnet.training.loop import train

from .conftest import MakeSpec


def test_without_a_compiler_it_says_what_to_do(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec, run = tmp_path / "spec.yaml", tmp_path / "run"
    spec.write_text(resolved(make_spec(torch_compile=True)))
    command = [sys.executable, "-m", "limbnet", "train", "-e", str(spec), "-r", str(run), "--device", "cpu"]
    nowhere = {"CXX": str(tmp_path / "no_compiler"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    ended = subprocess.run(command, env=os.environ | nowhere, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "torch.compile cannot build the network here: " in ended.stderr
    assert "Install a C++ compiler" in ended.stderr
    assert not list(run.glob("*.tlt"))


@pytest.mark.long
@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler for torch.compile")
def test_a_compiled_run_learns_the_same_and_resumes_byte_for_byte(make_spec: MakeSpec, tmp_path: Path) -> None:
    sizes = {
        "image_dims": {"height": 64, "width": 64},
        "growing_sizes": [{"first_epoch": 0, "height": 48, "width": 48}, {"first_epoch": 2, "height": 64, "width": 64}],
    }
    options = {"num_epoch": 3, "dataloader": {"image_config": sizes}}
    for name, compiled in (("plain", False), ("compiled", True)):
        train(make_spec(torch_compile=compiled, **options), tmp_path / name, device="cpu")
    # Other last digits grow with every update; the mean loss of seven has not gone far.
    plain, built = (first_epoch(tmp_path / name / "metrics.csv") for name in ("plain", "compiled"))
    assert built == pytest.approx(plain, rel=1e-3)
    whole = (tmp_path / "compiled" / "bpnet_model.tlt").read_bytes()
    for name in ("bpnet_model.tlt", "model.epoch-3.tlt"):
        (tmp_path / "compiled" / name).unlink()
    train(make_spec(torch_compile=True, **options), tmp_path / "compiled", device="cpu")
    assert (tmp_path / "compiled" / "bpnet_model.tlt").read_bytes() == whole


def first_epoch(metrics: Path) -> dict[str, float]:
    """The losses of the first row."""
    with metrics.open() as file:
        row = next(csv.DictReader(file))
    return {name: float(value) for name, value in row.items() if name.endswith("loss") or "_loss_" in name}
