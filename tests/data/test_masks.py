"""Loss masks: who hides what, from whom, and the files they are kept in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dataset_folder import DatasetFolder, person
from numpy.typing import NDArray
from PIL import Image
from pycocotools import mask as coco_mask

from limbnet.data.coco import load_coco
from limbnet.data.masks import (
    WHOLE_PICTURE,
    MaskRegions,
    compact_segmentation,
    loss_mask,
    mask_name,
    mask_regions,
    picture_mask,
    read_mask,
    write_mask,
)
from limbnet.errors import DataError


def square(x0: float, y0: float, x1: float, y1: float) -> tuple[NDArray[np.float64], ...]:
    return (np.array([x0, y0, x1, y0, x1, y1, x0, y1]),)


def hidden(regions: MaskRegions) -> NDArray[np.bool_]:
    mask = loss_mask(regions, 20, 30)
    assert set(np.unique(mask)) <= {0, 255}
    return mask == 0


def area(x0: int, y0: int, x1: int, y1: int) -> NDArray[np.bool_]:
    out = np.zeros((20, 30), dtype=bool)
    out[y0:y1, x0:x1] = True
    return out


def test_nothing_is_hidden_without_crowds_and_unlabelled_people() -> None:
    assert not hidden(WHOLE_PICTURE).any()
    assert not hidden(MaskRegions((), (), (square(2, 2, 9, 9),))).any()


def test_labelled_people_stand_out_of_crowds() -> None:
    found = hidden(MaskRegions((square(5, 5, 20, 15),), (), (square(10, 5, 15, 15),)))
    np.testing.assert_array_equal(found, area(5, 5, 20, 15) & ~area(10, 5, 15, 15))


def test_labelled_people_do_not_stand_out_of_unlabelled_ones() -> None:
    found = hidden(MaskRegions((), (square(5, 5, 20, 15),), (square(10, 5, 15, 15),)))
    np.testing.assert_array_equal(found, area(5, 5, 20, 15))


def test_regions_of_annotations(folder: DatasetFolder) -> None:
    """Unlabelled without an outline: its box. Labelled without one: nothing. Crowds stay crowds whatever they label."""
    folder.image(1, 20, 30)
    folder.people(
        person(1, 1, (2, 3, 5, 6), 0, segmentation=[]),
        person(2, 1, (10, 3, 5, 6), segmentation=[]),
        person(3, 1, (15, 3, 5, 6), 0, iscrowd=1),
        person(4, 1, (22, 3, 5, 6)),
    )
    folder.write()
    dataset = load_coco(folder.annotation_file, folder.root, folder.write().category)
    regions = mask_regions(dataset.annotations(0))
    assert [len(regions.crowd), len(regions.unlabelled), len(regions.labelled)] == [1, 1, 1]
    found = loss_mask(regions, 20, 30) == 0
    np.testing.assert_array_equal(found, area(2, 3, 7, 9) | area(15, 3, 20, 9))


def test_run_lengths_in_every_form() -> None:
    """COCO's plain run lengths, its compressed ones and a polygon of one rectangle are one region."""
    wanted = area(3, 4, 10, 12)
    runs = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], wanted.T.ravel().astype(int), [2]]))))
    plain = {"size": [20, 30], "counts": [int(run) for run in runs]}
    compressed = coco_mask.encode(np.asfortranarray(wanted.astype(np.uint8)))
    compressed["counts"] = compressed["counts"].decode()
    for raw in (plain, compressed, [[3, 4, 10, 4, 10, 12, 3, 12]]):
        region = compact_segmentation(raw, 20, 30)
        np.testing.assert_array_equal(hidden(MaskRegions((), (region,), ())), wanted)


def test_polygons_that_cover_nothing_vanish() -> None:
    assert compact_segmentation([[1, 2, 3, 4], []], 20, 30) == ()


def test_names() -> None:
    assert mask_name("a/b.c.jpg") == "a/b.c.png"
    assert mask_name("plain") == "plain.png"


def test_masks_are_exact_in_their_file(tmp_path: Path) -> None:
    mask = np.where(np.random.default_rng(0).random((20, 30)) > 0.5, 255, 0).astype(np.uint8)
    path = tmp_path / "sub" / "m.png"
    write_mask(path, mask)
    np.testing.assert_array_equal(read_mask(path, (20, 30)), mask)
    assert Image.open(path).mode == "L"
    np.testing.assert_array_equal(picture_mask(str(path), (20, 30)), mask)


def test_jpeg_masks_of_older_tools(tmp_path: Path) -> None:
    """Their values are not 0 and 255; up to 127 is 0."""
    exact = np.where(area(7, 5, 22, 13), 0, 255).astype(np.uint8)
    path = tmp_path / "m.jpg"
    Image.fromarray(exact).save(path, quality=75)
    assert len(np.unique(np.asarray(Image.open(path)))) > 2
    np.testing.assert_array_equal(read_mask(path, (20, 30)), exact)
    Image.fromarray(np.array([[127, 128]], np.uint8)).save(tmp_path / "limit.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "limit.png", (1, 2)), [[0, 255]])


def test_whole_pictures_need_no_mask() -> None:
    assert picture_mask(WHOLE_PICTURE, (20, 30)) is None


def test_mask_of_another_size(tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.zeros((20, 30), np.uint8))
    with pytest.raises(DataError, match=r"is 20x30 .* its picture 30x20"):
        read_mask(tmp_path / "m.png", (30, 20))
    with pytest.raises(DataError, match="does not exist"):
        read_mask(tmp_path / "gone.png", (30, 20))
