"""Interleaved timing: everything that is compared runs in turn, round after round, so that noise hurts all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

Answer = TypeVar("Answer")
Clock = Callable[[], float]

#: Runtimes let their threads spin for some ten milliseconds after the work is done, so what runs next shares the cores
#: with them. After so many seconds of its own runs a step has the cores, and the caches, to itself.
LEAD_IN = 0.05

#: Rounds that are made however long they take.
LEAST_ROUNDS = 3


def in_turn(
    steps: Sequence[Callable[[], Answer]],
    *,
    rounds: int = 10,
    warm_up: int = 2,
    lead_in: float = 0.0,
    seconds: float = 20.0,
    on_round: Callable[[], object] | None = None,
    clock: Clock = time.perf_counter,
) -> list[list[Answer]]:
    """Call each step once per round and return what each answered: one list per step, rounds in order.

    Args:
        steps: what is compared; each measures itself.
        rounds: at most so many; at least 3 are made.
        warm_up: rounds before them that are not counted.
        lead_in: seconds of uncounted calls of a step right before each counted one, see `LEAD_IN`.
        seconds: no further round starts after so long.
        on_round: called after every round, the warm-up's too, for progress.
        clock: of `seconds`.
    """
    for _ in range(warm_up):
        for step in steps:
            step()
        if on_round is not None:
            on_round()
    answers: list[list[Answer]] = [[] for _ in steps]
    started = clock()
    for number in range(max(LEAST_ROUNDS, rounds)):
        if number >= LEAST_ROUNDS and clock() - started > seconds:
            break
        for step, row in zip(steps, answers, strict=True):
            ready = clock() + lead_in
            while clock() < ready:
                step()
            row.append(step())
        if on_round is not None:
            on_round()
    return answers


def timed(function: Callable[[], object], clock: Clock = time.perf_counter) -> Callable[[], float]:
    """Return a step that calls `function` and answers how many seconds it took.

    The function must have finished its work when it returns: synchronise devices inside.
    """

    def step() -> float:
        begin = clock()
        function()
        return clock() - begin

    return step


def interleaved(
    functions: Sequence[Callable[[], object]], *, rounds: int = 10, warm_up: int = 2, seconds: float = 20.0
) -> list[list[float]]:
    """Time functions in turn, each after a run of its own, and return the seconds of each; see `in_turn`, `timed`."""
    steps = [timed(function) for function in functions]
    return in_turn(steps, rounds=rounds, warm_up=warm_up, lead_in=LEAD_IN, seconds=seconds)


def medians(functions: Sequence[Callable[[], object]], **options: int | float) -> list[float]:
    """Return the median seconds of each function; options are those of `interleaved`."""
    return [statistics.median(row) for row in interleaved(functions, **options)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Percentiles:
    """How long something took, in milliseconds: the median, and what 95 and 99 of 100 runs stayed below.

    Between two runs the value is interpolated linearly; with fewer than 100 runs p99 lies close to the slowest one.
    """

    p50: float
    p95: float
    p99: float
    runs: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Percentiles:
        """Summarise runs, at least one."""
        p50, p95, p99 = (1000 * float(value) for value in np.percentile(seconds, (50, 95, 99)))
        return cls(p50, p95, p99, len(seconds))
