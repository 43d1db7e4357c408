"""What `import limbnet` gives, and that it is quick because nothing heavy is imported before it is used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import limbnet

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
