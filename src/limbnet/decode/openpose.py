"""OpenPose's assembly of people from scored pairs, the best pair of all limbs first, and its thresholds.

Where BodyPoseNet matches limb by limb (`limbnet.decode.assemble`), OpenPose on a GPU takes the pairs of all limbs
together in the order of their scores, so that sure limbs come before doubtful ones wherever they are.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.parts import PartPeaks, PartSettings, enlarge_cubic, find_part_peaks, score_pairs
from limbnet.decode.people import People
from limbnet.skeleton import Skeleton

#: Weight of both parts' values beside a pair's score where pairs are put in order.
PART_WEIGHT = 0.1

#: Names of parts on the feet: seen too often where there are none, they do not count as parts of a person.
FEET = ("toe", "heel")

#: Someone who has feet must have more other parts than this.
FEW_BESIDE_FEET = 4


def decode_parts(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    size: tuple[int, int],
    *,
    offset: float = 0.0,
    settings: PartSettings | None = None,
) -> People:
    """Find the people in the maps of one picture.

    Args:
        heatmaps: (K + 1, h, w) float32 at stride 8, the background last.
        pafs: (2L, h, w) float32, x and y of the skeleton's limbs in their order.
        skeleton: parts and limbs.
        size: (height, width) of the network's input.
        offset: half a pixel of the picture in pixels of the input; OpenPose adds it to all places.
        settings: thresholds; OpenPose's when None.

    Returns:
        The people in pixels of the network's input, best first. Their score is the sum of all part and pair scores over
        the number of parts and limbs.
    """
    settings = settings or PartSettings()
    peaks = find_part_peaks(enlarge_cubic(heatmaps[: len(skeleton.joints)], size), offset, settings)
    scores = score_pairs(pafs, peaks, size, skeleton, settings)
    parts, totals = assemble_pairs(scores, peaks, skeleton)
    kept = keep_people(parts >= 0, totals, skeleton, settings)
    parts, totals = parts[kept], totals[kept] / (len(skeleton.joints) + len(skeleton.limbs))
    best = np.argsort(-totals, kind="stable")
    parts = parts[best]
    joint = np.broadcast_to(np.arange(parts.shape[1]), parts.shape)
    there = parts >= 0
    points, values = np.full((*parts.shape, 2), np.nan, np.float32), np.zeros(parts.shape, np.float32)
    points[there] = peaks.points[joint[there], parts[there]]
    values[there] = peaks.values[joint[there], parts[there]]
    return People(points, values, totals[best].astype(np.float32))


class _Person:
    """A person while it grows: peak of each part, -1 where there is none, and the total of part and pair scores."""

    __slots__ = ("number", "parts", "total")

    def __init__(self, number: int, parts: int) -> None:
        self.number = number
        self.parts = [-1] * parts
        self.total = 0.0


def assemble_pairs(
    scores: NDArray[np.float32], peaks: PartPeaks, skeleton: Skeleton
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Join pairs to people, the best first.

    A pair of parts that nobody has starts a person. A pair of which one part belongs to a person gives it the other, if
    that place is free. A pair within a person adds its score. A pair between two people joins them if they have no part
    in common.

    Args:
        scores: (L, M, M) what `score_pairs` returned.
        peaks: the candidates.
        skeleton: parts and limbs.

    Returns:
        (P, K) number of the peak of each part, -1 where there is none, and (P,) total scores, in the order in which
        people were started.
    """
    limb, first, second = np.nonzero(scores > 1e-6)
    score = scores[limb, first, second]
    values = peaks.values[skeleton.limb_starts[limb], first], peaks.values[skeleton.limb_ends[limb], second]
    rating = score + np.float32(PART_WEIGHT) * values[0] + np.float32(PART_WEIGHT) * values[1]
    order = np.lexsort((second, first, limb, score, rating))[::-1]
    people: dict[int, _Person] = {}
    owner: dict[tuple[int, int], _Person] = {}
    born = 0
    columns = (column[order].tolist() for column in (limb, first, second, score, *values))
    for number, a, b, pair_score, a_value, b_value in zip(*columns, strict=True):
        start, end = skeleton.limbs[number]
        one, other = owner.get((start, a)), owner.get((end, b))
        if one is None and other is None:
            person = people[born] = _Person(born, len(skeleton.joints))
            born += 1
            person.parts[start], person.parts[end] = a, b
            person.total = a_value + b_value + pair_score
            owner[start, a] = owner[end, b] = person
        elif one is None or other is None:
            place, peak, value = (end, b, b_value) if one else (start, a, a_value)
            person = next(holder for holder in (one, other) if holder)
            if person.parts[place] < 0:
                person.parts[place] = peak
                person.total += value + pair_score
                owner[place, peak] = person
        elif one is other:
            one.total += pair_score
        elif not any(p >= 0 and q >= 0 for p, q in zip(one.parts, other.parts, strict=True)):
            elder, younger = (one, other) if one.number < other.number else (other, one)
            for place, peak in enumerate(younger.parts):
                if peak >= 0:
                    elder.parts[place] = peak
                    owner[place, peak] = elder
            elder.total += younger.total + pair_score
            del people[younger.number]
    table = np.array([person.parts for person in people.values()], np.intp).reshape(-1, len(skeleton.joints))
    return table, np.array([person.total for person in people.values()])


def keep_people(
    there: NDArray[np.bool_], totals: NDArray[np.float64], skeleton: Skeleton, settings: PartSettings
) -> NDArray[np.intp]:
    """Return which people have enough parts and score; if nobody has, parts of the feet are counted too.

    Args:
        there: (P, K) which parts each person has.
        totals: (P,) total scores.
        skeleton: names the parts.
        settings: what is enough.
    """
    feet = np.array([any(word in name for word in FEET) for name in skeleton.joints])
    every, beside = there.sum(axis=1), there[:, ~feet].sum(axis=1)
    beside = np.where((every > beside) & (beside <= FEW_BESIDE_FEET), 0, beside)
    for count in (beside, every):
        enough = (count >= settings.min_parts) & (totals >= settings.min_score * count)
        if enough.any():
            return np.flatnonzero(enough)[: settings.max_peaks]
    return np.zeros(0, np.intp)
