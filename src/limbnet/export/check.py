"""The check behind every export: the written file against torch, on real pictures, in maps and in people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.people import People
from limbnet.errors import ModelFileError
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Engine, Maps
from limbnet.runtime.signature import Precision

#: Largest deviation that is the rounding of the precision and no mistake, as a share of the map's range. INT8 has none:
#: what it costs is for `max_ap_drop` to judge.
TOLERANCES: dict[Precision, float] = {"fp32": 1e-4, "fp16": 2e-2}

#: A joint that moved by more than this many pixels of the network's input counts as moved.
MOVED = 1.0

#: How far a graph's decoder may be from the host's on the maps of another run of the network: pixels of the input, and
#: the share by which maps are changed to tell a tie from a mistake. Between two runs a runtime may round float16, or to
#: int8, in other places: one with the decoder behind it, one without.
SAME: dict[Precision, tuple[float, float]] = {"fp32": (0.05, 1e-5), "fp16": (0.5, 1e-3), "int8": (0.5, 1e-3)}

#: How often maps are changed.
TRIALS = 8

#: What became of a picture's people in a graph's decoder.
Agreement = Literal["same", "tie", "different"]

#: How near its threshold a value may lie to be called a tie, as a share of the threshold.
TIE = 0.02


@dataclass
class Deviation:
    """How far an exported file is from torch on the same pictures.

    Attributes:
        engine: what ran the file.
        pictures: how many were compared.
        heatmaps, pafs: largest and mean absolute deviation, as shares of the maps' range over all pictures.
        people: people found by torch and by the file.
        joints: joints that both found on the same person.
        moved: of these, how many lie more than a pixel apart.
        largest_move: in pixels of the network's input.
        lost, gained: joints that only torch, only the file found, on people matched or not.
        ties: of those, the ones whose heatmap value lies within 2 % of the decoder's threshold: picture, joint, value.
        decoded: where the file decodes inside its graph, what became of each picture, by name: whether its people are
            the ones that the host finds on the same maps. None for a file that returns maps.
    """

    engine: str
    pictures: int = 0
    heatmaps: dict[str, float] = field(default_factory=lambda: {"largest": 0.0, "mean": 0.0})
    pafs: dict[str, float] = field(default_factory=lambda: {"largest": 0.0, "mean": 0.0})
    people: tuple[int, int] = (0, 0)
    joints: int = 0
    moved: int = 0
    largest_move: float = 0.0
    lost: int = 0
    gained: int = 0
    ties: list[tuple[str, str, float]] = field(default_factory=list)
    decoded: dict[str, Agreement] | None = None

    @property
    def largest(self) -> float:
        """The larger one of both maps' largest deviations."""
        return max(self.heatmaps["largest"], self.pafs["largest"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"people": list(self.people), "ties": [list(tie) for tie in self.ties]}

    def __str__(self) -> str:
        return (
            f"{self.engine} against torch on {self.pictures} pictures: largest deviation {self.largest:.1e} of the "
            f"range, mean {max(self.heatmaps['mean'], self.pafs['mean']):.1e}; {self.people[1]} people "
            f"({self.people[0]} in torch), {self.moved} of {self.joints} joints moved by more than a pixel, "
            f"{self.lost} lost, {self.gained} gained{self._decoded_text()}"
        )

    def _decoded_text(self) -> str:
        if self.decoded is None:
            return ""
        found = list(self.decoded.values())
        ties = f" ({found.count('tie')} more but for a tie)" if "tie" in found else ""
        return f"; decoded in the graph: the host's people in {found.count('same')} of {len(found)} pictures{ties}"


def compare(
    reference: Engine,
    engine: Engine,
    pictures: Sequence[tuple[str, NDArray[np.uint8]]],
    batch: int = 1,
    *,
    decoder: Engine | None = None,
    precision: Precision = "fp32",
) -> Deviation:
    """Run both engines on pictures that fill the network's input and compare.

    Args:
        reference: torch.
        engine: the exported network; returns maps.
        pictures: (name, (H, W, 3) uint8 RGB), all of one size.
        batch: pictures in one run.
        decoder: the same network on the same runtime, decoding inside its graph, when that is what was exported: the
            people are then its.
        precision: of the exported network.
    """
    deviation = Deviation(engine.name, pictures=len(pictures), decoded=None if decoder is None else {})
    heatmaps, pafs = Difference("heatmaps"), Difference("pafs")
    for start in range(0, len(pictures), batch):
        part = pictures[start : start + batch]
        images = np.stack([image for _, image in part])
        expected, found = _maps(reference, images), _maps(engine, images)
        heatmaps.add(expected.heatmaps, found.heatmaps, engine)
        pafs.add(expected.pafs, found.pafs, engine)
        answer = found if decoder is None else decoder.run(images)
        for index, (name, _) in enumerate(part):
            people = answer.people(index, engine.info, engine.info.decoder)
            _compare_people(
                deviation, name, expected.people(index, engine.info, engine.info.decoder), people, engine.info
            )
            if deviation.decoded is not None:
                deviation.decoded[name] = agreement(found, index, people, engine.info, precision)
    deviation.heatmaps, deviation.pafs = heatmaps.shares(), pafs.shares()
    return deviation


class Named(Protocol):
    """What ran a network."""

    @property
    def name(self) -> str: ...  # noqa: D102


class Difference:
    """Collects how far one kind of map is from torch's.

    Args:
        kind: what messages call it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.largest = self.total = 0.0
        self.count = 0
        self.low, self.high = np.inf, -np.inf

    def add(self, expected: NDArray[np.float32], found: NDArray[np.float32], engine: Named) -> None:
        """Take in one more pair; a `ModelFileError` where `found` is not finite."""
        difference = np.abs(expected - found)
        if not np.isfinite(difference).all():
            raise ModelFileError(f"{engine.name} returns {self.kind} that are not finite.", "Export in fp32.")
        self.low, self.high = min(self.low, float(expected.min())), max(self.high, float(expected.max()))
        self.largest = max(self.largest, float(difference.max()))
        self.total += float(difference.sum(dtype=np.float64))
        self.count += difference.size

    def shares(self) -> dict[str, float]:
        """Largest and mean difference over the range of torch's maps."""
        span = (self.high - self.low) or 1.0
        return {"largest": self.largest / span, "mean": self.total / max(self.count, 1) / span}


def check_tolerance(deviation: Deviation, precision: Precision) -> None:
    """Raise a `ModelFileError` when a float file is further from torch than its precision explains."""
    allowed = TOLERANCES.get(precision)
    if allowed is not None and deviation.largest > allowed:
        raise ModelFileError(
            f"The {precision} file is not what torch computes: the largest deviation is {deviation.largest:.1e} of the "
            f"maps' range, {allowed:.0e} is allowed. Nothing was written.",
            "Export fp32, or train with a smaller learning rate: the network's values leave the range of float16."
            if precision == "fp16"
            else "This is a mistake in the export: please report it with the model.",
        )


def _maps(engine: Engine, images: NDArray[np.uint8]) -> Maps:
    output = engine.run(images)
    assert isinstance(output, Maps)  # engines of exported maps return maps
    return output


def agreement(maps: Maps, index: int, people: People, info: ModelInfo, precision: Precision = "fp32") -> Agreement:
    """Tell whether people are the ones that the host finds on maps.

    It is a tie when they are not, but the host too finds others as soon as its maps change by the rounding of the
    precision: then a decision hangs on less than that.
    """
    settings, (pixels, rounding) = info.decoder, SAME[precision]
    expected = maps.people(index, info, settings)
    if same_people(expected, people, pixels):
        return "same"
    rng = np.random.default_rng(0)
    heatmaps, pafs = maps.heatmaps[index : index + 1], maps.pafs[index : index + 1]
    for _ in range(TRIALS):
        nudged = [
            one * rng.uniform(1 - rounding, 1 + rounding, one.shape).astype(np.float32) for one in (heatmaps, pafs)
        ]
        if not same_people(expected, Maps(nudged[0], nudged[1]).people(0, info, settings), pixels):
            return "tie"
    return "different"


def same_people(one: People, other: People, pixels: float) -> bool:
    """Tell whether two results hold the same people with the same joints, at most so many pixels apart."""
    pairs = match_people(one.keypoints, other.keypoints)
    if not len(one) == len(other) == len(pairs):
        return False
    first, second = (people.keypoints[[pair[side] for pair in pairs]] for side, people in enumerate((one, other)))
    return bool(np.allclose(first, second, rtol=0, atol=pixels, equal_nan=True))


def check_decoding(deviation: Deviation) -> None:
    """Raise a `ModelFileError` when a file that decodes inside its graph finds other people than the host."""
    wrong = [name for name, found in (deviation.decoded or {}).items() if found == "different"]
    if wrong:
        raise ModelFileError(
            f"The file finds other people on {deviation.engine} than the host's decoder does on the same maps, in "
            f"{', '.join(wrong)}. Nothing was written.",
            "Export with --decode none, and please report it with the model: this is a mistake in the export.",
        )


def _compare_people(deviation: Deviation, picture: str, before: People, after: People, info: ModelInfo) -> None:
    """Match the people of one picture and count what became of their joints."""
    deviation.people = (deviation.people[0] + len(before.keypoints), deviation.people[1] + len(after.keypoints))
    single_before, single_after = np.isfinite(before.keypoints[..., 0]), np.isfinite(after.keypoints[..., 0])
    for first, second in match_people(before.keypoints, after.keypoints):
        distance = np.linalg.norm(before.keypoints[first] - after.keypoints[second], axis=-1)
        both = np.isfinite(distance)
        deviation.joints += int(both.sum())
        deviation.moved += int((distance[both] > MOVED).sum())
        deviation.largest_move = max(deviation.largest_move, float(distance[both].max(initial=0.0)))
        single_before[first] &= ~both
        single_after[second] &= ~both
    deviation.lost += int(single_before.sum())
    deviation.gained += int(single_after.sum())
    threshold = info.decoder.heatmap_threshold
    for people, single in ((before, single_before), (after, single_after)):
        for person, joint in zip(*np.nonzero(single), strict=True):
            value = float(people.joint_scores[person, joint])
            if abs(value - threshold) <= TIE * threshold:
                deviation.ties.append((picture, info.skeleton.joints[joint], round(value, 6)))


def match_people(first: NDArray[np.floating], second: NDArray[np.floating]) -> list[tuple[int, int]]:
    """Pair people of two results by the mean distance of their common joints, nearest first, each once.

    Args:
        first: (P, K, 2), NaN for a missing joint.
        second: likewise, of P' people.
    """
    if not len(first) or not len(second):
        return []
    distance = np.linalg.norm(first[:, None] - second[None], axis=-1)  # (P, P', K)
    common = np.isfinite(distance).sum(axis=-1)
    cost = np.where(common > 0, np.nansum(distance, axis=-1) / np.maximum(common, 1), np.inf)
    pairs: list[tuple[int, int]] = []
    while np.isfinite(cost).any():
        a, b = (int(place) for place in np.unravel_index(np.argmin(cost), cost.shape))
        pairs.append((a, b))
        cost[a], cost[:, b] = np.inf, np.inf
    return pairs
