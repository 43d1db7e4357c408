"""What `import limbnet` gives, and that it is quick because nothing heavy is imported before it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

import limbnet
from limbnet.export.graph import build_graph
from limbnet.models.checkpoint import load_model
from limbnet.runtime.signature import Signature

HEAVY = ("torch", "cv2", "numpy", "PIL", "pydantic", "rich", "pycocotools")


def test_importing_is_quick() -> None:
    code = f"import sys, limbnet; print([name for name in {HEAVY!r} if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_the_public_names_are_there() -> None:
    assert sorted(limbnet.__all__) == ["PoseEstimator", "Poses", "__version__", "load"]
    for name in limbnet.__all__:
        assert getattr(limbnet, name)
        assert name in dir(limbnet)
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        limbnet.lode  # noqa: B018


def test_a_first_result_needs_no_heavy_package_that_it_does_not_use(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_model(tiny_model)
    onnx.save(build_graph(loaded.model, loaded.info, Signature()), tmp_path / "model.onnx")
    code = (
        "import sys, numpy, limbnet; limbnet.load(sys.argv[1], device='cpu')(numpy.zeros((64, 48, 3), numpy.uint8)); "
        "print([name for name in ('torch', 'pydantic', 'rich', 'pycocotools', 'openvino') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "model.onnx")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
