"""The search: prune to falling shares of the multiply-adds, retrain each, quantise, measure; then look where it counts.

The ladder of shares is measured first. If nothing on it meets the budget, smaller networks follow until one does or
nothing is left to prune; then shares between the last one that was too dear and the first one that was not. Every
finished step is written down, and used again when the same command is repeated.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limbnet.benchmark.timing import medians
from limbnet.compress.candidates import Budget, Candidate, choose
from limbnet.compress.report import check_charts, write_report
from limbnet.compress.steps import Steps
from limbnet.compress.thresholds import threshold_for
from limbnet.data.calibration import choose_pictures, find_pictures
from limbnet.errors import LimbnetError, UsageError
from limbnet.evaluation.bootstrap import bootstrap_difference
from limbnet.evaluation.coco import KeypointScores
from limbnet.evaluation.dataset import load_test_data
from limbnet.export.accuracy import strict_scores
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.files import write_bytes
from limbnet.geometry import check_input_size
from limbnet.models.checkpoint import load_model, save_model
from limbnet.models.counting import count_cost
from limbnet.pruning import PruneSettings, prune
from limbnet.runtime.engine import Engine
from limbnet.runtime.load import load_engine
from limbnet.runtime.signature import Precision
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.optimiser import CosineSchedule
from limbnet.specs.train import FinetuningConfig, TrainSpec
from limbnet.training.checkpoints import flattened
from limbnet.training.loop import train

log = logging.getLogger(__name__)

EngineName = Literal["openvino", "onnxruntime", "torch"]

#: Rounds of the timing; it ends after twenty seconds in any case.
_ROUNDS = 25

#: Pictures that INT8 is calibrated with, unless told otherwise.
_PICTURES = 32

#: Shares below the ladder are halved so often at most.
_HALVINGS = 5


@dataclass(frozen=True)
class CompressSettings:
    """How to search.

    Attributes:
        budget: what the chosen network may cost and lose.
        engine: what measures AP and latency. torch runs no INT8.
        size: (height, width) of the measurements; the model's own when None.
        keep: falling shares of the multiply-adds that are measured in any case.
        refinements: shares tried between the last one that was too dear and the first one that was not.
        pruning: everything but the threshold.
        epochs: of each retrain; the train spec's when None.
        calibration_dir: pictures for INT8; the dataset's training pictures when None.
        calibration_pictures: how many of them; as many as there are, up to 32, when None.
        threads: CPU threads of the engine.
        device: of the retrains.
    """

    budget: Budget
    engine: EngineName = "onnxruntime"
    size: tuple[int, int] | None = None
    keep: tuple[float, ...] = (0.75, 0.5, 0.35, 0.25)
    refinements: int = 1
    pruning: PruneSettings = field(default_factory=PruneSettings)
    epochs: int | None = None
    calibration_dir: Path | None = None
    calibration_pictures: int | None = None
    threads: int | None = None
    device: str | None = None

    @property
    def precisions(self) -> tuple[Precision, ...]:
        """What is measured of each network."""
        return ("fp32",) if self.engine == "torch" else ("fp32", "int8")


@dataclass(frozen=True)
class Outcome:
    """What `compress` leaves behind.

    Attributes:
        candidates: everything measured, the network as it was given first.
        chosen: the most accurate one within the budget.
        weights: its checkpoint, in the results folder.
        exported: its ONNX file, in the results folder.
    """

    candidates: tuple[Candidate, ...]
    chosen: Candidate
    weights: Path
    exported: Path


def compress(
    model: Path, train_spec: TrainSpec, dataset: DatasetSpec, settings: CompressSettings, results: Path,
    *, key: str | None = None,
) -> Outcome:  # fmt: skip
    """Search the most accurate network within a budget, or go on with a search that was interrupted.

    Args:
        model: the checkpoint to compress.
        train_spec: recipe of the retrains; what it starts from is replaced.
        dataset: AP is measured on its test data.
        settings: budget, engine and how to search.
        results: the folder for everything.
        key: opens the model and encrypts whatever is written.

    Raises:
        LimbnetError: no candidate meets the budget with the AP it must keep; the closest ones are named, and tables
            and chart are written all the same.
        TrainingError: the folder holds another search.
        UsageError: settings that contradict each other or the network.
    """
    search = Search(model, train_spec, dataset, settings, results, key=key)
    candidates = search.run()
    engine = f"{settings.engine}, {search.size[0]}x{search.size[1]}"
    try:
        chosen = choose(candidates, settings.budget)
    except LimbnetError:
        write_report(results, candidates, settings.budget, None, engine)
        raise
    write_report(results, candidates, settings.budget, chosen, engine)
    weights, exported = results / "chosen.tlt", results / "chosen.onnx"
    write_bytes(weights, (results / chosen.weights).read_bytes())
    write_bytes(exported, search.exported(chosen).read_bytes())
    return Outcome(tuple(candidates), chosen, weights, exported)


class Search:
    """One search and its results folder; see `compress` for the arguments.

    Attributes:
        size: (height, width) of the measurements.
        steps: what is known so far.
    """

    def __init__(
        self, model: Path, train_spec: TrainSpec, dataset: DatasetSpec, settings: CompressSettings, results: Path,
        *, key: str | None,
    ) -> None:  # fmt: skip
        check_charts()
        shares = settings.keep
        if any(not 0 < share < 1 for share in shares) or list(shares) != sorted(set(shares), reverse=True):
            raise UsageError(
                f"The shares to keep are {', '.join(map(str, shares))}.", "Give falling numbers between 0 and 1."
            )
        self.path, self.settings, self.results, self.key = model, settings, results, key
        self.loaded = load_model(model, key)
        self.size = settings.size or self.loaded.info.input_size
        check_input_size(self.size, self.loaded.info.stride)
        self.data = load_test_data(dataset, self.loaded.info.skeleton)
        self.recipe = _recipe(train_spec, settings.epochs)
        self.calibration = self._calibration(dataset)
        self._engines: dict[str, Engine] = {}
        facts = _facts(model, train_spec, dataset, replace(settings, size=self.size))
        self.steps = Steps(results, facts)

    def run(self) -> list[Candidate]:
        """Measure everything that is worth it and return all candidates, timed in turn, by falling share."""
        ladder = (1.0, *self.settings.keep)
        for number, keep in enumerate(ladder, 1):
            log.info("Network %d of %d: %.3g of the multiply-adds.", number, len(ladder), keep)
            self._measure(keep)
        halvings, budget = _HALVINGS, str(self.settings.budget)
        while True:
            candidates = self._timed()
            between = self._between(candidates)
            if not any(map(self.settings.budget.met_by, candidates)) and halvings and not self._exhausted():
                log.info("Nothing is within %s yet: half of the smallest network.", self.settings.budget)
                halvings -= 1
                self._measure(min(self.steps.done) / 2)
            elif between is not None and self.steps.looks.get(budget, 0) < self.settings.refinements:
                log.info("Looking closer: %.3g of the multiply-adds.", between)
                self.steps.looks[budget] = self.steps.looks.get(budget, 0) + 1  # written when the step is done
                self._measure(between)
            else:
                return candidates

    def exported(self, candidate: Candidate) -> Path:
        """Return a candidate's ONNX file, which is written now where torch ran the checkpoint itself."""
        file = self.results / candidate.file
        if self.settings.engine != "torch":
            return file
        weights = self.results / candidate.weights
        return self._onnx(self.results / _folder(candidate.keep), weights, "fp32")

    def _calibration(self, dataset: DatasetSpec) -> Calibration:
        """Choose the pictures for INT8, and find out now whether they can be read."""
        images = dataset.root_directory_path / dataset.part("train").images_root_dir_path
        folder = self.settings.calibration_dir or images
        number = self.settings.calibration_pictures or min(_PICTURES, len(find_pictures(folder)))
        if "int8" in self.settings.precisions:
            choose_pictures(folder, number, 1, self.size, self.loaded.info).check()
        return Calibration(image_dir=folder, batches=number)

    def _measure(self, keep: float) -> None:
        """Do one step of the search unless it is done: prune, retrain, export, and measure AP."""
        if keep in self.steps.done:
            return
        folder = self.results / _folder(keep)
        threshold, weights = 0.0, folder / "model.tlt"
        if keep == 1:
            save_model(weights, self.loaded.model, self.loaded.info, key=self.key)
        else:
            threshold, weights = self._retrained(folder, keep)
        network = load_model(weights, self.key).model
        cost = count_cost(network, self.size)
        found = []
        for precision in self.settings.precisions:
            file = self._file(folder, weights, precision)
            scores = self._reference if (keep, precision) == (1, "fp32") else self._scores(file)
            difference = bootstrap_difference(self._reference, scores)
            found.append(
                Candidate(
                    keep,
                    threshold,
                    precision,
                    str(weights.relative_to(self.results)),
                    str(file.relative_to(self.results)),
                    cost.parameters,
                    cost.multiply_adds,
                    file.stat().st_size,
                    scores.ap,
                    difference.value,
                    (difference.low, difference.high),
                )
            )
            log.info("%s: %s parameters, AP %.4f (%s)", found[-1].name, f"{cost.parameters:,}", scores.ap, difference)
        self.steps.add(keep, found)

    def _retrained(self, folder: Path, keep: float) -> tuple[float, Path]:
        """Prune to a share of the multiply-adds and retrain; return the threshold and the retrained checkpoint."""
        pruned = folder / "pruned.tlt"
        threshold, cost = threshold_for(self.loaded.model, keep, self.settings.pruning, self.size)
        log.info("Threshold %.4f leaves %s multiply-adds.", threshold, f"{cost.multiply_adds:,}")
        if not pruned.exists():
            smaller = prune(self.loaded.model, replace(self.settings.pruning, threshold=threshold))
            save_model(pruned, smaller, self.loaded.info, key=self.key)
        spec = self.recipe.model_copy(update={"pretrained_weights": pruned, "load_graph": True})
        result = train(spec, folder / "retrained", key=self.key, device=self.settings.device)
        return threshold, result.model

    def _file(self, folder: Path, weights: Path, precision: Precision) -> Path:
        """Return the file that the engine runs."""
        return weights if self.settings.engine == "torch" else self._onnx(folder, weights, precision)

    def _onnx(self, folder: Path, weights: Path, precision: Precision) -> Path:
        """Export a checkpoint, unless that was done before; files are whole and follow from the settings."""
        output = folder / f"model.{precision}.onnx"
        if not output.exists():
            settings = ExportSettings(precision, self.size, threads=self.settings.threads)
            export_file(weights, output, settings, calibration=self.calibration, key=self.key)
        return output

    @cached_property
    def _reference(self) -> KeypointScores:
        """Scores of the network as it was given, in float, on the named engine."""
        folder = self.results / _folder(1.0)
        return self._scores(self._file(folder, folder / "model.tlt", "fp32"))

    def _scores(self, file: Path) -> KeypointScores:
        return strict_scores(self._open(file), self.data, self.size)

    def _open(self, file: Path) -> Engine:
        return load_engine(file, key=self.key, engine=self.settings.engine, device="cpu", threads=self.settings.threads)

    def _timed(self) -> list[Candidate]:
        """Time all candidates in turn, one picture a run, and return them with their medians."""
        candidates = [one for keep in sorted(self.steps.done, reverse=True) for one in self.steps.done[keep]]
        for one in candidates:
            if one.file not in self._engines:
                self._engines[one.file] = self._open(self.results / one.file)
        picture = np.random.default_rng(0).integers(0, 256, (1, *self.size, 3), np.uint8)
        engines = [self._engines[one.file] for one in candidates]
        runs = [lambda engine=engine: engine.run(picture) for engine in engines]
        seconds = medians(runs, rounds=_ROUNDS)
        return [replace(one, latency=1000 * median) for one, median in zip(candidates, seconds, strict=True)]

    def _exhausted(self) -> bool:
        """Tell whether the last step could prune no more than the one before it."""
        last = [self.steps.done[keep][0].multiply_adds for keep in sorted(self.steps.done)[:2]]
        return len(last) == 2 and last[0] == last[1]

    def _between(self, candidates: Sequence[Candidate]) -> float | None:
        """Return the share between the largest network within the budget and the next larger one, None without both."""
        within = [one.keep for one in candidates if self.settings.budget.met_by(one)]
        if not within or max(within) == 1:
            return None
        larger = min(keep for keep in self.steps.done if keep > max(within))
        share = math.sqrt(larger * max(within))
        return None if larger / share < 1.02 else share


def _facts(model: Path, train_spec: TrainSpec, dataset: DatasetSpec, settings: CompressSettings) -> dict[str, Any]:
    """Return all that decides what is measured; the budget does not."""
    free = {"budget", "keep", "refinements", "threads", "device"}
    kept = {entry.name: getattr(settings, entry.name) for entry in fields(settings) if entry.name not in free}
    return (
        kept
        | {
            "pruning": settings.pruning.to_dict(),
            "model": hashlib.sha256(model.read_bytes()).hexdigest(),
        }
        | {
            f"{name}.{key}": value
            for name, spec in (("train_spec", train_spec), ("dataset_spec", dataset))
            for key, value in flattened(spec.model_dump(mode="json", by_alias=True))
        }
    )


def _folder(keep: float) -> str:
    return f"keep-{keep:.4g}"


def _recipe(spec: TrainSpec, epochs: int | None) -> TrainSpec:
    """Return the spec of a retrain: no validation, no checkpoint but the last, nothing to fine-tune from."""
    number = epochs or spec.num_epoch
    schedule = spec.optimizer.learning_rate_schedule
    if isinstance(schedule, CosineSchedule):  # plans belong to the run that the spec was written for
        schedule = schedule.model_copy(update={"planned_epochs": ()})
    return spec.model_copy(
        update={
            "num_epoch": number,
            "optimizer": spec.optimizer.model_copy(update={"learning_rate_schedule": schedule}),
            "checkpoint_n_epoch": spec.checkpoint_n_epoch if number % spec.checkpoint_n_epoch == 0 else 1,
            "validation_every_n_epoch": 0,
            "max_ckpt_to_keep": 1,
            "finetuning_config": FinetuningConfig(),
            "final_model_name": "model",
        }
    )
