"""Assembling people: matching limbs greedily, then joining and merging partial people limb by limb."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: Peaks of the limb's start and end, and the limb's score.
Connection = tuple[int, int, float]


class _Partial:
    """A person while it grows: peak of each joint (-1 where none), number of joints, total of peak and limb scores."""

    __slots__ = ("count", "parts", "total")

    def __init__(self, joints: int) -> None:
        self.parts = [-1] * joints
        self.count = 0
        self.total = 0.0


def match_limbs(limb_scores: NDArray[np.float32]) -> list[list[Connection]]:
    """Choose the connections of every limb: the best pair first, every start and every end used once.

    Args:
        limb_scores: (L, M, M) score of each start and end, 0 where they do not connect.

    Returns:
        For each limb its connections, best first.
    """
    chosen: list[list[Connection]] = []
    for scores in limb_scores:
        starts, ends = np.nonzero(scores)
        values = scores[starts, ends]
        order = np.argsort(-values, kind="stable")
        free_start, free_end = [True] * len(scores), [True] * len(scores)
        connections: list[Connection] = []
        for a, b, value in zip(starts[order].tolist(), ends[order].tolist(), values[order].tolist(), strict=True):
            if free_start[a] and free_end[b]:
                free_start[a] = free_end[b] = False
                connections.append((a, b, value))
        chosen.append(connections)
    return chosen


def assemble(
    connections: list[list[Connection]], peak_scores: NDArray[np.float32], skeleton: Skeleton, settings: DecoderSettings
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Join the connections, limb by limb in the skeleton's order, to people.

    Args:
        connections: what `match_limbs` chose.
        peak_scores: (K, M) heatmap value of every peak.
        skeleton: joints and limbs; redundant limbs join people but never start one.
        settings: what a person must have to be kept.

    Returns:
        (P, K) index of the peak of each joint, -1 where there is none, and (P,) total score over 1, best person first:
        1 - 1 / total, at least 0.
    """
    values = peak_scores.tolist()
    people: list[_Partial] = []
    for limb, (start, end) in enumerate(skeleton.limbs):
        for a, b, score in connections[limb]:
            touching = [person for person in people if person.parts[start] == a or person.parts[end] == b]
            if len(touching) == 2 and _disjoint(*touching):
                _merge(touching[0], touching[1], score)
                people.remove(touching[1])
            elif len(touching) == 2 or (len(touching) == 1 and touching[0].parts[end] != b):
                person = touching[0]
                person.count += 1
                person.parts[end] = b
                person.total += values[end][b] + score
            elif not touching and limb not in skeleton.redundant:
                person = _Partial(len(skeleton.joints))
                person.parts[start], person.parts[end] = a, b
                person.count, person.total = 2, values[start][a] + values[end][b] + score
                people.append(person)
    kept = [p for p in people if p.count >= settings.min_joints and p.total >= settings.min_score * p.count]
    kept.sort(key=lambda person: -person.total)
    parts = np.array([person.parts for person in kept], np.intp).reshape(len(kept), len(skeleton.joints))
    totals = np.array([person.total for person in kept], np.float32)
    return parts, np.maximum(1 - 1 / np.maximum(totals, 1e-6), 0).astype(np.float32)


def _disjoint(one: _Partial, other: _Partial) -> bool:
    """Tell whether no joint is found in both."""
    return all(a < 0 or b < 0 for a, b in zip(one.parts, other.parts, strict=True))


def _merge(one: _Partial, other: _Partial, score: float) -> None:
    """Add the other's joints and scores to the first."""
    one.parts = [b if a < 0 else a for a, b in zip(one.parts, other.parts, strict=True)]
    one.count += other.count
    one.total += other.total + score
