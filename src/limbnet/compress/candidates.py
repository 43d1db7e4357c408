"""Candidates: what was measured of each compressed network, what a budget asks for, and which one is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from limbnet.errors import LimbnetError, UsageError
from limbnet.runtime.signature import Precision


@dataclass(frozen=True)
class Candidate:
    """One network in one precision, measured.

    Attributes:
        keep: share of the multiply-adds that pruning was asked to leave; 1 is the network as it was given.
        threshold: of the pruning.
        precision: of the file.
        weights: the checkpoint, relative to the results folder.
        file: the file that was measured, relative to the results folder.
        parameters: batch norm's statistics included.
        multiply_adds: of one picture at the input size.
        size: of the file, in bytes.
        ap: on the dataset's test data, in strict mode, on the named engine.
        ap_difference: to the unpruned float network on the same engine.
        ap_interval: 95 % bootstrap interval of that difference, paired by picture.
        latency: median milliseconds of one picture, timed in turn with all others; None before it was timed.
    """

    keep: float
    threshold: float
    precision: Precision
    weights: str
    file: str
    parameters: int
    multiply_adds: int
    size: int
    ap: float
    ap_difference: float
    ap_interval: tuple[float, float]
    latency: float | None = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{'unpruned' if self.keep == 1 else f'{self.keep:.3g} kept'} {self.precision}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"ap_interval": list(self.ap_interval)}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Candidate:
        """Rebuild from `to_dict`."""
        low, high = content["ap_interval"]
        return cls(**content | {"ap_interval": (float(low), float(high))})


@dataclass(frozen=True)
class Budget:
    """What the chosen network may cost, and what it may lose. Exactly one of the first two is given.

    Attributes:
        latency: milliseconds for one picture on the named engine.
        parameters: batch norm's statistics included.
        max_ap_drop: AP that it may lose against the network as it was given.
    """

    latency: float | None = None
    parameters: int | None = None
    max_ap_drop: float = 0.02

    def __post_init__(self) -> None:
        if (self.latency is None) == (self.parameters is None):
            raise UsageError("Compression needs one budget.", "Give either --latency MS or --parameters N.")

    def __str__(self) -> str:
        return f"{self.latency:g} ms" if self.latency is not None else f"{self.parameters:,} parameters"

    def excess(self, candidate: Candidate) -> float:
        """Return how many times the budget a candidate costs; up to 1 is within it."""
        if self.latency is not None:
            assert candidate.latency is not None  # timed before it is judged
            return candidate.latency / self.latency
        assert self.parameters is not None
        return candidate.parameters / self.parameters

    def met_by(self, candidate: Candidate) -> bool:
        """Tell whether a candidate is within the budget, whatever its AP."""
        return self.excess(candidate) <= 1

    def accurate(self, candidate: Candidate) -> bool:
        """Tell whether a candidate loses no more AP than it may."""
        return -candidate.ap_difference <= self.max_ap_drop + 1e-9  # differences of rounded numbers


def choose(candidates: Sequence[Candidate], budget: Budget) -> Candidate:
    """Return the most accurate candidate within the budget, the faster one where AP is equal.

    Raises:
        LimbnetError: none is within the budget and accurate enough; the closest on either side are named.
    """
    within = [one for one in candidates if budget.met_by(one)]
    accurate = [one for one in candidates if budget.accurate(one)]
    both = [one for one in within if budget.accurate(one)]
    if both:
        return max(both, key=lambda one: (one.ap, -(one.latency or 0.0), -one.parameters))
    closest = min(accurate, key=budget.excess)  # the network as it was given loses nothing
    sentences = [
        f"No candidate is within {budget} and loses at most {budget.max_ap_drop:g} AP.",
        f"Of those that lose no more, '{closest.name}' comes closest: {_described(closest)}.",
    ]
    if within:
        best = max(within, key=lambda one: one.ap)
        sentences.append(f"Of those within the budget, '{best.name}' loses least: {_described(best)}.")
    else:
        smallest = min(candidates, key=budget.excess)
        sentences.append(f"None is within the budget; the nearest is '{smallest.name}': {_described(smallest)}.")
    raise LimbnetError(
        " ".join(sentences),
        "Retrain for longer (--epochs), allow a larger loss (--max_ap_drop) or a larger budget. What was measured is "
        "used again by the next command with the same results folder.",
    )


def _described(candidate: Candidate) -> str:
    latency = "" if candidate.latency is None else f"{candidate.latency:.2f} ms, "
    return f"{latency}{candidate.parameters:,} parameters, AP {candidate.ap:.4f} ({candidate.ap_difference:+.4f})"


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Return the timed candidates that no other one beats in both AP and latency, the fastest first."""
    front: list[Candidate] = []
    for one in sorted(candidates, key=lambda one: (one.latency or 0.0, -one.ap)):
        if not front or one.ap > front[-1].ap:
            front.append(one)
    return front
