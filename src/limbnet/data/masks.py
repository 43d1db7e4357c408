"""Loss masks: where in a picture the loss counts.

A crowd, or a person whom nobody labelled, must not be punished as background. Mask value 255 means that the loss
counts, 0 that it does not. Masks are written as PNG beside the records or made on the fly from the annotations'
regions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from pycocotools import mask as coco_mask

from limbnet.data.pictures import read_picture
from limbnet.errors import DataError
from limbnet.files import write_bytes

if TYPE_CHECKING:
    from limbnet.data.coco import Annotations

#: A region: closed polygons as arrays x0, y0, x1, y1, ... in pixels, or COCO's compressed run lengths.
Segmentation = tuple[NDArray[np.float64], ...] | Mapping[str, Any]

#: Numbers in the smallest polygon that covers anything: three points.
SMALLEST_POLYGON = 6

#: Larger values of a mask file mean that the loss counts.
MASK_THRESHOLD = 127


@dataclass(frozen=True, eq=False)
class MaskRegions:
    """The regions of one picture that decide its loss mask.

    Attributes:
        crowd: regions marked as crowd.
        unlabelled: people without keypoints.
        labelled: people with keypoints; they win over crowds, but not over unlabelled people.
    """

    crowd: tuple[Segmentation, ...]
    unlabelled: tuple[Segmentation, ...]
    labelled: tuple[Segmentation, ...]

    @property
    def hide_something(self) -> bool:
        """False when the whole picture counts."""
        return bool(self.crowd or self.unlabelled)


#: Nothing is hidden.
WHOLE_PICTURE = MaskRegions((), (), ())


def compact_segmentation(raw: Any, height: int, width: int) -> Segmentation:
    """Turn the `segmentation` of a COCO annotation into its compact form; polygons of fewer than three points vanish.

    Raises:
        ValueError: it is neither a list of polygons nor run lengths, has numbers that are none, or another size than
            the picture; the text completes "segmentation ...".
    """
    if isinstance(raw, Mapping):
        return _compact_runs(raw, height, width)
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        raise ValueError("is neither a list of polygons nor run lengths")
    polygons = []
    for polygon in raw:
        try:
            points = np.array(polygon, dtype=np.float64)
        except (TypeError, ValueError):
            raise ValueError("has a polygon that is no list of numbers") from None
        if points.ndim != 1 or len(points) % 2:
            raise ValueError("has a polygon that is no flat list of x, y, x, y, ...")
        if not np.isfinite(points).all():
            raise ValueError("has a number that is not finite")
        if len(points) >= SMALLEST_POLYGON:
            polygons.append(points)
    return tuple(polygons)


def _compact_runs(raw: Mapping[str, Any], height: int, width: int) -> Mapping[str, Any]:
    """Return run lengths in COCO's compressed form."""
    size, counts = raw.get("size"), raw.get("counts")
    if list(size or []) != [height, width]:
        raise ValueError(f"has run lengths of size {size}, but the picture is {height}x{width} (height x width)")
    if isinstance(counts, str):
        return {"size": [height, width], "counts": counts.encode()}
    if not isinstance(counts, list) or not all(isinstance(run, int) and run >= 0 for run in counts):
        raise ValueError("has run lengths that are no whole numbers")
    if sum(counts) != height * width:
        raise ValueError(f"has run lengths that cover {sum(counts)} of {height * width} pixels")
    compressed: Mapping[str, Any] = coco_mask.frPyObjects({"size": [height, width], "counts": counts}, height, width)
    return compressed


def mask_regions(annotations: Annotations) -> MaskRegions:
    """Sort the regions of one picture's annotations. An unlabelled person or crowd without a region hides its box."""
    crowd, unlabelled, labelled = [], [], []
    for number, segmentation in enumerate(annotations.segmentations):
        if annotations.crowd[number]:
            crowd.append(segmentation or _box(annotations, number))
        elif annotations.labelled_count[number] <= 0:
            unlabelled.append(segmentation or _box(annotations, number))
        elif segmentation:
            labelled.append(segmentation)
    if not crowd:
        labelled = []
    return MaskRegions(tuple(crowd), tuple(unlabelled), tuple(labelled))


def _box(annotations: Annotations, number: int) -> Segmentation:
    """Return the box of one annotation as a polygon."""
    x, y, w, h = annotations.boxes[number]
    return (np.array([x, y, x + w, y, x + w, y + h, x, y + h]),)


def loss_mask(regions: MaskRegions, height: int, width: int) -> NDArray[np.uint8]:
    """Draw the mask (h, w) uint8: 0 in crowds outside labelled people and in unlabelled people, 255 elsewhere."""
    if not regions.hide_something:
        return np.full((height, width), 255, dtype=np.uint8)
    hidden = _union(regions.crowd, height, width)
    if regions.labelled:
        hidden &= ~_union(regions.labelled, height, width)
    hidden |= _union(regions.unlabelled, height, width)
    return np.where(hidden, 0, 255).astype(np.uint8)


def outline_mask(outline: Segmentation, height: int, width: int) -> NDArray[np.uint8]:
    """Draw one region as (h, w) uint8: 255 inside, 0 elsewhere."""
    return np.where(_union((outline,), height, width), 255, 0).astype(np.uint8)


def _union(regions: tuple[Segmentation, ...], height: int, width: int) -> NDArray[np.bool_]:
    """Return (h, w) True inside any of the regions."""
    runs: list[Any] = []
    for region in regions:
        if isinstance(region, Mapping):
            runs.append(region)
        else:
            runs += coco_mask.frPyObjects(list(region), height, width)
    if not runs:
        return np.zeros((height, width), dtype=bool)
    return np.asarray(coco_mask.decode(coco_mask.merge(runs)), dtype=bool)


def mask_name(file_name: str) -> str:
    """Return the name of a picture's mask: the picture's with the suffix `.png`, in the same subfolder."""
    return str(PurePosixPath(file_name).with_suffix(".png"))


def write_mask(path: Path, mask: NDArray[np.uint8]) -> None:
    """Write a mask (height, width) uint8 as PNG, whole or not at all."""
    written, content = cv2.imencode(".png", mask)
    if not written:
        raise DataError(f"The mask '{path}' cannot be written as PNG.")
    write_bytes(path, content.tobytes())


def picture_mask(mask: str | MaskRegions, size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Return a picture's mask (height, width) uint8, 0 or 255, or None when the whole picture counts.

    Args:
        mask: its file, or its regions.
        size: (height, width) of the picture.

    Raises:
        DataError: the file is missing, damaged, or of another size.
    """
    if isinstance(mask, MaskRegions):
        return loss_mask(mask, *size) if mask.hide_something else None
    return read_mask(mask, size)


def read_mask(path: Path | str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Read a mask file as (height, width) uint8, 0 or 255.

    Values up to 127 are 0: masks that older tools wrote as JPEG have other values near edges.

    Raises:
        DataError: the file is missing, damaged, or not of `size` (height, width).
    """
    grey = read_picture(path)[..., 0]
    if grey.shape != size:
        raise DataError(
            f"The mask '{path}' is {grey.shape[0]}x{grey.shape[1]} (height x width), its picture {size[0]}x{size[1]}.",
            "Make the masks again: dataset_convert --generate_masks.",
        )
    return np.where(grey > MASK_THRESHOLD, 255, 0).astype(np.uint8)
