"""Where the time of a picture goes: model files taken apart into stages, side by side, on one machine.

Three measurements, each interleaved over everything that is compared. The stages one after the other, batch by batch
(latency); the stages overlapped over many pictures, as `limbnet inference` runs them (throughput); and the decoder
alone, on maps of crowds of known size. With a dataset AP stands beside them, so that the price of speed can be read.
"""

from __future__ import annotations

import logging
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from limbnet.benchmark.crowds import crowd_maps
from limbnet.benchmark.machine import machine
from limbnet.benchmark.pictures import readable, write_synthetic
from limbnet.benchmark.precisions import export_precisions
from limbnet.benchmark.rows import STAGES, Case, Row, Runner, open_row
from limbnet.benchmark.timing import LEAD_IN, Percentiles, in_turn, timed
from limbnet.console import progress
from limbnet.decode.bottomup import decode_maps
from limbnet.errors import LimbnetError, ModelFileError, UsageError
from limbnet.evaluation.coco import KeypointScores
from limbnet.evaluation.dataset import TestData, load_test_data
from limbnet.export.accuracy import strict_scores
from limbnet.models.filekinds import FileKind, read_model_file, recognise
from limbnet.runtime.signature import Precision
from limbnet.skeleton import Skeleton
from limbnet.specs.dataset import DatasetSpec

log = logging.getLogger(__name__)

#: Rounds of the stream, which are long ones.
STREAM_ROUNDS = 5


@dataclass(frozen=True)
class ProfileSettings:
    """What to measure.

    Attributes:
        engines: runtimes to run every file on; None in the list stands for the one that suits the file.
        precisions: checkpoints are exported in them, and measured beside what was given.
        sizes: (height, width) of the network's input; the model's own when empty.
        batches: pictures in one run of the network.
        output_stages: refinement stages whose maps are used, for checkpoints; None stands for the last.
        people: sizes of the crowds that are decoded.
        rounds: at most so many rounds of the stages and of the decoder.
        seconds: no further round of a measurement starts after so long.
        stream_seconds: about how long each of the stream's rounds takes for a row.
        threads: CPU threads of the network, the default of `cpu_threads` when None.
        device: `cpu`, `cuda`, ...; the best that the runtime has when None.
    """

    engines: tuple[str | None, ...] = (None,)
    precisions: tuple[Precision, ...] = ()
    sizes: tuple[tuple[int, int], ...] = ()
    batches: tuple[int, ...] = (1,)
    output_stages: tuple[int | None, ...] = (None,)
    people: tuple[int, ...] = (1, 10, 30)
    rounds: int = 50
    seconds: float = 60.0
    stream_seconds: float = 1.0
    threads: int | None = None
    device: str | None = None


@dataclass(frozen=True)
class DecodeTime:
    """Time of the decoder for a crowd: maps of one skeleton, stride and input size, and the people it found in them."""

    skeleton: str
    stride: int
    size: tuple[int, int]
    people: int
    found: int
    spent: Percentiles


@dataclass
class Profile:
    """Everything that was measured.

    Attributes:
        settings: what was asked for.
        pictures: what was looked at, in words.
        rows: one for each case, in the order of models, engines, sizes and batches.
        decoding: the decoder alone.
        machine: what it was measured on, before the first round.
    """

    settings: ProfileSettings
    pictures: str
    rows: list[Row]
    decoding: list[DecodeTime] = field(default_factory=list)
    machine: dict[str, Any] = field(default_factory=dict)

    @property
    def ran(self) -> list[Row]:
        """The rows that could run."""
        return [row for row in self.rows if not row.reason]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "machine": self.machine,
            "settings": asdict(self.settings),
            "pictures": self.pictures,
            "rows": [row.to_dict() for row in self.rows],
            "decoding": [asdict(one) for one in self.decoding],
        }


def profile(
    models: Sequence[Path],
    settings: ProfileSettings,
    *,
    pictures: Sequence[Path] | None = None,
    dataset: DatasetSpec | None = None,
    key: str | None = None,
) -> Profile:
    """Measure model files against one another.

    Args:
        models: files of any kind that an engine opens.
        settings: what to measure.
        pictures: what to look at; a synthetic picture when None.
        dataset: its test data give AP, with padded pictures as they are measured.
        key: opens encrypted files.

    Raises:
        ModelFileError: a file is missing; all that are, are named. Or it cannot be exported.
        UsageError: there is nothing to export, nothing to calibrate with, or no engine that runs exports.
        LimbnetError: not a single row could run; every reason is given.
    """
    _check_files(models)
    _check_engines(settings)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if pictures is None:
            if "int8" in settings.precisions:
                raise UsageError("INT8 needs pictures to calibrate with.", "Give a folder of them with --input.")
            path, described = write_synthetic(folder)
            chosen = [path]
        else:
            chosen = readable(pictures)
            described = "1 picture" if len(chosen) == 1 else f"{len(chosen)} pictures"
        if settings.precisions:
            size = settings.sizes[0] if settings.sizes else None
            models = [*models, *export_precisions(
                models, settings.precisions, folder / "exported", chosen, size=size, key=key, threads=settings.threads
            )]  # fmt: skip
        result = Profile(settings, described, [], machine=machine())
        runners = _open(models, settings, chosen, key, result.rows)
        data = {} if dataset is None else {s: load_test_data(dataset, s) for s in _skeletons(runners)}
        _measure_stages(runners, settings)
        _measure_streams(runners, settings)
        result.decoding = _measure_decoding(runners, settings)
        _measure_ap(runners, data)
    return result


Runners = list[tuple[Row, Runner]]


def _check_files(models: Sequence[Path]) -> None:
    problems = []
    for path in models:
        try:
            recognise(path)
        except LimbnetError as error:
            problems.append(error.what)
    if problems:
        raise ModelFileError("\n  ".join(problems))
    if not models:
        raise UsageError("No model was named.")


def _open(
    models: Sequence[Path], settings: ProfileSettings, pictures: Sequence[Path], key: str | None, rows: list[Row]
) -> Runners:
    """Open every case and append its row; return those that run."""
    with _devices_unsaid():
        cases = list(_cases(models, settings, key))
    runners = []
    with _bar("opening", len(cases)) as advance, _devices_unsaid():
        for case in cases:
            row, runner = open_row(case, pictures, key=key, device=settings.device, threads=settings.threads)
            rows.append(row)
            if runner is not None:
                runners.append((row, runner))
            advance()
    if not runners:
        reasons = dict.fromkeys(f"{row.case.model} at {row.case.size_text}: {row.reason}" for row in rows)
        raise LimbnetError("Nothing could be measured:\n  " + "\n  ".join(reasons))
    return runners


def _cases(models: Sequence[Path], settings: ProfileSettings, key: str | None) -> Iterator[Case]:
    names = [path.name for path in models]
    for path in models:
        name = path.name if names.count(path.name) == 1 else str(path)
        for engine in _engines(path, settings, key):
            for size in settings.sizes or (_own_size(path, engine, settings, key),):
                for stage in settings.output_stages:
                    for batch in settings.batches:
                        yield Case(name, path, engine, size, batch, stage)


def _engines(path: Path, settings: ProfileSettings, key: str | None) -> tuple[str | None, ...]:
    """Return the engines that a model is measured on.

    Where checkpoints were exported, torch runs them and the other engines run their exports.
    """
    if not settings.precisions or None in settings.engines:
        return settings.engines
    for_torch = read_model_file(path, key)[0] is FileKind.LIMBNET
    return tuple(engine for engine in settings.engines if (engine == "torch") == for_torch)


def _check_engines(settings: ProfileSettings) -> None:
    """Refuse to export what no engine would run.

    Raises:
        UsageError: precisions are asked for, and torch is the only engine.
    """
    if settings.precisions and set(settings.engines) == {"torch"}:
        raise UsageError(
            "torch runs checkpoints as they are, not what --precision exports.",
            "Name an engine for the exports too, for instance --engine torch,onnxruntime, or leave --precision out.",
        )


def _own_size(path: Path, engine: str | None, settings: ProfileSettings, key: str | None) -> tuple[int, int]:
    """Return the input size that a model prefers; (0, 0) where it cannot be opened: its row will say why."""
    from limbnet.runtime.load import load_engine

    try:
        opened = load_engine(path, key=key, device=settings.device, engine=engine, threads=settings.threads)
    except LimbnetError:
        return 0, 0
    return opened.fixed_size or opened.info.input_size


def _measure_stages(runners: Runners, settings: ProfileSettings) -> None:
    with _bar("stages", settings.rounds + 1) as advance:
        rounds = in_turn(
            [runner.stages for _, runner in runners],
            rounds=settings.rounds, seconds=settings.seconds, warm_up=1, lead_in=LEAD_IN, on_round=advance,
        )  # fmt: skip
    for (row, _), spent in zip(runners, rounds, strict=True):
        row.stages = {name: Percentiles.of([one[name] for one in spent]) for name in STAGES}


def _measure_streams(runners: Runners, settings: ProfileSettings) -> None:
    for row, runner in runners:
        row.stream_pictures = runner.stream_count(settings.stream_seconds, row.stages["end to end"].p50 / 1000)
    with _bar("stream", STREAM_ROUNDS) as advance:
        rounds = in_turn(
            [partial(runner.stream, row.stream_pictures) for row, runner in runners],
            rounds=STREAM_ROUNDS, seconds=settings.seconds, warm_up=0, on_round=advance,
        )  # fmt: skip
    for (row, _), spent in zip(runners, rounds, strict=True):
        row.stream = row.stream_pictures / statistics.median(spent)


def _measure_decoding(runners: Runners, settings: ProfileSettings) -> list[DecodeTime]:
    """Time the host's decoder on crowds, for every skeleton and size whose maps some row decodes on the host."""
    kinds = dict.fromkeys(
        (runner.engine.info.skeleton, runner.engine.info.stride, runner.case.size, runner.engine.info.decoder)
        for _, runner in runners
        if runner.gives_maps
    )
    crowds = [(kind, people) for kind in kinds for people in settings.people]
    steps: list[Callable[[], float]] = []
    found = []
    for (skeleton, stride, size, decoder), people in crowds:
        decode = partial(decode_maps, *crowd_maps(people, skeleton, size, stride), skeleton, stride, decoder)
        found.append(len(decode()))
        steps.append(timed(decode))
    with _bar("decoding", settings.rounds + 2) as advance:
        rounds = in_turn(steps, rounds=settings.rounds, seconds=settings.seconds, lead_in=LEAD_IN, on_round=advance)
    return [
        DecodeTime(kind[0].name, kind[1], kind[2], people, count, Percentiles.of(spent))
        for (kind, people), count, spent in zip(crowds, found, rounds, strict=True)
    ]


def _measure_ap(runners: Runners, data: dict[Skeleton, TestData]) -> None:
    """Evaluate each model once for each size; batches share the scores."""
    known: dict[Case, KeypointScores] = {}
    for row, runner in runners:
        test = data.get(runner.engine.info.skeleton)
        if test is None:
            continue
        case = replace(row.case, batch=1)
        if case not in known:
            known[case] = strict_scores(runner.engine, test, case.size)
        kpis = known[case].kpis()
        row.ap = {name: kpis[f"AP_0.50:0.95_{name}"] for name in ("all", "medium", "large")}


def _skeletons(runners: Runners) -> set[Skeleton]:
    return {runner.engine.info.skeleton for _, runner in runners}


@contextmanager
def _devices_unsaid() -> Iterator[None]:
    """Keep each engine from logging its device: the tables name it."""
    devices = logging.getLogger("limbnet.devices")
    level = devices.level
    devices.setLevel(logging.WARNING)
    try:
        yield
    finally:
        devices.setLevel(level)


@contextmanager
def _bar(title: str, total: int) -> Iterator[Callable[[], None]]:
    with progress() as bars:
        task = bars.add_task(title, total=total)
        yield lambda: bars.advance(task)
