"""Texts of specs, and what their errors say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limbnet.errors import SpecError

Write = Callable[[str], Path]

#: A train spec with only what must be there.
SMALLEST = "dataloader:\n  dataset_config:\n    dataset_specs: {coco: coco.json}\n"


def mistakes(load: Callable[[Path], Any], path: Path) -> list[str]:
    """Return the lines of the error that loading raises, each as `line: text`."""
    with pytest.raises(SpecError) as caught:
        load(path)
    return [line.strip().removeprefix(f"{path}:") for line in str(caught.value).splitlines()[1:]]
