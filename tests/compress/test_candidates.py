"""Which candidate is chosen, and what is said when none can be."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.compress.candidates import Budget, Candidate, choose, pareto
from limbnet.errors import LimbnetError, UsageError

LATENCIES = st.floats(0.1, 100)
ACCURACIES = st.floats(0, 1)


def candidate(latency: float, ap: float, **changes: Any) -> Candidate:
    values: dict[str, Any] = {
        "keep": 1.0, "threshold": 0.0, "precision": "fp32", "weights": "model.tlt", "file": "model.onnx",
        "parameters": 1000, "multiply_adds": 10, "size": 4000, "ap": ap, "ap_difference": ap - 0.6,
        "ap_interval": (-0.1, 0.1), "latency": latency,
    }  # fmt: skip
    return Candidate(**values | changes)


WHOLE = candidate(10, 0.6)


def test_the_most_accurate_one_within_the_budget_is_chosen_and_of_equals_the_faster() -> None:
    fast, even_faster, slow = candidate(4, 0.59), candidate(3, 0.59), candidate(6, 0.595)
    assert choose([WHOLE, fast, even_faster, slow], Budget(latency=5)) == even_faster
    assert choose([WHOLE, fast, slow], Budget(latency=6)) == slow
    small = candidate(20, 0.58, parameters=400)
    assert choose([WHOLE, fast, small], Budget(parameters=400)) == small


def test_the_closest_ones_are_named_where_none_will_do() -> None:
    poor, dear = candidate(4, 0.5, keep=0.25), candidate(8, 0.59, keep=0.75)
    with pytest.raises(LimbnetError) as caught:
        choose([WHOLE, dear, poor], Budget(latency=5, max_ap_drop=0.05))
    for text in ("within 5 ms and loses at most 0.05 AP", "'0.75 kept fp32' comes closest: 8.00 ms",
                 "'0.25 kept fp32' loses least: 4.00 ms", "AP 0.5000 (-0.1000)", "--epochs"):  # fmt: skip
        assert text in str(caught.value)
    with pytest.raises(LimbnetError, match=r"None is within the budget; the nearest is '0.25 kept fp32': 4"):
        choose([WHOLE, poor], Budget(latency=1))


@given(st.lists(st.builds(candidate, LATENCIES, ACCURACIES), max_size=12), LATENCIES, ACCURACIES)
def test_a_choice_meets_the_budget_and_nothing_better_does(
    others: list[Candidate], latency: float, drop: float
) -> None:
    budget = Budget(latency=latency, max_ap_drop=drop)
    able = [one for one in (WHOLE, *others) if one.latency <= latency and 0.6 - one.ap <= drop + 1e-8]  # type: ignore[operator]
    try:
        chosen = choose([WHOLE, *others], budget)
    except LimbnetError:
        assert not [one for one in able if 0.6 - one.ap <= drop]
    else:
        assert chosen in able
        assert chosen.ap == max(one.ap for one in able)


@given(st.lists(st.builds(candidate, LATENCIES, ACCURACIES), min_size=1, max_size=12))
def test_the_front_holds_exactly_what_nothing_beats(candidates: list[Candidate]) -> None:
    def beaten(one: Candidate) -> bool:
        return any(
            other.latency <= one.latency and other.ap >= one.ap and (other.latency, other.ap) != (one.latency, one.ap)  # type: ignore[operator]
            for other in candidates
        )

    front = {(one.latency, one.ap) for one in pareto(candidates)}
    assert front == {(one.latency, one.ap) for one in candidates if not beaten(one)}


def test_a_budget_is_one_number() -> None:
    for wrong in ({}, {"latency": 1.0, "parameters": 5}):
        with pytest.raises(UsageError, match="either --latency MS or --parameters N"):
            Budget(**wrong)  # type: ignore[arg-type]


def test_candidates_come_back_from_json() -> None:
    one = candidate(1.5, 0.4, precision="int8")
    assert Candidate.from_dict(one.to_dict()) == one
