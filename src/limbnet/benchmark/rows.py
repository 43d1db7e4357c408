"""One row of a profile: a model file on an engine at one input size and batch, taken apart into stages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np

from limbnet.benchmark.timing import Clock, Percentiles
from limbnet.devices import cpu_threads
from limbnet.errors import DataError, LimbnetError, SpecError
from limbnet.geometry import check_input_size
from limbnet.poses import Poses
from limbnet.runtime.engine import Engine, Maps
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.load import load_engine
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.views import plan_views

#: What happens to a picture, in order, one after the other; the last is all of it.
STAGES = ("load", "fit", "network", "decode", "end to end")

#: A stream is measured over at least so many batches: filling and emptying the pipeline count, and must weigh little.
STREAM_BATCHES = 8


@dataclass(frozen=True)
class Case:
    """What one row measures.

    Attributes:
        model: the file, by the name that tables show.
        path: the file.
        engine: the runtime, None for the one that suits the file.
        size: (height, width) of the network's input; (0, 0) where a model that cannot be opened has its own.
        batch: pictures in one run of the network.
        output_stage: refinement stage whose maps are used, the last when None.
    """

    model: str
    path: Path
    engine: str | None
    size: tuple[int, int]
    batch: int
    output_stage: int | None = None

    @property
    def size_text(self) -> str:
        """The size as `288x384`."""
        return f"{self.size[0]}x{self.size[1]}" if all(self.size) else "its own"


@dataclass
class Row:
    """What came out.

    Attributes:
        case: what was measured.
        engine: the runtime by name, `torch`, `openvino`, ...
        precision: of the file.
        device: where it ran.
        provider: who ran the graph there, in the runtime's own words.
        threads: CPU threads of the network, None on other devices.
        open_seconds: how long opening the file took, once.
        stages: milliseconds of a batch, by name of `STAGES`.
        stream: pictures a second with the stages overlapped, the median of the rounds; None when not measured.
        stream_pictures: in one such round.
        ap: AP, AP-medium and AP-large at this size, when a dataset was given.
        reason: why the row could not run, "" when it ran.
    """

    case: Case
    engine: str = ""
    precision: str = ""
    device: str = ""
    provider: str = ""
    threads: int | None = None
    open_seconds: float | None = None
    stages: dict[str, Percentiles] = field(default_factory=dict)
    stream: float | None = None
    stream_pictures: int = 0
    ap: dict[str, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def series(self) -> str:
        """The model on its engine, and what else tells rows of one size apart."""
        stage = "" if self.case.output_stage is None else f", stage {self.case.output_stage}"
        batch = "" if self.case.batch == 1 else f", batch {self.case.batch}"
        return f"{self.case.model} ({self.engine}{stage}{batch})"

    def throughput(self, stage: str) -> float:
        """Pictures a second when nothing but this stage happens; of `end to end`, of the overlapped stream."""
        if stage == "end to end" and self.stream is not None:
            return self.stream
        return 1000 * self.case.batch / self.stages[stage].p50

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        content = {
            "model": self.case.model,
            "engine": self.engine or self.case.engine,
            "precision": self.precision,
            "device": self.device,
            "provider": self.provider,
            "threads": self.threads,
            "size": list(self.case.size),
            "batch": self.case.batch,
            "output_stage": self.case.output_stage,
        }
        if self.reason:
            return content | {"reason": self.reason}
        return content | {
            "open_seconds": self.open_seconds,
            "stages_ms": {
                name: asdict(spent) | {"pictures_per_second": self.throughput(name)}
                for name, spent in self.stages.items()
            },
            "stream_pictures": self.stream_pictures,
            "ap": self.ap,
        }


class Runner:
    """Takes batches of pictures through the stages, one after the other, and through the overlapped stream.

    Pictures are padded to the input (strict mode), so that every one costs the network the same.

    Args:
        engine: runs the network.
        case: size and batch.
        pictures: readable pictures; they come round again.
        clock: seconds.

    `gives_maps` tells whether the network's output is maps, which the host decodes, or decoded in its graph.

    Raises:
        SpecError: the engine takes no such size or batch.
    """

    def __init__(self, engine: Engine, case: Case, pictures: Sequence[Path], clock: Clock = time.perf_counter) -> None:
        check_input_size(case.size, engine.info.stride)
        if engine.fixed_size is not None and engine.fixed_size != case.size:
            height, width = engine.fixed_size
            raise SpecError(f"{engine.name} takes inputs of {height}x{width} (height x width) only.")
        if engine.max_batch is not None and case.batch > engine.max_batch:
            raise SpecError(f"{engine.name} takes at most {engine.max_batch} pictures in one run.")
        self.engine, self.case, self.clock = engine, case, clock
        self.gives_maps = True
        self._pictures: Iterator[Path] = cycle(pictures)
        self._estimator = PoseEstimator(engine, input_size=case.size, fit_mode="pad_image_input", scales=(1.0,))

    def stages(self) -> dict[str, float]:
        """Take the next batch through the stages and return the seconds of each.

        Engines hand their output over in main memory, so a stage has ended, on a GPU too, when its clock stops.
        """
        paths, info, clock = list(islice(self._pictures, self.case.batch)), self.engine.info, self.clock
        begin = clock()
        pictures = [as_picture(path) for path in paths]
        loaded = clock()
        fits = [
            plan_views((picture.shape[0], picture.shape[1]), self.case.size, "pad_image_input", info.stride)[0][-1].fit
            for picture in pictures
        ]
        images = np.stack([fit.image(picture) for fit, picture in zip(fits, pictures, strict=True)])
        fitted = clock()
        output = self.engine.run(images)
        ran = clock()
        self.gives_maps = isinstance(output, Maps)
        for number, fit in enumerate(fits):
            people = output.people(number, info, info.decoder)
            keypoints = fit.original(people.keypoints).astype(np.float32)
            Poses(keypoints, people.joint_scores, people.scores, info.skeleton, fit.picture)
        end = clock()
        spent = (loaded - begin, fitted - loaded, ran - fitted, end - ran, end - begin)
        return dict(zip(STAGES, spent, strict=True))

    def stream_count(self, seconds: float, batch_seconds: float) -> int:
        """Return how many pictures fill so many seconds when a batch takes `batch_seconds`, a multiple of the batch."""
        return max(STREAM_BATCHES, round(seconds / max(batch_seconds, 1e-6))) * self.case.batch

    def stream(self, count: int) -> float:
        """Return the seconds that `PoseEstimator.stream` takes for so many pictures, from its start to the last result.

        Raises:
            DataError: a picture could not be read any more.
        """
        paths = list(islice(self._pictures, count))
        begin = self.clock()
        for result in self._estimator.stream(paths, batch=self.case.batch):
            if result.error is not None:
                raise result.error
        return self.clock() - begin


def open_row(
    case: Case, pictures: Sequence[Path], *, key: str | None, device: str | None, threads: int | None
) -> tuple[Row, Runner | None]:
    """Open a case's engine, an own one for every row, and take one batch through it.

    Returns the row, and what measures it; or None in its place, and the reason in the row.
    """
    row = Row(case)
    begin = time.perf_counter()
    try:
        engine = load_engine(
            case.path, key=key, device=device, engine=case.engine, threads=threads, output_stage=case.output_stage
        )
        row.open_seconds = time.perf_counter() - begin
        row.engine, _, row.precision = engine.name.rpartition(" ")
        row.device = engine.device
        # Only ONNX Runtime tells its provider from itself.
        row.provider = str(getattr(engine, "provider", row.engine))
        row.threads = cpu_threads(threads) if engine.device == "cpu" else None
        runner = Runner(engine, case, pictures)
        runner.stages()
    except DataError:  # of the pictures, not of the row
        raise
    except LimbnetError as error:
        row.reason = error.what
    except Exception as error:  # runtimes raise what they like about shapes they cannot run
        row.reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    else:
        return row, runner
    return row, None
