"""Assembling people: matching limbs greedily, then joining and merging partial people limb by limb."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbnet.decode import compiled
from limbnet.decode.peaks import descending
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton


class Connections(NamedTuple):
    """Chosen limbs.

    Attributes:
        pairs: (N, 3) limb, peak at its start, peak at its end.
        scores: (N,) float32.
    """

    pairs: NDArray[np.intp]
    scores: NDArray[np.float32]


def match_limbs(limb_scores: NDArray[np.float32]) -> Connections:
    """Choose the connections of every limb: the best pair first, every start and end used once.

    Args:
        limb_scores: (L, M, M) score of each start and end, 0 where they do not connect.

    Returns:
        The connections, limb by limb, the best of each limb first.
    """
    limbs, most, _ = limb_scores.shape
    if compiled.in_use:
        triples, floats = compiled.native.match_limbs(np.ascontiguousarray(limb_scores, np.float32), limbs, most)
        return Connections(np.frombuffer(triples, np.intp).reshape(-1, 3), np.frombuffer(floats, np.float32))
    pairs = np.flatnonzero(limb_scores > 0)
    scores = limb_scores.take(pairs)
    order = descending(scores)
    pairs = pairs.take(order)
    start = pairs // max(most, 1)  # starts and ends are numbered through all limbs
    limb = start // max(most, 1)
    end = pairs - (start - limb) * most
    free_start, free_end = bytearray(b"\1") * (limbs * most), bytearray(b"\1") * (limbs * most)
    chosen = []
    for number, (a, b) in enumerate(zip(start.tolist(), end.tolist(), strict=True)):
        if free_start[a] and free_end[b]:
            free_start[a] = free_end[b] = 0
            chosen.append(number)
    picked = np.array(chosen, np.intp)
    picked = picked.take(np.argsort(limb.take(picked), kind="stable"))
    limb, first = limb.take(picked), limb.take(picked) * most
    columns = limb, start.take(picked) - first, end.take(picked) - first
    return Connections(np.stack(columns, axis=1), scores.take(order.take(picked)))


class _Partial:
    """A person while it grows: peak of each joint (-1 where none), number of joints, total of peak and limb scores."""

    __slots__ = ("count", "number", "parts", "total")

    def __init__(self, number: int, joints: int) -> None:
        self.number = number
        self.parts = [-1] * joints
        self.count = 0
        self.total = 0.0


class _Gathering:
    """The partial people of one picture, and who holds which peak.

    A peak may be held by several people: a limb that touches two people with a joint in common gives its end to the
    first of them and takes it from nobody.
    """

    def __init__(self, peak_scores: NDArray[np.float32]) -> None:
        self.peak_scores: list[list[float]] = peak_scores.tolist()
        self.holders: list[list[list[_Partial]]] = [[[] for _ in row] for row in self.peak_scores]
        self.people: dict[int, _Partial] = {}
        self.born = 0

    def found(self, start: int, end: int, a: int, b: int, score: float) -> None:
        """Let a connection found a person."""
        person = self.people[self.born] = _Partial(self.born, len(self.peak_scores))
        self.born += 1
        person.parts[start], person.parts[end] = a, b
        person.count = 2
        person.total = self.peak_scores[start][a] + self.peak_scores[end][b] + score
        self.holders[start][a].append(person)
        self.holders[end][b].append(person)

    def extend(self, person: _Partial, end: int, b: int, score: float) -> None:
        """Give a person the end of a connection, in the place of the one it had."""
        before = person.parts[end]
        if before != b:
            if before >= 0:
                self.holders[end][before].remove(person)
            self.holders[end][b].append(person)
            person.parts[end] = b
        person.count += 1
        person.total += self.peak_scores[end][b] + score

    def merge(self, person: _Partial, other: _Partial, score: float) -> None:
        """Add to a person another one that has no joint in common with it."""
        for joint, peak in enumerate(other.parts):
            if peak >= 0:
                person.parts[joint] = peak
                holders = self.holders[joint][peak]
                holders[holders.index(other)] = person
        person.count += other.count
        person.total += other.total + score
        del self.people[other.number]

    def touching(self, start: int, end: int, a: int, b: int) -> list[_Partial]:
        """Return the people that hold the start or the end of a connection, the eldest first."""
        one, other = self.holders[start][a], self.holders[end][b]
        if len(one) + len(other) < 2:
            return one or other
        return sorted({*one, *other}, key=lambda person: person.number)


def assemble(
    connections: Connections, peak_scores: NDArray[np.float32], skeleton: Skeleton, settings: DecoderSettings
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
    parts, totals = (_join_compiled if compiled.in_use else _join)(connections, peak_scores, skeleton, settings)
    return parts, np.maximum(1 - 1 / np.maximum(totals, 1e-6), 0).astype(np.float32)


def _join_compiled(
    connections: Connections, peak_scores: NDArray[np.float32], skeleton: Skeleton, settings: DecoderSettings
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Return the parts (P, K) and the total scores (P,) of the people, best first."""
    joints, most = peak_scores.shape
    indices, totals = compiled.native.assemble(
        np.ascontiguousarray(connections.pairs, np.intp),
        np.ascontiguousarray(connections.scores, np.float32),
        np.ascontiguousarray(peak_scores, np.float32),
        skeleton.limb_starts,
        skeleton.limb_ends,
        bytes(limb in skeleton.redundant for limb in range(len(skeleton.limbs))),
        *(len(connections.scores), joints, most, len(skeleton.limbs), settings.min_joints, settings.min_score),
    )
    return np.frombuffer(indices, np.intp).reshape(-1, joints), np.frombuffer(totals, np.float64)


def _join(
    connections: Connections, peak_scores: NDArray[np.float32], skeleton: Skeleton, settings: DecoderSettings
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Do what `_join_compiled` does."""
    gathering = _Gathering(peak_scores)
    for (limb, a, b), score in zip(connections.pairs.tolist(), connections.scores.tolist(), strict=True):
        start, end = skeleton.limbs[limb]
        touching = gathering.touching(start, end, a, b)
        if not touching:
            if limb not in skeleton.redundant:
                gathering.found(start, end, a, b, score)
        elif len(touching) == 1:
            if touching[0].parts[end] != b:
                gathering.extend(touching[0], end, b, score)
        elif len(touching) == 2:
            if _disjoint(*touching):
                gathering.merge(touching[0], touching[1], score)
            else:
                gathering.extend(touching[0], end, b, score)
    people = gathering.people.values()
    kept = [p for p in people if p.count >= settings.min_joints and p.total >= settings.min_score * p.count]
    kept.sort(key=lambda person: -person.total)
    parts = np.array([person.parts for person in kept], np.intp).reshape(len(kept), len(skeleton.joints))
    return parts, np.array([person.total for person in kept], np.float64)


def _disjoint(one: _Partial, other: _Partial) -> bool:
    """Tell whether no joint is found in both."""
    return all(a < 0 or b < 0 for a, b in zip(one.parts, other.parts, strict=True))
