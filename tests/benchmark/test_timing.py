"""Interleaving and percentiles, with clocks that the tests wind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.benchmark.timing import Percentiles, in_turn, interleaved, timed


class Clock:
    """Stands still until a step winds it on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now

    def step(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds

        return run


def test_steps_take_turns_and_answers_keep_their_rounds() -> None:
    order: list[str] = []

    def step(name: str) -> Callable[[], str]:
        def run() -> str:
            order.append(name)
            return f"{name}{order.count(name)}"

        return run

    rounds: list[int] = []
    answers = in_turn(
        [step("a"), step("b"), step("c")], rounds=4, warm_up=2, on_round=lambda: rounds.append(len(order))
    )
    assert "".join(order) == "abc" * 6
    assert answers == [[f"{name}{number}" for number in range(3, 7)] for name in "abc"]  # the warm-up does not count
    assert rounds == [3, 6, 9, 12, 15, 18]


def test_noise_of_one_round_falls_on_all_alike() -> None:
    clock, noise = Clock(), iter([1.0, 1.0, 5.0, 5.0, 1.0, 1.0])
    steps = [timed(lambda base=base: clock.step(base * next(noise))(), clock) for base in (1.0, 2.0)]
    slow, slower = in_turn(steps, rounds=3, warm_up=0, clock=clock)
    assert slow == [1.0, 5.0, 1.0]
    assert slower == [2.0, 10.0, 2.0]


@pytest.mark.parametrize(("seconds", "made"), [(0.0, 3), (35.0, 4), (1000.0, 7)])
def test_rounds_end_when_the_time_is_over_but_three_are_made(seconds: float, made: int) -> None:
    clock = Clock()
    steps = [timed(clock.step(4.0), clock), timed(clock.step(6.0), clock)]
    assert in_turn(steps, rounds=7, warm_up=1, seconds=seconds, clock=clock) == [[4.0] * made, [6.0] * made]


def test_interleaved_times_what_it_calls() -> None:
    calls: list[int] = []
    times = interleaved([lambda: calls.append(0), lambda: calls.append(1)], rounds=3, warm_up=1)
    turns = [number for number, before in zip(calls, [None, *calls], strict=False) if number != before]
    assert turns == [0, 1] * 4  # one turn to warm up, and three
    assert len(calls) > 2 * (1 + 3 * 2), "each has the cores to itself for a while before it counts"
    assert [len(row) for row in times] == [3, 3]
    assert all(0 <= value < 1 for row in times for value in row)


def test_a_step_runs_uncounted_until_its_lead_in_is_over() -> None:
    clock = Clock()
    order: list[str] = []
    quick, slow = timed(clock.step(0.2), clock), timed(clock.step(3.0), clock)
    steps = [lambda: order.append("q") or quick(), lambda: order.append("s") or slow()]
    assert in_turn(steps, rounds=3, warm_up=0, lead_in=0.5, clock=clock) == [pytest.approx([0.2] * 3), [3.0] * 3]
    assert "".join(order) == "qqqqss" * 3


def test_percentiles_by_hand() -> None:
    seconds = [number / 1000 for number in range(1, 102)]  # 1 to 101 ms: the value of rank r is 1 + r
    assert astuple(Percentiles.of(seconds[::-1])) == pytest.approx((51.0, 96.0, 100.0, 101))
    assert astuple(Percentiles.of([0.004])) == pytest.approx((4.0, 4.0, 4.0, 1))
    assert Percentiles.of([0.001, 0.003]).p50 == pytest.approx(2.0)


@given(st.lists(st.floats(0, 10), min_size=1, max_size=50))
def test_percentiles_ascend_within_the_runs(seconds: list[float]) -> None:
    found = Percentiles.of(seconds)
    values = np.array([found.p50, found.p95, found.p99]) / 1000
    assert (np.diff([min(seconds), *values, max(seconds)]) >= -1e-12).all()
    assert found.runs == len(seconds)
