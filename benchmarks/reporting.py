"""What every benchmark prints: a table for people, and one last line of JSON for machines."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: Packages whose versions decide most figures.
PACKAGES = ("limbnet", "numpy", "opencv-python-headless", "pillow", "torch")


def machine() -> dict[str, Any]:
    """Name the processor, the cores and the versions that the figures belong to."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": processor(),
        "cores": cores,
        "python": platform.python_version(),
        **{package: version(package) for package in PACKAGES},
    }


def processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def report(name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], result: Mapping[str, Any]) -> None:
    """Print the rows under their columns, the machine, and the result as one line of JSON."""
    cells = [[str(cell) for cell in row] for row in (columns, *rows)]
    widths = [max(len(row[number]) for row in cells) for number in range(len(columns))]
    for row in cells:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    here = machine()
    print(f"\n{here['processor']}, {here['cores']} cores, Python {here['python']}, torch {here['torch']}")
    print(json.dumps({"benchmark": name, **result, "machine": here}))
