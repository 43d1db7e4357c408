"""How sure an AP is: bootstrap intervals over pictures, and of the difference of two result sets.

The pictures are drawn anew with replacement, many times, and AP is computed for each draw (Efron, 1979). Matching
people to detections does not depend on which other pictures are there, so it is done once: a draw only weighs each
picture's detections and people by how often the picture was drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import LimbnetError
from limbnet.evaluation.coco import KeypointScores, Matches


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval.

    Attributes:
        value: of the pictures as they are.
        low, high: ends of the percentile interval.
        level: share of draws inside, 0.95 for instance.
        draws: (N,) the value of every draw.
    """

    value: float
    low: float
    high: float
    level: float
    draws: NDArray[np.float64]

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def average_precision(scores: KeypointScores, area: str = "all", weights: NDArray[np.integer] | None = None) -> float:
    """Return AP over all thresholds with each picture counted `weights` (N,) times, once when None; -1 without people.

    With all weights 1 this is pycocotools' number.
    """
    matches = scores.matches[area]
    if weights is None:
        weights = np.ones(len(matches.people), np.int64)
    return _weighted_ap(matches, weights, scores.recalls)


def _weighted_ap(matches: Matches, weights: NDArray[np.integer], recalls: NDArray[np.float64]) -> float:
    people = int(weights @ matches.people)
    if people == 0:
        return -1.0
    counts = weights[matches.image]
    drawn = np.flatnonzero(counts)
    counted = counts[drawn] * ~matches.ignored[:, drawn]
    hits = matches.matched[:, drawn]
    true = np.cumsum(counted * hits, axis=1, dtype=np.float64)
    false = np.cumsum(counted * ~hits, axis=1, dtype=np.float64)
    if not drawn.size:
        return 0.0
    precision = true / np.maximum(true + false, np.spacing(1))
    # The precision at a recall is the best one at this recall or above.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for row, envelope in zip(true / people, precision, strict=True):
        places = np.searchsorted(row, recalls, side="left")
        total += float(envelope[places[places < len(row)]].sum())
    return total / (len(recalls) * len(precision))


def bootstrap_ap(
    scores: KeypointScores, *, draws: int = 1000, level: float = 0.95, area: str = "all", seed: int = 0
) -> Interval:
    """Return AP with its bootstrap interval over pictures."""
    values = [average_precision(scores, area, weights) for weights in draw_weights(len(scores.images), draws, seed)]
    return _interval(average_precision(scores, area), values, level)


def bootstrap_difference(
    first: KeypointScores,
    second: KeypointScores,
    *,
    draws: int = 1000,
    level: float = 0.95,
    area: str = "all",
    seed: int = 0,
) -> Interval:
    """Return AP of `second` minus AP of `first`, paired: every draw takes the same pictures for both.

    Raises:
        LimbnetError: the two were not measured on the same pictures.
    """
    if first.images != second.images:
        raise LimbnetError(
            f"The two results were measured on different pictures ({len(first.images)} and {len(second.images)}).",
            "Evaluate both on the same dataset spec.",
        )

    def difference(weights: NDArray[np.int64] | None) -> float:
        return average_precision(second, area, weights) - average_precision(first, area, weights)

    values = [difference(weights) for weights in draw_weights(len(first.images), draws, seed)]
    return _interval(difference(None), values, level)


def draw_weights(images: int, draws: int, seed: int = 0) -> Iterator[NDArray[np.int64]]:
    """Yield how often each picture is drawn, (N,) numbers that add up to N."""
    random = np.random.default_rng(seed)
    for _ in range(draws):
        yield np.bincount(random.integers(0, images, images), minlength=images)


def _interval(value: float, draws: list[float], level: float) -> Interval:
    """Take the percentiles; draws without any person say nothing and are left out."""
    values = np.array([draw for draw in draws if draw > -1.0] or [value])
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high), level, values)
