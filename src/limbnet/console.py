"""What a person at a terminal sees: log lines and progress bars, all on standard error, so that output can be piped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


@cache
def console() -> Console:
    """Return the one console of the process, on standard error."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def set_up_logging(level: str = "INFO") -> None:
    """Print log lines of limbnet from `level` upwards on the console; other packages' from WARNING."""
    handler = _ConsoleHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("limbnet").setLevel(level)
    logging.captureWarnings(True)


class _ConsoleHandler(logging.Handler):
    """Prints records on the console, above a progress bar; one line stays one line however long it is."""

    COLOURS: ClassVar = {"DEBUG": "dim", "WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}

    def emit(self, record: logging.LogRecord) -> None:
        level, text = record.levelname, self.format(record)
        if record.levelno != logging.INFO:
            text = f"{level.lower()}: {text}"
        console().print(text, style=self.COLOURS.get(level), markup=False, soft_wrap=True)


def counted(number: int, one: str, many: str = "") -> str:
    """Return `1 picture`, `2 pictures`; `many` for irregular words."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


@contextmanager
def progress(*extra_columns: str) -> Iterator[Progress]:
    """Show progress bars with count, share, time gone and time left; `extra_columns` are rich text templates.

    Nothing is drawn when standard error is no terminal.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()]
    columns += [TextColumn(column) for column in extra_columns]
    with Progress(
        *columns,
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console(),
        transient=True,
        disable=not console().is_terminal,
    ) as bars:
        yield bars
