"""Schema of a study (YAML): which networks run on which pictures, so that accuracy and speed can be compared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from limbnet.errors import nearest
from limbnet.models.zoo.catalogue import CATALOGUE, ZooEntry
from limbnet.specs.base import Section
from limbnet.specs.inference import Scale

#: What `model` says of limbnet's own files: checkpoints and exports of `train`, `prune`, `export` and `convert`.
OWN_MODEL = "limbnet"

Boxes = Literal["detected", "ground_truth"]
StudyEngine = Literal["torch", "onnxruntime", "openvino", "onnxruntime-tensorrt", "openvino-throughput", "tensorrt"]

#: Runtimes of published networks.
ZOO_ENGINES: tuple[StudyEngine, ...] = ("torch", "onnxruntime", "openvino")


class SyntheticBoxes(Section):
    """Boxes as a detector might give them, made up from the ground truth: for speed, where there is no detector's file.

    About `per_picture` boxes: one near each person, with a high score, and others anywhere, with low scores.
    """

    per_picture: int = Field(20, ge=1, le=1000)
    seed: int = Field(0, ge=0)


class StudyRow(Section):
    """One network, run in one way.

    Attributes:
        row: its name, which the files and charts use.
        model: a published network's name, or `limbnet` for a file of limbnet's own.
        checkpoint: the weights. A published network without one runs with initial weights, for speed only.
        boxes: of top-down networks.
        flip: average with the mirrored picture, a second pass.
        scales: factors on the input size.
        batch: crops in one run of a top-down network.
        engine: the runtime; torch for published networks, the one that suits the file for others.
        precision: of the network; that of the file for limbnet's own. INT8 ranges of a published one come from the
            study's pictures.
        threads: CPU threads of the network.
        input_size: (height, width) of the network's input; the published one, or the file's own, when None.
        rescoring: weights of DEKR's rescoring network.
    """

    row: str = Field(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    model: str
    checkpoint: Path | None = None
    boxes: Boxes | None = None
    flip: bool = False
    scales: tuple[Scale, ...] = Field((1.0,), min_length=1)
    batch: int = Field(1, ge=1)
    engine: StudyEngine | None = None
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    threads: int | None = Field(None, ge=1)
    input_size: tuple[int, int] | None = None
    rescoring: Path | None = None

    @property
    def entry(self) -> ZooEntry | None:
        """What the catalogue says about a published network, None for limbnet's own."""
        return CATALOGUE.get(self.model)

    @property
    def top_down(self) -> bool:
        """Whether it works on person boxes."""
        return self.entry is not None and self.entry.head == "joint_maps"

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if len(set(self.scales)) < len(self.scales):
            yield "scales", "names a scale twice"
        if self.entry is None and self.model != OWN_MODEL:
            known = (OWN_MODEL, *CATALOGUE)
            yield "model", f"there is no network '{self.model}'.{nearest(self.model, known)} Known: {', '.join(known)}"
            return
        if self.batch > 1 and not self.top_down:
            yield "batch", f"is {self.batch}, but only the crops of top-down networks are run together"
        if self.boxes is not None and not self.top_down:
            yield "boxes", "is given, but this network is bottom-up and takes none"
        yield from self._own_mistakes() if self.entry is None else self._zoo_mistakes(self.entry)

    def _own_mistakes(self) -> Iterator[tuple[str, str]]:
        if self.checkpoint is None:
            yield "model", "is 'limbnet', so checkpoint must name a file that limbnet wrote"
        if self.rescoring is not None:
            yield "rescoring", "is given, but only DEKR is rescored"

    def _zoo_mistakes(self, entry: ZooEntry) -> Iterator[tuple[str, str]]:
        if entry.head == "pose_scores":
            yield "model", f"'{entry.name}' rates poses and finds none; it belongs to 'rescoring' of a DEKR row"
        if self.top_down and self.boxes is None:
            yield "boxes", "is missing: 'detected' or 'ground_truth'"
        if entry.head not in ("tag_maps", "offset_maps") and self.scales != (1.0,):
            yield "scales", f"are {list(self.scales)}, but {entry.system} runs at one scale"
        if entry.head in ("tag_maps", "offset_maps") and 1.0 not in self.scales and len(self.scales) > 1:
            yield "scales", f"are {list(self.scales)}, but {entry.system} measures the others by 1.0: add it"
        if entry.head == "offset_maps" and self.scales != (1.0,) and len(self.scales) == 1:
            yield "scales", f"are {list(self.scales)}, but {entry.system} needs scale 1.0"
        if entry.head == "part_maps" and self.flip:
            yield "flip", f"is true, but {entry.system} has no flip test"
        if entry.head != "offset_maps" and self.rescoring is not None:
            yield "rescoring", "is given, but only DEKR is rescored"
        if self.engine is not None and self.engine not in ZOO_ENGINES:
            yield "engine", f"is '{self.engine}', but published networks run on {', '.join(ZOO_ENGINES)}"
        if self.precision != "fp32" and self.engine in (None, "torch"):
            others = " or ".join(f"'{engine}'" for engine in ZOO_ENGINES[1:])
            yield "precision", f"is {self.precision}, but torch runs published networks in fp32: set engine to {others}"
        if self.input_size is not None:
            yield from self._size_mistakes(entry, self.input_size)

    def _size_mistakes(self, entry: ZooEntry, size: tuple[int, int]) -> Iterator[tuple[str, str]]:
        fixed = entry.name.startswith("transpose") and size != entry.input_size
        if fixed:
            yield "input_size", f"is {list(size)}, but {entry.system} is built for {list(entry.input_size or ())}"
        elif min(size) < 1 or any(side % entry.multiple for side in size):
            yield "input_size", f"is {list(size)}, but both sides must be multiples of {entry.multiple}"
        elif entry.head in ("tag_maps", "offset_maps") and size[0] != size[1]:
            yield "input_size", f"is {list(size)}: give the length of the short side twice; the long one follows"


class StudySpec(Section):
    """A whole study.

    Attributes:
        dataset: a dataset spec, whose `test_data` are used.
        detections: boxes in a COCO results file, for rows with `boxes: detected`.
        synthetic_detections: boxes made up, in the place of such a file.
        images: ids of the pictures that take part; all when None.
        pictures: at most so many, the first of them.
        repetitions: how often every row runs over all pictures; rows take turns.
        bootstrap: draws behind the interval of AP; 0 leaves it out.
        seed: of initial weights and of the draws.
        device: `cpu`, `cuda`, `cuda:1`, ...; the best that each runtime has when None.
        rows: what is compared.
    """

    dataset: Path
    detections: Path | None = None
    synthetic_detections: SyntheticBoxes | None = None
    images: tuple[int, ...] | None = Field(None, min_length=1)
    pictures: int | None = Field(None, ge=1)
    repetitions: int = Field(3, ge=1)
    bootstrap: int = Field(1000, ge=0)
    seed: int = Field(0, ge=0)
    device: str | None = None
    rows: tuple[StudyRow, ...] = Field(min_length=1)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        names = [row.row.lower() for row in self.rows]  # files are called after them, and some disks ignore case
        for number, name in enumerate(names):
            if (first := names.index(name)) < number:
                yield (
                    f"rows.{number}",
                    f"is called '{self.rows[number].row}', as rows[{first}] is: every row needs its own name",
                )
        detected = [row.row for row in self.rows if row.boxes == "detected"]
        if self.detections is not None and self.synthetic_detections is not None:
            yield "synthetic_detections", "is given beside detections: leave one of them out"
        if detected and self.detections is None and self.synthetic_detections is None:
            yield (
                "detections",
                f"is missing, but rows {', '.join(detected)} want detected boxes: name a COCO results file, or give "
                "synthetic_detections",
            )
        if self.images is not None and len(set(self.images)) < len(self.images):
            yield "images", "names a picture twice"
