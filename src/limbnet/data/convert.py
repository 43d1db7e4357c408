"""Conversion: COCO JSON to training records and loss masks, ordered and named as BodyPoseNet's converter does."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

import numpy as np

from limbnet.console import progress
from limbnet.data.coco import CocoDataset, load_coco
from limbnet.data.masks import MaskRegions, loss_mask, mask_name, mask_regions, write_mask
from limbnet.data.people import (
    check_some,
    people_around,
    seeded_random,
    select_samples,
    shuffled,
    visibility_codes,
)
from limbnet.data.records import Record, encode_record, write_messages
from limbnet.data.samples import missing_files
from limbnet.errors import DataError, SpecError
from limbnet.specs.dataset import DatasetSpec

log = logging.getLogger(__name__)

#: Masks that a process draws before it reports back.
MASKS_AT_ONCE = 32

#: Fewer masks are drawn sooner than further processes have started.
FEW_MASKS = 2000


@dataclass
class Conversion:
    """What a conversion did.

    Attributes:
        images: pictures in the annotation file.
        people: annotations in the file.
        records: records written.
        masks: masks written.
        mask_folder: where the masks lie.
        skipped: pictures left out because they or their masks are missing.
        files: the record files.
    """

    images: int
    people: int
    records: int = 0
    masks: int = 0
    skipped: int = 0
    mask_folder: Path | None = None
    files: list[Path] = field(default_factory=list)


def convert_dataset(
    spec: DatasetSpec,
    output: Path | str,
    mode: Literal["train", "test"] = "train",
    *,
    partitions: int = 1,
    shards: int = 0,
    generate_masks: bool = False,
    check_files: bool = False,
    processes: int | None = None,
) -> Conversion:
    """Write the records, and if wanted the masks, of one part of a dataset.

    Args:
        spec: the dataset spec.
        output: start of the record files' names; `-fold-PPP-of-PPP` and `-shard-SSSSS-of-SSSSS` follow.
        mode: which part.
        partitions: folds; a record belongs to the fold of its number modulo this. 0 is one fold without a suffix.
        shards: files for each fold, 0 for one without a suffix.
        generate_masks: write a mask for every picture that has an annotation.
        check_files: leave out pictures that are missing or whose masks are, with a warning.
        processes: that draw masks; None lets `write_masks` choose.

    Raises:
        DataError: the annotation file is wrong (see `load_coco`), or contains nobody to train on.
        SpecError: masks are wanted, but the spec does not say where.
    """
    part = spec.part(mode)
    if generate_masks and not part.mask_root_dir_path:
        raise SpecError(f"{mode}_data has no mask_root_dir_path.", "Name the folder for the masks, or do without them.")
    dataset = load_coco(
        spec.root_directory_path / part.annotation_root_dir_path,
        spec.root_directory_path / part.images_root_dir_path,
        spec.category,
        segmentations=generate_masks,
    )
    visibility_codes(spec, dataset.people.keypoints[..., 2])  # refuses flags that training would refuse
    _check_mask_names(dataset)
    selected = select_samples(dataset, spec.data_filtering_params, spec.duplicate_data_with_each_person_as_center)
    check_some(len(selected), f"'{dataset.annotation_file}'")
    folders = _Folders(spec.root_directory_path, part.images_root_dir_path, part.mask_root_dir_path, spec.dataset)
    done = Conversion(len(dataset), len(dataset.people))
    if generate_masks:
        done.mask_folder = spec.root_directory_path / part.mask_root_dir_path
        done.masks = write_masks(dataset, done.mask_folder, processes)
    if check_files:
        selected = _with_files(selected, dataset, folders, done)
        check_some(
            len(selected),
            f"The part of '{dataset.annotation_file}' whose files exist",
            "Check the paths in the dataset spec. Masks are made by --generate_masks.",
        )
    _write_records(selected, dataset, folders, done, output=Path(output), partitions=partitions, shards=shards)
    return done


def record_name(output: Path, partition: int, partitions: int, shard: int, shards: int) -> Path:
    """Return the name of one record file."""
    name = output.name
    if partitions:
        name += f"-fold-{partition:03d}-of-{partitions:03d}"
    if shards:
        name += f"-shard-{shard:05d}-of-{shards:05d}"
    return output.with_name(name)


def _check_mask_names(dataset: CocoDataset) -> None:
    """Refuse pictures whose masks would have one name."""
    seen: dict[str, str] = {}
    for image in dataset.images:
        other = seen.setdefault(mask_name(image.file_name), image.file_name)
        if other is not image.file_name:
            raise DataError(
                f"The pictures '{other}' and '{image.file_name}' of '{dataset.annotation_file}' share one mask, "
                f"'{mask_name(other)}'.",
                "List every picture once, under a name of its own.",
            )


def write_masks(dataset: CocoDataset, folder: Path, processes: int | None = None) -> int:
    """Write the loss mask of every picture that has an annotation, and return how many there were.

    Args:
        dataset: read with its segmentations.
        folder: for the masks, under the pictures' names with the suffix `.png`.
        processes: None is one a core, or only this one for few masks.
    """
    numbers = np.flatnonzero(np.diff(dataset.first))
    groups = np.array_split(numbers, max(1, -(-len(numbers) // MASKS_AT_ONCE)))
    tasks = ([_mask_task(dataset, int(number), folder) for number in group] for group in groups)
    if processes is None:
        processes = 1 if len(numbers) < FEW_MASKS else os.cpu_count() or 1
    processes = min(processes, len(groups))
    with progress() as bars:
        bar = bars.add_task("masks", total=len(numbers))
        for count in _in_processes(tasks, processes):
            bars.advance(bar, count)
    return len(numbers)


_MaskTask = tuple[Path, MaskRegions, int, int]


def _mask_task(dataset: CocoDataset, number: int, folder: Path) -> _MaskTask:
    image = dataset.images[number]
    return folder / mask_name(image.file_name), mask_regions(dataset.annotations(number)), image.height, image.width


def _write_mask_group(group: list[_MaskTask]) -> int:
    """Draw and write some masks; runs in the worker processes."""
    for path, regions, height, width in group:
        write_mask(path, loss_mask(regions, height, width))
    return len(group)


def _in_processes(groups: Iterator[list[_MaskTask]], processes: int) -> Iterator[int]:
    """Write groups of masks in worker processes; yield how many each group had.

    Only a few groups are on their way at a time, so memory does not grow with the dataset.
    """
    if processes <= 1:
        yield from map(_write_mask_group, groups)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[int]] = deque()
        try:
            for group in groups:
                waiting.append(pool.submit(_write_mask_group, group))
                if len(waiting) > 3 * processes:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except BrokenProcessPool as error:
            raise DataError(
                "A process that draws masks ended unexpectedly.", "It may have run out of memory."
            ) from error
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _with_files(
    selected: list[tuple[int, int]], dataset: CocoDataset, folders: _Folders, done: Conversion
) -> list[tuple[int, int]]:
    """Return the samples whose picture and mask exist; name the others' pictures."""
    images = list(dict.fromkeys(image for image, _ in selected))
    pictures = {image: str(folders.root / folders.image(dataset.images[image].file_name)) for image in images}
    names = {image: folders.mask(dataset.images[image].file_name) for image in images}
    masks = {image: str(folders.root / name) for image, name in names.items() if name}
    missing = set(missing_files([*pictures.values(), *masks.values()]))
    lost = set()
    for image in images:
        gone = next((path for path in (pictures[image], masks.get(image, "")) if path in missing), None)
        if gone:
            lost.add(image)
            log.warning("'%s' is missing: its picture is left out.", gone)
    done.skipped = len(lost)
    return [(image, main) for image, main in selected if image not in lost]


def _write_records(
    selected: list[tuple[int, int]],
    dataset: CocoDataset,
    folders: _Folders,
    done: Conversion,
    *,
    output: Path,
    partitions: int,
    shards: int,
) -> None:
    """Write the record files: fold by fold, each shuffled by the one seeded generator, then cut into shards."""
    random = seeded_random()
    with progress() as bars:
        bar = bars.add_task("records", total=len(selected))
        for partition in range(max(1, partitions)):
            fold = selected[partition :: max(1, partitions)]
            fold = [fold[number] for number in shuffled(len(fold), random)]
            size = len(fold) // max(1, shards)
            for shard in range(max(1, shards)):
                last = shard == max(1, shards) - 1
                chosen = fold[shard * size : None if last else (shard + 1) * size]
                file = record_name(output, partition, partitions, shard, shards)
                messages = (encode_record(_record(dataset, image, main, folders)) for image, main in chosen)
                done.records += write_messages(file, bars.track(messages, task_id=bar, total=len(selected)))
                done.files.append(file)


def _record(dataset: CocoDataset, number: int, main: int, folders: _Folders) -> Record:
    """Build the record of one main person."""
    image, annotations = dataset.images[number], dataset.annotations(number)
    rows = people_around(annotations, main)
    return Record(
        image.id,
        image.height,
        image.width,
        folders.image(image.file_name),
        folders.mask(image.file_name),
        folders.dataset,
        annotations.keypoints[rows],
        annotations.boxes[rows, 3],
        annotations.centres[rows],
        main,
        None if annotations.confidence is None else annotations.confidence[rows],
    )


@dataclass(frozen=True)
class _Folders:
    """Where records say that files are: relative to the dataset's root, with forward slashes."""

    root: Path
    images: str
    masks: str
    dataset: str

    def image(self, name: str) -> str:
        return str(PurePosixPath(self.images) / name)

    def mask(self, name: str) -> str:
        """Return the mask's path, or "" when the dataset spec names no folder for masks: the whole picture counts."""
        return str(PurePosixPath(self.masks) / mask_name(name)) if self.masks else ""
