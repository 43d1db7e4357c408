"""Interleaved timing: the functions run one after the other, round after round, and medians are compared."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence


def interleaved(
    functions: Sequence[Callable[[], object]], *, rounds: int = 10, warm_up: int = 2, seconds: float = 20.0
) -> list[list[float]]:
    """Time each function once per round and return the seconds of each: one list per function, rounds in order.

    Args:
        functions: what is compared; each must have finished its work when it returns (synchronise devices inside).
        rounds: at most so many; at least 3 are made.
        warm_up: rounds that are not counted.
        seconds: no further round starts after so long.
    """
    for _ in range(warm_up):
        for function in functions:
            function()
    times: list[list[float]] = [[] for _ in functions]
    started = time.perf_counter()
    for number in range(max(3, rounds)):
        if number >= 3 and time.perf_counter() - started > seconds:
            break
        for function, row in zip(functions, times, strict=True):
            begin = time.perf_counter()
            function()
            row.append(time.perf_counter() - begin)
    return times


def medians(functions: Sequence[Callable[[], object]], **options: int | float) -> list[float]:
    """Return the median seconds of each function; options are those of `interleaved`."""
    return [statistics.median(row) for row in interleaved(functions, **options)]  # type: ignore[arg-type]
