"""Checking annotation files: every mistake is collected, so that all of them are reported at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import DataError

#: A message lists so many problems and counts the rest.
PROBLEMS_SHOWN = 12


@dataclass
class Problems:
    """The mistakes found in one file.

    Attributes:
        file: the file.
        found: what was found, in words.
        unread: (entry, key) of values that could not be read; what would follow from them is no mistake of its own.
    """

    file: Path
    found: list[str] = field(default_factory=list)
    unread: set[tuple[str, str]] = field(default_factory=set)

    def add(self, text: str) -> None:
        """Note one mistake: where it is and what was found."""
        self.found.append(text)

    def stop_if_any(self) -> None:
        """Raise the `DataError` that lists the mistakes, if there are some."""
        if not self.found:
            return
        lines = self.found[:PROBLEMS_SHOWN]
        if len(self.found) > len(lines):
            lines.append(f"... and {len(self.found) - len(lines)} more")
        count = "one mistake" if len(self.found) == 1 else f"{len(self.found)} mistakes"
        raise DataError(
            f"The annotation file '{self.file}' has {count}:\n  " + "\n  ".join(lines),
            "Mend or remove these entries and repeat the command.",
        )


def finite_numbers(
    rows: list[Any], width: int, name: str, labels: list[str], problems: Problems
) -> NDArray[np.float64]:
    """Return (len(rows), width) float64; rows that are no `width` finite numbers are noted and become zeros."""
    good = [isinstance(row, list) and len(row) == width for row in rows]
    for number, fits in enumerate(good):
        if not fits:
            row = rows[number]
            found = f"{len(row)} numbers" if isinstance(row, list) else repr(row)
            problems.add(f"{labels[number]}: {name} has {found}, expected {width} numbers")
            problems.unread.add((labels[number], name))
    zeros = [0.0] * width
    rows = [row if fits else zeros for row, fits in zip(rows, good, strict=True)]
    try:
        values = np.array(rows, dtype=np.float64).reshape(len(rows), width)
    except (TypeError, ValueError):
        values = np.array([_numbers_or_nan(row, width) for row in rows]).reshape(len(rows), width)
    finite = np.isfinite(values).all(axis=1)
    for number in map(int, np.flatnonzero(~finite)):
        problems.add(f"{labels[number]}: {name} has a value that is no finite number")
        problems.unread.add((labels[number], name))
    values[~finite] = 0
    return values


def _numbers_or_nan(row: list[Any], width: int) -> NDArray[np.float64]:
    """Return one row as numbers, or as NaN when some are none."""
    try:
        return np.array(row, dtype=np.float64).reshape(width)
    except (TypeError, ValueError):
        return np.full(width, np.nan)
