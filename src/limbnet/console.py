"""What a person at a terminal sees: log lines and progress bars, all on standard error, so that output can be piped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

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
    from rich.logging import RichHandler

    handler = RichHandler(console=console(), show_time=False, show_path=False, markup=False, show_level=False)
    handler.setFormatter(_Formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("limbnet").setLevel(level)
    logging.captureWarnings(True)


class _Formatter(logging.Formatter):
    """Plain text for news, the level before anything worse."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno == logging.INFO else f"{record.levelname.lower()}: {text}"


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
