"""Samples of published networks: a person each for top-down ones, a picture with everybody for bottom-up ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from limbnet.data.boxes import people_with_boxes
from limbnet.data.coco import CocoDataset, load_coco
from limbnet.data.masks import WHOLE_PICTURE, MaskRegions, mask_regions
from limbnet.data.people import JointMapping, check_some
from limbnet.data.samples import Picture, Samples
from limbnet.skeleton import Skeleton
from limbnet.specs.dataset import DatasetSpec

NOBODY = "Check the keypoints in the annotation file."


def person_samples(spec: DatasetSpec, skeleton: Skeleton, last_pixel_counts: bool = False) -> Samples:
    """Return a sample for every labelled person of the training data, as HRNet's family chooses and clips their boxes.

    `data_filtering_params` of the dataset spec do not count: the published networks learn from everybody.

    Args:
        spec: the dataset.
        skeleton: what the network learns.
        last_pixel_counts: see `limbnet.data.boxes.true_boxes`.

    Raises:
        DataError: the annotation file is wrong, or nobody in it is labelled.
    """
    dataset = _dataset(spec, segmentations=False)
    boxes = dataset.people.boxes.copy()
    images: list[int] = []
    rows: list[NDArray[np.intp]] = []
    for number, image in enumerate(dataset.images):
        chosen, clipped = people_with_boxes(dataset.annotations(number), (image.height, image.width), last_pixel_counts)
        chosen = chosen + int(dataset.first[number])
        boxes[chosen] = clipped
        images += [number] * len(chosen)
        rows += list(chosen.reshape(-1, 1))
    return _samples(dataset, JointMapping(spec, skeleton), images, rows, boxes=boxes, mask=lambda _: WHOLE_PICTURE)


def picture_samples(spec: DatasetSpec, skeleton: Skeleton) -> Samples:
    """Return a sample for every picture of the training data with an annotation: all its labelled people.

    Its loss mask hides crowds and people nobody labelled, wherever they are (HigherHRNet, DEKR).

    Raises:
        DataError: the annotation file is wrong, or nobody in it is labelled.
    """
    dataset = _dataset(spec, segmentations=True)
    images = [int(number) for number in np.flatnonzero(np.diff(dataset.first))]
    labelled = dataset.people.labelled_count > 0
    rows = [
        np.flatnonzero(labelled[dataset.first[image] : dataset.first[image + 1]]) + int(dataset.first[image])
        for image in images
    ]

    def hidden(image: int) -> MaskRegions:
        regions = mask_regions(dataset.annotations(image))
        return MaskRegions(regions.crowd, regions.unlabelled, ())

    return _samples(dataset, JointMapping(spec, skeleton), images, rows, boxes=dataset.people.boxes, mask=hidden)


def _dataset(spec: DatasetSpec, segmentations: bool) -> CocoDataset:
    part = spec.part("train")
    return load_coco(
        spec.root_directory_path / part.annotation_root_dir_path,
        spec.root_directory_path / part.images_root_dir_path,
        spec.category,
        segmentations,
    )


def _samples(
    dataset: CocoDataset,
    mapping: JointMapping,
    images: list[int],
    rows: list[NDArray[np.intp]],
    *,
    boxes: NDArray[np.float64],
    mask: Callable[[int], MaskRegions],
) -> Samples:
    """Gather samples: sample n shows the people `rows[n]` of picture `images[n]`."""
    check_some(sum(map(len, rows)), f"'{dataset.annotation_file}'", NOBODY)
    numbers = {image: number for number, image in enumerate(dict.fromkeys(images))}
    pictures = [
        Picture(str(entry.path), entry.height, entry.width, mask(image))
        for image in numbers
        for entry in (dataset.images[image],)
    ]
    mains = [int(group[0]) if len(group) else -1 for group in rows]
    return Samples(
        pictures,
        mapping.joints(dataset.people.keypoints),
        None,
        np.concatenate(rows).astype(np.int32),
        np.cumsum([0] + [len(group) for group in rows]),
        np.array([numbers[image] for image in images], dtype=np.int32),
        boxes[mains, :2] + boxes[mains, 2:] / 2,
        boxes[mains, 3],
        boxes=boxes,
        areas=dataset.people.areas,
    )
