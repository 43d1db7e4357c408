"""Fixtures of the spec tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from spec_text import Write


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a spec file and return its path."""

    def to(text: str) -> Path:
        path = tmp_path / "spec.yaml"
        path.write_text(text)
        return path

    return to
