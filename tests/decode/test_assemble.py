"""Assembling people: the rules, each by a case derived by hand."""

from __future__ import annotations

import numpy as np
import pytest

from limbnet.decode import assemble as steps
from limbnet.decode.assemble import Connections, match_limbs
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: a - b - c - d and, redundant, d - e; a chain whose limbs come in the order ab, cd, bc, de.
CHAIN = Skeleton("chain", ("a", "b", "c", "d", "e"), ((0, 1), (2, 3), (1, 2), (3, 4)), frozenset({3}))
ANYBODY = DecoderSettings(min_joints=2, min_score=0.0)
ONES = np.ones((5, 3), np.float32)


pytestmark = pytest.mark.usefixtures("both_decoders")


def assemble(connections: list, peak_scores: np.ndarray, skeleton: Skeleton, settings: DecoderSettings) -> tuple:
    """Assemble connections (limb, a, b, score)."""
    table = np.array(connections, np.float64).reshape(-1, 4)
    return steps.assemble(Connections(table[:, :3].astype(np.intp), table[:, 3].astype(np.float32)), peak_scores,
                          skeleton, settings)  # fmt: skip


def people(connections: list, settings: DecoderSettings = ANYBODY, peak_scores: np.ndarray = ONES) -> tuple:
    """Parts and totals of the people that connections (limb, a, b, score) make."""
    parts, scores = assemble(connections, peak_scores, CHAIN, settings)
    return parts.tolist(), (1 / (1 - scores)).tolist()


def test_matching_takes_the_best_first_and_each_end_once() -> None:
    scores = np.zeros((2, 3, 3), np.float32)
    scores[0] = [[0.9, 0.8, 0], [0.95, 0.1, 0], [0, 0.7, 0]]
    scores[1, 2, 0] = 0.5
    chosen = match_limbs(scores)
    assert chosen.pairs.tolist() == [[0, 1, 0], [0, 0, 1], [1, 2, 0]]
    assert chosen.scores.tolist() == pytest.approx([0.95, 0.8, 0.5])


def test_equal_scores_go_to_the_first_pair() -> None:
    chosen = match_limbs(np.full((1, 2, 2), 0.5, np.float32))
    assert chosen.pairs.tolist() == [[0, 0, 0], [0, 1, 1]]
    assert chosen.scores.tolist() == [0.5, 0.5]


def test_nothing_to_match() -> None:
    chosen = match_limbs(np.zeros((3, 0, 0), np.float32))
    assert (chosen.pairs.shape, chosen.scores.shape) == ((0, 3), (0,))


def test_one_connection_starts_a_person() -> None:
    parts, totals = people([(0, 2, 1, 0.5)])
    assert parts == [[2, 1, -1, -1, -1]]
    assert totals == pytest.approx([2.5])


def test_a_connection_extends_the_person_that_holds_its_start() -> None:
    parts, totals = people([(0, 0, 0, 0.5), (2, 0, 1, 0.25)])
    assert parts == [[0, 0, 1, -1, -1]]
    assert totals == pytest.approx([2.5 + 1.25])


def test_a_match_through_the_end_never_adds_the_start() -> None:
    parts, totals = people([(1, 0, 0, 0.5), (2, 2, 0, 0.25)])  # cd, then b-c with c held: b is not taken up
    assert parts == [[-1, -1, 0, 0, -1]]
    assert totals == pytest.approx([2.5])


def test_disjoint_people_merge_through_a_connection() -> None:
    parts, totals = people([(0, 0, 0, 0.5), (1, 1, 1, 0.5), (2, 0, 1, 0.25)])
    assert parts == [[0, 0, 1, 1, -1]]
    assert totals == pytest.approx([2.5 + 2.5 + 0.25])


def test_people_with_a_joint_in_common_do_not_merge_and_the_first_is_overwritten() -> None:
    loop = Skeleton("loop", ("a", "b", "c"), ((0, 1), (0, 2), (1, 2)))
    # Two people a0-b0-c0 and a1-b1-c1; the last limb says b0-c1. The first gets c1, which the second keeps too.
    connections = [(0, 0, 0, 0.5), (0, 1, 1, 0.5), (1, 0, 0, 0.5), (1, 1, 1, 0.5), (2, 0, 1, 0.25)]
    parts, scores = assemble(connections, np.ones((3, 2), np.float32), loop, ANYBODY)
    assert parts.tolist() == [[0, 0, 1], [1, 1, 1]]
    assert (1 / (1 - scores)).tolist() == pytest.approx([2.5 + 1.5 + 1.25, 2.5 + 1.5])


def test_a_connection_that_three_people_touch_is_ignored() -> None:
    # c1 comes into the hands of two people as above; then a limb whose start a third one holds ends in c1.
    star = Skeleton("star", ("a", "b", "c", "d"), ((0, 1), (0, 2), (1, 2), (3, 0), (3, 2)))
    three = np.ones((4, 3), np.float32)
    before = [(0, 0, 0, 0.5), (0, 1, 1, 0.5), (1, 0, 0, 0.5), (1, 1, 1, 0.5), (2, 0, 1, 0.25), (3, 2, 2, 0.5)]
    expected, expected_scores = assemble(before, three, star, ANYBODY)
    parts, scores = assemble([*before, (4, 2, 1, 0.9)], three, star, ANYBODY)
    assert parts.tolist() == expected.tolist()
    assert scores.tolist() == expected_scores.tolist()


def test_a_redundant_limb_joins_but_never_starts_a_person() -> None:
    assert people([(3, 0, 0, 0.9)]) == ([], [])
    assert people([(1, 0, 0, 0.5), (3, 0, 2, 0.9)])[0] == [[-1, -1, 0, 0, 2]]


def test_who_is_kept() -> None:
    connections = [(0, 0, 0, 0.4), (2, 0, 0, 0.4)]
    low = np.full((5, 3), 0.1, np.float32)  # total 0.3 + 0.8 = 1.1 over 3 joints: 0.3667
    assert len(people(connections, DecoderSettings(min_joints=3, min_score=0.36), low)[0]) == 1
    assert len(people(connections, DecoderSettings(min_joints=3, min_score=0.37), low)[0]) == 0
    assert len(people(connections, DecoderSettings(min_joints=4, min_score=0.0))[0]) == 0


def test_best_person_first_with_one_minus_one_over_the_total() -> None:
    parts, scores = assemble([(0, 0, 0, 0.1), (0, 1, 1, 0.9)], ONES, CHAIN, ANYBODY)
    assert parts.tolist() == [[1, 1, -1, -1, -1], [0, 0, -1, -1, -1]]
    assert scores.tolist() == pytest.approx([1 - 1 / 2.9, 1 - 1 / 2.1])


def test_a_total_below_one_scores_zero() -> None:
    _, scores = assemble([(0, 0, 0, 0.2)], np.full((5, 3), 0.1, np.float32), CHAIN, ANYBODY)
    assert scores.tolist() == [0.0]
