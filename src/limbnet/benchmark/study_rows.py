"""A row of a study: checked before anything runs, opened when its turn comes, and taken through a picture in steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from limbnet.benchmark.memory import MemoryMeter
from limbnet.benchmark.study_data import StudyData
from limbnet.benchmark.study_engines import check_engine, open_zoo_network
from limbnet.benchmark.study_maps import expected_answer, render_answer
from limbnet.console import counted
from limbnet.data.boxes import PersonBoxes
from limbnet.data.pictures import read_picture
from limbnet.devices import choose_device, cpu_threads, set_threads
from limbnet.errors import LimbnetError, ModelFileError, SpecError
from limbnet.models.filekinds import recognise
from limbnet.models.shipped import runnable_file
from limbnet.models.zoo import create_model
from limbnet.models.zoo.weights import compare_weights
from limbnet.poses import Poses
from limbnet.runtime.engine import Engine, Maps, Output
from limbnet.runtime.load import load_engine
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.views import View, mean_maps, plan_views
from limbnet.runtime.zoo.load import RESCORING, ZooEstimator, as_trained, estimator_for, rescorer
from limbnet.skeleton import Skeleton
from limbnet.specs.study import StudyRow, StudySpec

#: What happens to a picture, in order.
STEPS = ("read", "prepare", "network", "decode")


class Estimator(Protocol):
    """What turns a picture into poses in three steps."""

    @property
    def skeleton(self) -> Skeleton: ...  # noqa: D102
    def prepare(self, picture: NDArray[np.uint8], boxes: PersonBoxes | None = None) -> Any: ...  # noqa: D102
    def run(self, inputs: Any) -> Any: ...  # noqa: D102
    def decode(self, inputs: Any, answer: Any) -> Poses: ...  # noqa: D102


class OwnEstimator:
    """A file of limbnet's own in the same three steps as a published network.

    Raises:
        SpecError: the engine cannot do what the row asks for.
    """

    def __init__(self, engine: Engine, row: StudyRow) -> None:
        self.engine = engine
        options: dict[str, Any] = {} if row.input_size is None else {"input_size": row.input_size}
        if engine.fixed_size is not None and (row.input_size not in (None, engine.fixed_size) or row.scales != (1.0,)):
            height, width = engine.fixed_size
            raise SpecError(f"'{row.checkpoint}' takes inputs of {height}x{width} (height x width) only.")
        self._estimator = PoseEstimator(engine, scales=row.scales, flip=row.flip, **options)
        self.skeleton = engine.info.skeleton
        self.input_size = self._estimator.input_size

    def prepare(self, picture: NDArray[np.uint8], boxes: PersonBoxes | None = None) -> tuple[Any, ...]:
        """Fit a picture (h, w, 3) uint8 RGB to the network."""
        del boxes
        one = self._estimator
        size = picture.shape[0], picture.shape[1]
        views, _ = plan_views(size, one.input_size, one.fit_mode, one.info.stride, scales=one.scales, flip=one.flip)
        return views, [view.image(picture) for view in views]

    def run(self, inputs: tuple[tuple[View, ...], list[NDArray[np.uint8]]]) -> list[Output]:
        """Return the engine's output for each view."""
        return [self.engine.run(image[None]) for image in inputs[1]]

    def decode(self, inputs: tuple[tuple[View, ...], Any], answer: list[Output]) -> Poses:
        """Turn what `run` returned into poses in the picture."""
        views, info = inputs[0], self.engine.info
        output = answer[0]
        if len(answer) > 1:
            maps = [one for one in answer if isinstance(one, Maps)]  # an engine that decodes was refused
            heat, paf = mean_maps(
                views, [one.heatmaps[0] for one in maps], [one.pafs[0] for one in maps], self.skeleton, info.stride
            )
            output = Maps(heat[None], paf[None])
        people = output.people(0, info, self._estimator.settings)
        fit = views[-1].fit
        keypoints = fit.original(people.keypoints).astype(np.float32)
        return Poses(keypoints, people.joint_scores, people.scores, self.skeleton, fit.picture)


@dataclass(frozen=True)
class Plan:
    """A row that was checked.

    Attributes:
        row: what the study says.
        device: where it shall run; None lets the runtime choose.
        seed: of initial weights.
        hashes: of the files with weights, by role; none for initial weights.
    """

    row: StudyRow
    device: str | None
    seed: int
    hashes: dict[str, str]

    @property
    def has_weights(self) -> bool:
        """Whether its people mean anything."""
        return self.row.checkpoint is not None

    def identity(self, data: StudyData, machine: dict[str, Any]) -> dict[str, Any]:
        """Return what must be the same for measurements to belong together; paths may change, contents not."""
        asked = self.row.model_dump(mode="json", exclude={"checkpoint", "rescoring"})
        return asked | {
            "weights": self.hashes,
            "seed": None if self.has_weights else self.seed,
            "device": self.device,
            "cpu_threads": cpu_threads(self.row.threads),
            "pictures_and_boxes": data.fingerprint,
            "processor": machine["processor"],
            "gpu": machine["gpu"],
        }


def check_rows(study: StudySpec, device: str | None, allow_missing: bool) -> list[Plan]:
    """Check every row before the first one runs: files, weights, engines.

    Args:
        study: what to run.
        device: in the place of the study's.
        allow_missing: published networks whose weight files are missing run with initial weights.

    Raises:
        LimbnetError: with everything that is wrong in any row.
    """
    plans, problems, todo = [], [], ""
    checked: dict[tuple[str, Path], str] = {}
    for asked in study.rows:
        row = _without_missing(asked) if allow_missing else asked
        hashes = {}
        try:
            check_engine(row.engine, row.precision)
            for role, name, path in (
                ("checkpoint", row.model, row.checkpoint),
                ("rescoring", RESCORING, row.rescoring),
            ):
                if path is None:
                    continue
                if (name, path) not in checked:
                    checked[name, path] = _own_hash(path) if row.entry is None else _zoo_hash(name, path)
                hashes[role] = checked[name, path]
        except LimbnetError as error:
            problems.append(f"row {row.row}: {error.what}")
            todo = todo or error.todo
        plans.append(Plan(row, device or study.device, study.seed, hashes))
    if problems:
        missing = any(row.checkpoint and row.entry and not row.checkpoint.is_file() for row in study.rows)
        hint = "\n  Without 'checkpoint' (or with --allow_missing) a published network runs with initial weights, "
        raise ModelFileError(
            f"{counted(len(problems), 'row')} of the study cannot run:\n  " + "\n  ".join(problems),
            todo + (hint + "for speed only." if missing else ""),
        )
    return plans


def _without_missing(row: StudyRow) -> StudyRow:
    if row.entry is None:
        return row
    gone = {key: None for key in ("checkpoint", "rescoring") if (path := getattr(row, key)) and not path.exists()}
    return row.model_copy(update=gone)


def _zoo_hash(name: str, path: Path) -> str:
    """Return the hash of a weight file that fits a published network."""
    entry, _ = as_trained(name, path)
    network = create_model(name, joints=entry.joints, input_size=entry.input_size, device="meta")
    report, _ = compare_weights(network, entry, path)
    if not report.fits:
        raise report.error()
    return report.sha256


def _own_hash(path: Path) -> str:
    path = runnable_file(path)
    recognise(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass
class OpenRow:
    """A row ready to run.

    Attributes:
        plan: what it runs.
        estimator: its network with what lies before and behind it.
        facts: engine, device, threads, parameters, multiply-adds and input size, for the record; of an exported network
            also how far it is from torch.
        meter: of memory.
        last_pixel_counts: how its system measures true boxes, see `limbnet.data.boxes.true_boxes`.
    """

    plan: Plan
    estimator: Estimator
    facts: dict[str, Any]
    meter: MemoryMeter
    last_pixel_counts: bool = False

    def warm_up(self, data: StudyData, place: int) -> None:
        """Run everything once on a picture: of a published network's views only the smallest, for they can be slow."""
        picture, boxes = read_picture(data.coco.images[place].path), self._boxes(data, place)
        inputs = self.estimator.prepare(picture, boxes)
        if isinstance(self.estimator, OwnEstimator):
            self.estimator.decode(inputs, self.estimator.run(inputs))
            return
        if not len(inputs.images):
            return
        estimator = cast(ZooEstimator, self.estimator)
        smallest = min(inputs.images, key=np.size)
        tensors = estimator.network.run(smallest[None])
        answer = expected_answer(estimator, inputs, tensors, smallest.shape[0])
        self.estimator.decode(inputs, render_answer(estimator, inputs, answer, data.joints(place, estimator.skeleton)))

    def measure(self, data: StudyData, place: int) -> dict[str, Any]:
        """Take a picture through the steps and return the seconds of each, and who was found.

        Networks hand their output over in main memory, so the network has ended, on a GPU too, when its clock stops.
        """
        image, boxes, estimator = data.coco.images[place], self._boxes(data, place), self.estimator
        self.meter.start()
        begin = perf_counter()
        picture = read_picture(image.path)
        read = perf_counter()
        inputs = estimator.prepare(picture, boxes)
        prepared = perf_counter()
        answer = estimator.run(inputs)
        ran = perf_counter()
        memory = self.meter.peak()
        if not self.plan.has_weights:
            joints = data.joints(place, estimator.skeleton)
            answer = render_answer(cast(ZooEstimator, estimator), inputs, answer, joints)
        decoding = perf_counter()
        poses = estimator.decode(inputs, answer)
        end = perf_counter()
        spent = (read - begin, prepared - read, ran - prepared, end - decoding)
        line: dict[str, Any] = {"image": image.id, **dict(zip(STEPS, spent, strict=True)), "memory": memory}
        people = len(boxes) if boxes is not None else data.labelled_people(place)
        line |= {"people": people, "found": len(poses)}
        if self.plan.has_weights:
            line["poses"] = poses.to_coco(image.id, data.spec.category.keypoints, data.spec.category.id)
        return line

    def _boxes(self, data: StudyData, place: int) -> PersonBoxes | None:
        kind = self.plan.row.boxes
        return None if kind is None else data.boxes(place, kind, self.last_pixel_counts)


def open_row(plan: Plan, data: StudyData, exported: Path, key: str | None = None) -> OpenRow:
    """Open a row's network.

    Args:
        plan: what to open.
        data: the study's pictures; exported networks are compared with torch on some, and calibrated.
        exported: folder of the graphs that runtimes other than torch need; what is there is used again.
        key: opens encrypted files.

    Raises:
        EngineRefusal: the row's runtime cannot run the network.
        LimbnetError: it cannot be opened as the row wants it.
    """
    opener: Callable[[], OpenRow] = (
        partial(_open_own, plan, key) if plan.row.entry is None else partial(_open_zoo, plan, data, exported)
    )
    try:
        return opener()
    except EngineRefusal:
        raise
    except LimbnetError as error:
        raise type(error)(f"Row {plan.row.row}: {error.what}", error.todo) from error


def _open_zoo(plan: Plan, data: StudyData, exported: Path) -> OpenRow:
    row = plan.row
    entry, skeleton = as_trained(row.model, row.checkpoint, row.input_size)
    torch_runs = row.engine in (None, "torch")
    device = str(choose_device(plan.device, announce=False)) if torch_runs else plan.device or "cpu"
    set_threads(row.threads)
    meter = MemoryMeter(device, torch_runs)
    rescore = None if row.rescoring is None else rescorer(row.rescoring, device if torch_runs else "cpu")
    network, more = open_zoo_network(
        entry, row, device, data, seed=plan.seed, weights=plan.hashes.get("checkpoint", ""), exported=exported
    )
    estimator = estimator_for(
        network, flip=row.flip, scales=row.scales, batch=row.batch, rescore=rescore, skeleton=skeleton
    )
    facts = {
        "engine": network.name.rpartition(" ")[0],
        "precision": row.precision,
        "device": device,
        "threads": cpu_threads(row.threads) if device == "cpu" else None,
        "input_size": list(entry.input_size or ()),
        "parameters": entry.parameters,
        "multiply_adds": entry.multiply_adds,
        **more,
    }
    rule = getattr(estimator, "rule", None)
    return OpenRow(plan, estimator, facts, meter, rule is not None and rule.unbiased)


def _open_own(plan: Plan, key: str | None) -> OpenRow:
    from limbnet.models.counting import count_cost

    row = plan.row
    assert row.checkpoint is not None  # the spec has checked it
    meter = MemoryMeter("cpu" if plan.device in (None, "cpu") else str(plan.device))
    engine = load_engine(row.checkpoint, key=key, device=plan.device, engine=row.engine, threads=row.threads)
    name, _, precision = engine.name.rpartition(" ")
    if engine.device != meter.device:
        meter = MemoryMeter(engine.device, name == "torch")
    if precision != row.precision:
        raise SpecError(
            f"precision is {row.precision}, but '{row.checkpoint}' is {precision}.",
            f"Write 'precision: {precision}', or name a file that was exported in {row.precision}.",
        )
    estimator = OwnEstimator(engine, row)
    model = getattr(engine, "_model", None)
    cost = None if model is None else count_cost(model, estimator.input_size)
    facts = {
        "engine": name,
        "precision": precision,
        "device": engine.device,
        "threads": cpu_threads(row.threads) if engine.device == "cpu" else None,
        "input_size": list(estimator.input_size),
        "parameters": None if cost is None else cost.parameters,
        "multiply_adds": None if cost is None else cost.multiply_adds,
    }
    return OpenRow(plan, estimator, facts, meter)
