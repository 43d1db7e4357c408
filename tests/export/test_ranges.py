"""Ranges from streamed histograms, against the values themselves and a slow clear twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from limbnet.export.ranges import BINS, LEVELS, Histogram, entropy_range


def filled(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


def test_counts_are_those_of_numpy_whatever_the_order() -> None:
    rng = np.random.default_rng(0)
    parts = [rng.normal(0, scale, (3, 50, 40)) for scale in (0.1, 3.0, 0.7)]
    histogram = filled(*parts)
    values = np.abs(np.concatenate([part.astype(np.float32).ravel() for part in parts]))
    assert histogram.limit == 2.0 ** math.ceil(math.log2(values.max()))
    expected = np.histogram(values, BINS, (0, histogram.limit))[0]
    np.testing.assert_array_equal(histogram.counts, expected)
    np.testing.assert_array_equal(filled(*parts[::-1]).counts, expected)
    assert histogram.largest == values.max()


def test_zeros_are_not_counted_and_an_idle_tensor_has_no_range() -> None:
    histogram = filled(np.zeros(100), np.array([0.0, 0.0, 1.5]))
    assert histogram.counts.sum() == 1
    assert filled(np.zeros(10)).range("entropy") == 0.0
    assert filled(np.zeros(10)).range("minmax") == 0.0


def test_a_power_of_two_itself_is_counted() -> None:
    assert filled(np.array([2.0, -4.0, 1.0])).counts.sum() == 3


def test_values_that_are_not_finite_are_refused() -> None:
    for bad in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="not finite"):
            filled(np.array([1.0, bad]))


def test_percentile_leaves_the_largest_values_out() -> None:
    values = np.linspace(0.001, 1.0, 100_000)
    values[-1] = 10.0  # one outlier
    histogram = filled(values)
    assert histogram.range("minmax") == pytest.approx(10.0)
    assert histogram.range("percentile", 99.0) == pytest.approx(0.99, abs=10 / BINS * 2)
    assert histogram.range("percentile", 100.0) == pytest.approx(10.0)


def test_entropy_cuts_a_lone_outlier_off_and_keeps_a_uniform_range() -> None:
    rng = np.random.default_rng(1)
    bulk = np.abs(rng.normal(0, 1, 200_000))
    assert filled(bulk, np.array([60.0])).range("entropy") < 10
    assert filled(rng.uniform(0, 1, 200_000)).range("entropy") > 0.95


def slow_entropy_range(counts: list[int]) -> float:
    """The definition, loop by loop."""
    filled_bins = max(index for index, count in enumerate(counts) if count) + 1
    if filled_bins <= LEVELS:
        return float(filled_bins)
    best, best_end = math.inf, 0
    for end in range(LEVELS, filled_bins + 1):
        p = [float(count) for count in counts[:end]]
        q = [0.0] * end
        for level in range(LEVELS):
            members = [index for index in range(end) if index * LEVELS // end == level]
            occupied = [index for index in members if counts[index] > 0]
            for index in occupied:
                q[index] = sum(counts[member] for member in members) / len(occupied)
        p[-1] += sum(counts[end:])
        total_p, total_q = sum(p), sum(q)
        if total_q == 0:
            continue
        divergence = sum(
            a / total_p * math.log((a / total_p) / (b / total_q if b > 0 else 1e-12))
            for a, b in zip(p, q, strict=True)
            if a > 0
        )
        if divergence < best - 1e-12:
            best, best_end = divergence, end
    return float(best_end)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, 50), min_size=130, max_size=170).filter(any))
def test_entropy_agrees_with_its_definition(counts: list[int]) -> None:
    padded = np.array(counts + [0] * (BINS - len(counts)), np.int64)
    assert entropy_range(padded) == slow_entropy_range(counts)
