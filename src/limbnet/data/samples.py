"""Samples: what training reads. One person of interest, everybody labelled around, the picture and its loss mask.

`Samples` keeps them as a few arrays, so that a hundred thousand cost little memory and are shared by loader processes.
Samples read from COCO JSON equal those read from the records that `dataset_convert` writes, in the same order.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.data.coco import load_coco
from limbnet.data.masks import WHOLE_PICTURE, MaskRegions, Segmentation, mask_regions
from limbnet.data.people import JointMapping, check_some, people_around, seeded_random, select_samples, shuffled
from limbnet.data.records import Record, read_records
from limbnet.errors import DataError, nearest
from limbnet.skeleton import Skeleton
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.load import load_dataset_spec
from limbnet.specs.train import DatasetConfig

log = logging.getLogger(__name__)

#: A message names so many missing files.
FILES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture of the training data: its file, its size in pixels, and its loss mask.

    The mask is a file, or the regions to draw it from.
    """

    path: str
    height: int
    width: int
    mask: str | MaskRegions

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.height, self.width


@dataclass(frozen=True, eq=False)
class Sample:
    """One training sample, before augmentation, in pixels of the original picture.

    Attributes:
        picture: the picture and its mask.
        joints: (P, K, 3) float64 x, y and visibility code in the skeleton's order, the main person first. Codes 0 to 2
            are labels; 4 is a joint of this person that nobody labelled, 5 one that the dataset never labels.
        confidence: (P, K) float64, 0 to 1, how sure each label is; None when the dataset does not say.
        centre: (2,) centre of the main person's box.
        height: height of the main person's box.
        boxes: (P, 4) boxes of the people as x, y, width, height; None unless somebody wants to crop.
        areas: (P,) areas of the people; None as the boxes.
    """

    picture: Picture
    joints: NDArray[np.float64]
    confidence: NDArray[np.float64] | None
    centre: NDArray[np.float64]
    height: float
    boxes: NDArray[np.float64] | None = None
    areas: NDArray[np.float64] | None = None


@dataclass(frozen=True, eq=False)
class Samples(Sequence[Sample]):
    """N samples in a fixed order.

    Attributes:
        pictures: the pictures, each once.
        joints: (R, K, 3) joints of R people.
        confidence: (R, K) or None.
        rows: people of all samples, one after the other, as rows of `joints`.
        first: (N + 1,) sample n owns `rows[first[n]:first[n + 1]]`, its main person first.
        picture: (N,) number of each sample's picture.
        centres: (N, 2) centre of the main person's box.
        heights: (N,) height of the main person's box.
        datasets: (name, number of samples) of the datasets that follow each other; () when nobody asks.
        outlines: the regions of the R people, () for one who has none; empty unless somebody wants to cut people out.
        boxes, areas: (R, 4) and (R,) of the R people; None in the samples of a BodyPoseNet.
    """

    pictures: list[Picture]
    joints: NDArray[np.float64]
    confidence: NDArray[np.float64] | None
    rows: NDArray[np.int32]
    first: NDArray[np.int64]
    picture: NDArray[np.int32]
    centres: NDArray[np.float64]
    heights: NDArray[np.float64]
    datasets: tuple[tuple[str, int], ...] = ()
    outlines: tuple[Segmentation, ...] = ()
    boxes: NDArray[np.float64] | None = None
    areas: NDArray[np.float64] | None = None

    def __len__(self) -> int:
        return len(self.picture)

    def __getitem__(self, number: int) -> Sample:  # type: ignore[override]
        rows = self.rows[self.first[number] : self.first[number + 1]]
        return Sample(
            self.pictures[self.picture[number]],
            self.joints[rows],
            None if self.confidence is None else self.confidence[rows],
            self.centres[number],
            float(self.heights[number]),
            None if self.boxes is None else self.boxes[rows],
            None if self.areas is None else self.areas[rows],
        )

    @classmethod
    def joined(cls, parts: Sequence[Samples]) -> Samples:
        """Return the samples of several datasets one after the other; certain (1) where only some have confidences."""
        if len(parts) == 1:
            return parts[0]
        people = np.cumsum([0] + [len(part.joints) for part in parts])
        pictures = np.cumsum([0] + [len(part.pictures) for part in parts])
        counts = np.concatenate([np.diff(part.first) for part in parts])
        confidence = None
        if any(part.confidence is not None for part in parts):
            confidence = np.concatenate(
                [np.ones(part.joints.shape[:2]) if part.confidence is None else part.confidence for part in parts]
            )
        return cls(
            [picture for part in parts for picture in part.pictures],
            np.concatenate([part.joints for part in parts]),
            confidence,
            np.concatenate([part.rows + start for part, start in zip(parts, people[:-1], strict=True)]).astype(
                np.int32
            ),
            np.concatenate([[0], np.cumsum(counts)]),
            np.concatenate([part.picture + start for part, start in zip(parts, pictures[:-1], strict=True)]).astype(
                np.int32
            ),
            np.concatenate([part.centres for part in parts]),
            np.concatenate([part.heights for part in parts]),
            tuple(dataset for part in parts for dataset in part.datasets),
            tuple(outline for part in parts for outline in part.outlines),
            _joined_or_none([part.boxes for part in parts]),
            _joined_or_none([part.areas for part in parts]),
        )

    def called(self, name: str) -> Samples:
        """Return the same samples as those of one dataset with a name."""
        return replace(self, datasets=((name, len(self)),))

    def check_files(self) -> None:
        """Look for every picture and mask.

        Raises:
            DataError: some are missing; it counts them and names the first ones.
        """
        wanted = [picture.path for picture in self.pictures]
        wanted += [picture.mask for picture in self.pictures if isinstance(picture.mask, str)]
        missing = missing_files(wanted)
        if not missing:
            return
        names = "\n  ".join(missing[:FILES_SHOWN] + (["..."] if len(missing) > FILES_SHOWN else []))
        raise DataError(
            f"{len(missing)} of {len(wanted)} pictures and masks are missing:\n  {names}",
            "Check the paths in the dataset spec and root_data_path. Make masks by dataset_convert --generate_masks.",
        )


def _joined_or_none(arrays: Sequence[NDArray[np.float64] | None]) -> NDArray[np.float64] | None:
    """Return the arrays one after the other, None where one is missing."""
    known = [array for array in arrays if array is not None]
    return np.concatenate(known) if len(known) == len(arrays) else None


def missing_files(paths: Sequence[str]) -> list[str]:
    """Return those of the paths that are no files. Lists each folder once, which is fast on network drives too."""
    names: dict[str, set[str]] = {}
    missing = []
    for path in paths:
        folder, name = os.path.split(path)
        if folder not in names:
            try:
                names[folder] = set(os.listdir(folder or "."))  # noqa: PTH208 (names alone are wanted)
            except OSError:
                names[folder] = set()
        if name not in names[folder]:
            missing.append(path)
    return missing


def samples_from_coco(
    spec: DatasetSpec, skeleton: Skeleton, mode: Literal["train", "test"] = "train", outlines: bool = False
) -> Samples:
    """Read the samples of a dataset from its COCO JSON; loss masks are drawn from the annotated regions when needed.

    With `outlines` the regions of labelled people are kept, too, so that they can be cut out.

    Raises:
        DataError: the annotation file is wrong (see `load_coco`), or it contains nobody to train on.
    """
    part = spec.part(mode)
    dataset = load_coco(
        spec.root_directory_path / part.annotation_root_dir_path,
        spec.root_directory_path / part.images_root_dir_path,
        spec.category,
    )
    mapping = JointMapping(spec, skeleton)
    selected = select_samples(dataset, spec.data_filtering_params, spec.duplicate_data_with_each_person_as_center)
    check_some(len(selected), f"'{dataset.annotation_file}'")
    selected = [selected[number] for number in shuffled(len(selected), seeded_random())]

    numbers = {image: number for number, image in enumerate(dict.fromkeys(image for image, _ in selected))}
    pictures = []
    for image in numbers:
        entry = dataset.images[image]
        regions = mask_regions(dataset.annotations(image))
        pictures.append(Picture(str(entry.path), entry.height, entry.width, regions))
    rows = [dataset.first[image] + people_around(dataset.annotations(image), main) for image, main in selected]
    mains = np.array([group[0] for group in rows])
    return Samples(
        pictures,
        mapping.joints(dataset.people.keypoints),
        None if dataset.people.confidence is None else mapping.confidence(dataset.people.confidence),
        np.concatenate(rows).astype(np.int32),
        np.cumsum([0] + [len(group) for group in rows]),
        np.array([numbers[image] for image, _ in selected], dtype=np.int32),
        dataset.people.centres[mains],
        dataset.people.boxes[mains, 3],
        outlines=tuple(dataset.people.segmentations) if outlines else (),
    )


def samples_from_records(
    files: Sequence[Path], specs: Mapping[str, DatasetSpec], skeleton: Skeleton, root: Path | None = None
) -> Samples:
    """Read the samples of record files, in the order of the files; of several datasets, one dataset after the other.

    Args:
        files: the record files.
        specs: the dataset spec of every dataset that the records name.
        skeleton: what the network learns.
        root: the folder that the records' paths are relative to; None is each dataset spec's own.

    Raises:
        DataError: a file is missing, damaged or no record file, a record belongs to no dataset spec or has another
            number of joints, or there are no records.
    """
    records: dict[str, list[Record]] = {}
    for file in files:
        log.info("Reading %s", file)
        for record in read_records(file):
            _check_dataset(record, file, specs)
            records.setdefault(record.dataset, []).append(record)
    check_some(len(records), ", ".join(f"'{file}'" for file in files))
    return Samples.joined(
        [
            _of_one_dataset(found, JointMapping(specs[name], skeleton), root or specs[name].root_directory_path).called(
                name
            )
            for name, found in records.items()
        ]
    )


def _check_dataset(record: Record, file: Path, specs: Mapping[str, DatasetSpec]) -> None:
    """Raise a `DataError` unless a record's dataset is known and has as many joints."""
    if record.dataset not in specs:
        raise DataError(
            f"The records '{file}' belong to the dataset '{record.dataset}', which dataset_specs does not name."
            + nearest(record.dataset, specs),
            f"Add it, for example: {record.dataset}: path/to/its/dataset_spec.json.",
        )
    expected, found = len(specs[record.dataset].category.keypoints), record.joints.shape[1]
    if found != expected:
        raise DataError(
            f"The records '{file}' have {found} joints a person, the spec of '{record.dataset}' has {expected}.",
            "Use the dataset spec that the records were made with.",
        )


def _of_one_dataset(records: list[Record], mapping: JointMapping, root: Path) -> Samples:
    """Gather the records of one dataset."""
    pictures: dict[str, Picture] = {}
    numbers: dict[str, int] = {}
    for record in records:
        if record.image_path not in pictures:
            mask = str(root / record.mask_path) if record.mask_path else WHOLE_PICTURE
            path = str(root / record.image_path)
            numbers[record.image_path] = len(pictures)
            pictures[record.image_path] = Picture(path, record.height, record.width, mask)
    confidence = None
    if any(record.confidence is not None for record in records):
        certain = [np.ones(r.joints.shape[:2]) if r.confidence is None else r.confidence for r in records]
        confidence = mapping.confidence(np.concatenate(certain))
    first = np.cumsum([0] + [len(record.joints) for record in records])
    return Samples(
        list(pictures.values()),
        mapping.joints(np.concatenate([record.joints for record in records])),
        confidence,
        np.arange(first[-1], dtype=np.int32),
        first,
        np.array([numbers[record.image_path] for record in records], dtype=np.int32),
        np.array([record.centres[0] for record in records]),
        np.array([record.scales[0] for record in records]),
    )


def training_samples(config: DatasetConfig, skeleton: Skeleton, outlines: bool = False) -> Samples:
    """Read the samples that a train spec names: from its records, or, without any, from the datasets' COCO JSON.

    With `outlines` people's regions are kept; records have none.
    A name among the records may be a pattern, such as `train-fold-*`.

    Raises:
        SpecError: a dataset spec is wrong.
        DataError: see `samples_from_coco` and `samples_from_records`.
    """
    specs = {name: load_dataset_spec(path) for name, path in config.dataset_specs.items()}
    if not config.train_records_path:
        return Samples.joined(
            [samples_from_coco(spec, skeleton, outlines=outlines).called(name) for name, spec in specs.items()]
        )
    folder = config.train_records_folder_path or Path()
    files = [file for name in config.train_records_path for file in _record_files(folder, name)]
    return samples_from_records(files, specs, skeleton, config.root_data_path)


def _record_files(folder: Path, name: str) -> list[Path]:
    """Return the file of one name, or the files of one pattern in the order of their names."""
    if (folder / name).exists() or not set(name) & set("*?["):
        return [folder / name]
    found = sorted(folder.glob(name))
    if not found:
        raise DataError(f"No record file is called '{folder / name}'.", "Check train_records_path in the train spec.")
    return found
