"""A study: networks of all kinds on the same pictures and the same machine, accuracy against speed.

Rows take turns: in every repetition each row sees all pictures, one after the other, one at a time. Every picture's
times are written down at once, so that a killed study goes on at the row and the picture where it stopped.
"""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from limbnet.benchmark.machine import machine
from limbnet.benchmark.study_data import StudyData, load_study_data, results_of
from limbnet.benchmark.study_log import RowLog
from limbnet.benchmark.study_rows import STEPS, Plan, check_rows, open_row
from limbnet.console import counted, progress
from limbnet.errors import LimbnetError
from limbnet.evaluation.bootstrap import bootstrap_ap
from limbnet.files import write_json
from limbnet.models.zoo import ZooEntry
from limbnet.runtime.refusal import EngineRefusal
from limbnet.specs.study import OWN_MODEL, StudyRow, StudySpec

log = logging.getLogger(__name__)

#: What is said of rows without weights, everywhere.
SPEED_ONLY = "initial weights: speed only"


@dataclass(frozen=True)
class Outcome:
    """What came out for one row.

    Attributes:
        row: its name.
        label: what was run, in words.
        own: whether it is a file of limbnet's own, not a published network.
        top_down: whether it works on person boxes, which a detector must have found before.
        boxes: where those come from.
        weights: `checkpoint`, or that there were none.
        pictures, people: how many pictures, and boxes (top-down) or labelled people (bottom-up) in them.
        fps: pictures over the summed time from file to people, the median of the repetitions: the study's definition.
        fps_range: the slowest and the fastest repetition.
        fps_inference: the same without reading the file: from a picture in memory to people.
        person_ms: milliseconds of `fps_inference` over people.
        steps_ms: milliseconds a picture of every step.
        repetitions: how many there were.
        facts: engine, precision, device, threads, input size, parameters, multiply-adds of one pass.
        memory: bytes at the most, None where the system does not tell.
        ap: the ten numbers by name, empty without weights.
        ap_interval: of AP.
        published_ap: what the authors report, in percent; see docs/study.md before comparing.
        notes: what a reader must know.
    """

    row: str
    label: str
    own: bool
    top_down: bool
    boxes: str
    weights: str
    pictures: int
    people: int
    fps: float
    fps_range: tuple[float, float]
    fps_inference: float
    person_ms: float | None
    steps_ms: dict[str, float]
    repetitions: int
    facts: dict[str, Any]
    memory: int | None
    ap: dict[str, float] = field(default_factory=dict)
    ap_interval: tuple[float, float] | None = None
    published_ap: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def accuracy(self) -> float | None:
        """AP, None without weights."""
        return self.ap.get("AP_0.50:0.95_all")


@dataclass(frozen=True)
class Refused:
    """A row whose runtime cannot run its network.

    Attributes:
        row: its name.
        label: what was to be run, in words.
        engine: the runtime, with its version where that counts.
        precision: of the network.
        operators: those that the runtime names as the reason; none where it names none.
        reason: what it said about them.
        said: all that it said.
    """

    row: str
    label: str
    engine: str
    precision: str
    operators: tuple[str, ...]
    reason: str
    said: str


@dataclass(frozen=True)
class Study:
    """Everything that was measured: the rows, those that cannot run, and on what."""

    outcomes: list[Outcome]
    pictures: int
    repetitions: int
    boxes_from: str
    machine: dict[str, Any]
    refused: list[Refused] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def run_study(
    spec: StudySpec,
    folder: Path,
    *,
    key: str | None = None,
    device: str | None = None,
    overwrite: bool = False,
    allow_missing: bool = False,
) -> Study:
    """Run what a study asks for, or what is left of it, and sum it up.

    Args:
        spec: the study.
        folder: keeps a file of measurements for every row, in `rows/`.
        key: opens encrypted model files.
        device: in the place of the study's.
        overwrite: forget what the folder holds.
        allow_missing: published networks whose weight files are missing run with initial weights.

    Raises:
        LimbnetError: of any kind; before the first row runs, where it can be seen by then.
    """
    data = load_study_data(spec)
    plans = check_rows(spec, device, allow_missing)
    here = machine()
    logs = [RowLog(folder / "rows" / f"{plan.row.row}.jsonl", plan.identity(data, here), overwrite) for plan in plans]
    _refuse_others(logs)
    if data.detections is not None and spec.synthetic_detections is not None:
        made_up = results_of(data.detections, data.spec.category.id)
        write_json(folder / "synthetic_detections.json", made_up, indent=None)
    refused = _measure(plans, logs, data, spec.repetitions, key)
    ran = [(plan, one) for plan, one in zip(plans, logs, strict=True) if plan.row.row not in refused]
    if not ran:
        reasons = [f"row {name}: {one.engine}: {one.reason}" for name, one in refused.items()]
        raise LimbnetError("No row of the study can run:\n  " + "\n  ".join(reasons), "Choose other engines.")
    outcomes = [_sum_up(plan, one, data, spec) for plan, one in ran]
    return Study(outcomes, len(data), spec.repetitions, data.boxes_from, here, list(refused.values()))


def _refuse_others(logs: Sequence[RowLog]) -> None:
    """Raise a `LimbnetError` where files hold measurements of other rows; say how many there are of these."""
    changed = [f"row {one.path.stem}: {'; '.join(one.conflicts)}" for one in logs if one.conflicts]
    if changed:
        raise LimbnetError(
            f"'{logs[0].path.parent.parent}' holds measurements of other rows:\n  " + "\n  ".join(changed),
            "Choose another folder with -r, or begin anew with --overwrite.",
        )
    kept = sum(len(one.lines) for one in logs)
    if kept:
        log.info("Going on: %s measured before.", counted(kept, "picture was", "pictures were"))


def _measure(
    plans: Sequence[Plan], logs: Sequence[RowLog], data: StudyData, repetitions: int, key: str | None
) -> dict[str, Refused]:
    """Take every row through what is left of every repetition; return the rows that cannot run, by name."""
    refused: dict[str, Refused] = {}
    with progress("{task.fields[row]}") as bars:
        task = bars.add_task("study", total=len(plans) * repetitions * len(data), row="")
        for repetition in range(repetitions):
            for plan, one in zip(plans, logs, strict=True):
                name = plan.row.row
                left = [place for place in data.places if not one.done(repetition, data.coco.images[place].id)]
                bars.update(task, advance=len(data) - len(left), row=f"row {name}")
                if not left or name in refused:
                    bars.advance(task, len(left))
                    continue
                try:
                    for line in _measured(plan, one, data, left, key):
                        one.add(repetition, line)
                        bars.advance(task)
                except EngineRefusal as refusal:
                    refused[name] = _refused(plan, refusal)
                    bars.advance(task, len(left))
                    log.warning("Row %s cannot run on %s: %s", name, refusal.engine, refusal.reason)
    return refused


def _refused(plan: Plan, refusal: EngineRefusal) -> Refused:
    row = plan.row
    return Refused(
        row.row, label_of(row), refusal.engine, row.precision, refusal.operators, refusal.reason, refusal.said
    )


def _measured(
    plan: Plan, row_log: RowLog, data: StudyData, places: Sequence[int], key: str | None
) -> Iterator[dict[str, Any]]:
    """Open a row, take it through pictures, and close it, so that no row's memory is in another's way."""
    opened = open_row(plan, data, row_log.path.parent.parent / "exported", key)
    opened.warm_up(data, places[0])
    with row_log.opened(opened.facts):
        for place in places:
            yield opened.measure(data, place)


def _sum_up(plan: Plan, row_log: RowLog, data: StudyData, spec: StudySpec) -> Outcome:
    row, entry = plan.row, plan.row.entry
    rounds = [[row_log.lines[repetition, image.id] for image in data.images] for repetition in range(spec.repetitions)]
    inference = [sum(line[step] for line in lines for step in STEPS[1:]) for lines in rounds]
    whole = [total + sum(line["read"] for line in lines) for total, lines in zip(inference, rounds, strict=True)]
    count, people = len(data), sum(line["people"] for line in rounds[0])
    memory = [line["memory"] for lines in rounds for line in lines]
    ap, interval = {}, None
    if plan.has_weights:
        scores = data.evaluate([pose for line in rounds[0] for pose in line["poses"]])
        ap = scores.kpis()
        if spec.bootstrap:
            drawn = bootstrap_ap(scores, draws=spec.bootstrap, seed=spec.seed)
            interval = (drawn.low, drawn.high)
    synthetic = row.boxes == "detected" and spec.synthetic_detections is not None
    return Outcome(
        row=row.row,
        label=label_of(row),
        own=entry is None,
        top_down=row.top_down,
        boxes="synthetic" if synthetic else (row.boxes or "").replace("_", " "),
        weights="checkpoint" if plan.has_weights else SPEED_ONLY,
        pictures=count,
        people=people,
        fps=count / statistics.median(whole),
        fps_range=(count / max(whole), count / min(whole)),
        fps_inference=count / statistics.median(inference),
        person_ms=1000 * statistics.median(inference) / people if people else None,
        steps_ms={
            step: 1000 * statistics.median(sum(line[step] for line in lines) / count for lines in rounds)
            for step in STEPS
        },
        repetitions=len(rounds),
        facts=row_log.facts,
        memory=None if None in memory else max(memory),
        ap=ap,
        ap_interval=interval,
        published_ap=None if entry is None else _published(entry, row),
        notes=_notes(plan, synthetic, row_log.facts.get("from_torch")),
    )


def label_of(row: StudyRow) -> str:
    """Say what a row runs: the system, its input where it is not the published one, boxes, scales, flip."""
    entry = row.entry
    parts = [entry.system if entry else (row.checkpoint.name if row.checkpoint else OWN_MODEL)]
    size = row.input_size or (entry.input_size if entry and row.top_down else None)
    if size is not None:
        parts[0] += f" {size[0]}x{size[1]}"
    elif entry is not None and entry.head in ("tag_maps", "offset_maps"):
        parts[0] += f" {min(entry.input_size or (0,))}"
    if row.boxes is not None:
        parts.append("true boxes" if row.boxes == "ground_truth" else "detected boxes")
    if row.scales != (1.0,):
        parts.append("scales " + " ".join(f"{scale:g}" for scale in row.scales))
    if row.flip:
        parts.append("flip")
    if row.engine not in (None, "torch") or row.precision != "fp32":
        parts.append(f"{row.engine or ''} {row.precision}".strip())
    return ", ".join(parts)


def _published(entry: ZooEntry, row: StudyRow) -> float | None:
    """Return the published AP that comes closest to a row: its boxes and scales; authors flip."""
    if row.input_size not in (None, entry.input_size):
        return None
    if row.boxes == "ground_truth":
        return entry.published.ap_true_boxes
    if row.scales == (1.0,):
        return entry.published.ap
    return entry.published.ap_multi_scale if sorted(row.scales) == [0.5, 1.0, 2.0] else None


def _notes(plan: Plan, synthetic: bool, from_torch: Mapping[str, float] | None) -> tuple[str, ...]:
    row, notes = plan.row, []
    if not plan.has_weights:
        notes.append(f"{SPEED_ONLY}; decoding timed on maps drawn from the ground truth")
    if synthetic:
        notes.append("boxes made up, no detector's")
    if row.entry is not None and row.entry.head == "offset_maps" and row.rescoring is None:
        notes.append("not rescored")
    if row.entry is not None and row.precision == "int8":
        notes.append("INT8 ranges from the study's own pictures")
    if from_torch is not None:
        largest, mean = from_torch["largest"], from_torch["mean"]
        notes.append(f"off torch's fp32 by {largest:.1e} of the range at most, {mean:.1e} on average")
    return tuple(notes)


def pareto_front(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Return the rows that no other one beats, by rising AP: none is at least as exact and as fast, and better in one.

    Rows without AP take no part.
    """
    known = [(one.accuracy, one.fps, one) for one in outcomes if one.accuracy is not None]
    front: list[Outcome] = []
    fastest = 0.0
    for _, fps, one in sorted(known, key=lambda each: (-each[0], -each[1])):
        if fps > fastest:
            front.append(one)
            fastest = fps
    return front[::-1]
