"""The decoder's C part: what NumPy's finds, on anything, and no step beyond what it is handed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

import numpy as np
import pytest
from agreement import disagreements, is_tie
from crowds import random_crowd
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbnet.decode import compiled
from limbnet.decode.assemble import Connections, assemble, match_limbs
from limbnet.decode.bottomup import decode_maps
from limbnet.decode.limbs import score_limbs
from limbnet.decode.peaks import Peaks, find_peaks
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18, Skeleton

built = pytest.mark.skipif(
    not compiled.in_use, reason="the decoder's C part was not built: there was no C compiler when limbnet was installed"
)
Found = TypeVar("Found")


def both(step: Callable[[], Found]) -> tuple[Found, Found]:
    """What a step finds compiled and with NumPy."""
    with pytest.MonkeyPatch.context() as patch:
        found = step()
        patch.setattr(compiled, "in_use", False)
        return found, step()


def noise_maps(seed: int, maps: int, size: tuple[int, int]) -> NDArray[np.float32]:
    """Maps (maps, h, w) of values from -0.3 to 1."""
    return np.random.default_rng(seed).uniform(-0.3, 1, (maps, *size)).astype(np.float32)


def peaks_of(peaks: Peaks, joint: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Points (N, 2) in eighths of a cell, and values (N,), of one joint."""
    there = slice(peaks.counts[joint])
    return peaks.points[joint, there], peaks.refined[joint, there, 2]


def assert_same_peaks(fast: Peaks, slow: Peaks, most: int) -> None:
    """The same peaks in any order, but where rounding decides: of equal neighbours, and of equal values at the cap."""
    for joint in range(len(fast.counts)):
        for one, other in ((fast, slow), (slow, fast)):
            (points, values), (others, other_values) = peaks_of(one, joint), peaks_of(other, joint)
            apart = np.abs(points[:, None] - others).max(axis=2, initial=0)
            alone = ~(apart <= 1).any(axis=1)
            at_the_cap = (len(others) == most) & (values < other_values.min(initial=np.inf) + 1e-5)
            # Of a summit on the edge of two cells rounding may see none: 1 of 24,000 maps of noise had one.
            assert np.count_nonzero(alone & ~at_the_cap) <= 1
            same = apart == 0
            np.testing.assert_allclose((same * values[:, None])[same], (same * other_values)[same], atol=1e-5)


@built
@settings(max_examples=6000, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    most=st.sampled_from([1, 3, 64]),
    threshold=st.sampled_from([0.0, 0.1, 0.6]),
    stride=st.sampled_from([4, 8]),
)
def test_same_peaks_in_noise(seed: int, size: tuple[int, int], most: int, threshold: float, stride: int) -> None:
    """Not in a single row or column: the surface is level across it, and rounding says which point is first."""
    heatmaps = noise_maps(seed, 4, size)
    heatmaps[1] = 0
    fast, slow = both(lambda: find_peaks(heatmaps, stride, threshold, most))
    assert_same_peaks(fast, slow, most)


@built
def test_more_cells_than_are_looked_at() -> None:
    heatmaps = np.concatenate([noise_maps(0, 1, (100, 100)), np.zeros((1, 100, 100), np.float32)])
    fast, slow = both(lambda: find_peaks(heatmaps, 8, 0.1, 3))
    assert abs(fast.found[0] - slow.found[0]) <= 1
    assert fast.found[0] > 192
    assert_same_peaks(fast, slow, 3)


@built
@settings(max_examples=100, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 30), st.integers(1, 30)),
    counts=st.lists(st.integers(0, 12), min_size=18, max_size=18),
    samples=st.sampled_from([(10, 9), (10, 4), (1, 1), (7, 7), (5, 6)]),
    threshold=st.sampled_from([0.05, -0.1]),
)
def test_same_limb_scores_of_any_points(
    seed: int, size: tuple[int, int], counts: list[int], samples: tuple[int, int], threshold: float
) -> None:
    rng = np.random.default_rng(seed)
    pafs = rng.uniform(-0.6, 1, (38, *size)).astype(np.float32)
    most = max(counts)
    points = rng.integers(0, np.array(size[::-1]) * 8, (18, most, 2)).astype(np.float32)
    chosen = DecoderSettings(limb_samples=samples[0], limb_samples_needed=samples[1], paf_threshold=threshold)
    fast, slow = both(lambda: score_limbs(pafs, points, np.array(counts, np.intp), BODY_18, chosen))
    # A value within rounding of the threshold may count here and not there; then the pair's score jumps.
    apart = np.abs(fast - slow) > 1e-4
    assert np.count_nonzero(apart) <= 1e-3 * apart.size


@built
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e30, 1e30])
def test_points_outside_the_field_are_taken_as_its_edge(value: float) -> None:
    points = np.full((18, 2, 2), value, np.float32)
    scores = score_limbs(np.ones((38, 5, 6), np.float32), points, np.full(18, 2), BODY_18, DecoderSettings())
    assert scores.shape == (19, 2, 2)
    assert not np.isinf(scores).any()


@built
@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), most=st.integers(0, 20), ties=st.booleans())
def test_same_connections(seed: int, most: int, ties: bool) -> None:
    rng = np.random.default_rng(seed)
    scores = rng.uniform(-1, 1, (5, most, most)).astype(np.float32)
    scores = np.round(scores, 1) if ties else scores
    fast, slow = both(lambda: match_limbs(scores))
    assert fast.pairs.tolist() == slow.pairs.tolist()
    assert fast.scores.tolist() == slow.scores.tolist()


@built
@settings(max_examples=300, deadline=None)
@given(
    connections=st.lists(
        st.tuples(st.integers(0, 18), st.integers(0, 3), st.integers(0, 3), st.floats(0, 1, width=32)), max_size=60
    ),
    seed=st.integers(0, 100),
    in_order=st.booleans(),
    least=st.integers(0, 4),
)
def test_same_people_of_any_connections(
    connections: list[tuple[int, int, int, float]], seed: int, in_order: bool, least: int
) -> None:
    table = np.array(sorted(connections) if in_order else connections, np.float64).reshape(-1, 4)
    chosen = Connections(table[:, :3].astype(np.intp), table[:, 3].astype(np.float32))
    peak_scores = np.random.default_rng(seed).random((18, 4), dtype=np.float32)
    fast, slow = both(lambda: assemble(chosen, peak_scores, BODY_18, DecoderSettings(min_joints=least)))
    assert fast[0].tolist() == slow[0].tolist()
    assert fast[1].tolist() == slow[1].tolist()


@built
@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    people=st.integers(0, 30),
    missing=st.sampled_from([0.0, 0.2]),
    noise=st.sampled_from([0.005, 0.02]),
)
def test_same_people_in_crowds(seed: int, people: int, missing: float, noise: float) -> None:
    crowd = random_crowd(seed, people, missing=missing, noise=noise)
    fast, slow = both(lambda: decode_maps(crowd.heatmaps, crowd.pafs, BODY_18, 8))
    assert not disagreements(fast, slow) or is_tie(crowd, DecoderSettings())


STICK = Skeleton("stick", ("a", "b"), ((0, 1),))
FLOATS = np.zeros(64, np.float32)
INDICES = np.zeros(64, np.intp)


@built
@pytest.mark.parametrize(
    ("limb", "a", "b"), [(1, 0, 0), (-1, 0, 0), (0, 2, 0), (0, -1, 0), (0, 0, 2), (0, 0, -1), (0, 2**62, 0)]
)
def test_connections_that_are_not_there_are_refused(limb: int, a: int, b: int) -> None:
    chosen = Connections(np.array([[limb, a, b]], np.intp), np.ones(1, np.float32))
    with pytest.raises(ValueError, match="a limb or a peak that is not there"):
        assemble(chosen, np.ones((2, 2), np.float32), STICK, DecoderSettings())


@built
@pytest.mark.parametrize(
    ("step", "arguments", "message"),
    [
        ("find_peaks", (FLOATS[:5], FLOATS, FLOATS, 1, 2, 3, 8.0, 0.1, 0.7, 9, 9, 0.2, 1e-3), "heatmaps holds 20 "),
        ("find_peaks", (FLOATS[:6], FLOATS, FLOATS, 1, 2, 3, 8.0, 0.1, 0.7, 9, 9, 0.2, 1e-3), "smooth holds 256 "),
        ("find_peaks", (FLOATS, FLOATS, FLOATS, -1, 2, 3, 8.0, 0.1, 0.7, 9, 9, 0.2, 1e-3), "maps is -1"),
        ("find_peaks", (FLOATS, FLOATS, FLOATS, 1, 0, 3, 8.0, 0.1, 0.7, 9, 9, 0.2, 1e-3), "height is 0"),
        ("find_peaks", (FLOATS, FLOATS, FLOATS, 1, 2, 70000, 8.0, 0.1, 0.7, 9, 9, 0.2, 1e-3), "width is 70000"),
        ("match_limbs", (FLOATS[:5], 1, 2), "limb_scores holds 20 bytes where 16 "),
        ("match_limbs", (FLOATS[:4], 1, -2), "most is -2"),
        (
            "score_limbs",
            (FLOATS[:4], FLOATS[:12], FLOATS[:8], INDICES[:2] + 3, INDICES[:1], INDICES[:1] + 1, FLOATS[:10],
             FLOATS[:32], 1, 2, 3, 2, 2, 10, 9, 0.05),
            "a count is 3, not 0 to 2",
        ),
        (
            "score_limbs",
            (FLOATS[:4], FLOATS[:12], FLOATS[:8], INDICES[:2], INDICES[:1] + 2, INDICES[:1] + 1, FLOATS[:10],
             FLOATS[:32], 1, 2, 3, 2, 2, 10, 9, 0.05),
            "a limb's start is 2, not 0 to 1",
        ),
        (
            "assemble",
            (INDICES[:3], FLOATS[:1], FLOATS[:4], INDICES[:1], INDICES[:1] - 1, b"\0", 1, 2, 2, 1, 0, 0.0),
            "a limb's end is -1, not 0 to 1",
        ),
    ],
)  # fmt: skip
def test_arrays_of_other_sizes_are_refused(step: str, arguments: tuple[object, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(compiled.native, step)(*arguments)


def test_without_the_c_part_numpy_decodes_and_limbnet_says_so() -> None:
    """As where there was no compiler: the module is hidden from a fresh interpreter."""
    code = """
import sys
sys.modules["limbnet.decode._native"] = None
from limbnet.decode import compiled
from limbnet.decode.bottomup import decode_maps
from limbnet.skeleton import BODY_18
from crowds import random_crowd
crowd = random_crowd(3, 4)
print(compiled.described(), len(decode_maps(crowd.heatmaps, crowd.pafs, BODY_18, 8)))
"""
    paths = f"import sys; sys.path.insert(0, {str(__file__).rpartition('/')[0]!r})\n"
    done = subprocess.run([sys.executable, "-c", paths + code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ("NumPy (slower; limbnet was installed where its C part could not be compiled) 4")
