"""Person boxes: of the ground truth, and of detection files, good and bad."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from limbnet.data.boxes import load_detections, true_boxes
from limbnet.data.coco import Annotations, CocoImage
from limbnet.errors import DataError

IMAGES = [CocoImage(7, "a.jpg", 100, 200, Path("a.jpg")), CocoImage(9, "b.jpg", 50, 50, Path("b.jpg"))]


def people(boxes, keypoints=None, areas=None, crowd=None) -> Annotations:
    count = len(boxes)
    return Annotations(
        np.ones((count, 2, 3)) if keypoints is None else np.array(keypoints, float),
        np.full(count, 2),
        np.array(boxes, float).reshape(-1, 4),
        np.array(areas or [9] * count, float),
        np.array(crowd or [False] * count, bool),
        None,
        [],
    )


def write(tmp_path, entries) -> Path:
    file = tmp_path / "detections.json"
    file.write_text(json.dumps(entries))
    return file


def detection(image=7, box=(1, 2, 30, 40), score=0.5, category=1):
    return {"image_id": image, "category_id": category, "bbox": list(box), "score": score}


def test_true_boxes_are_clipped_to_the_picture() -> None:
    """From pixel 10 to pixel 10 + 20 - 1; a box that leaves the picture ends at its last pixel."""
    found = true_boxes(people([(10, 5, 20, 30), (-4, 0, 20, 30), (180, 90, 50, 50)]), (100, 200))
    np.testing.assert_array_equal(found.boxes, [(10, 5, 19, 29), (0, 0, 19, 29), (180, 90, 19, 9)])
    wider = true_boxes(people([(10, 5, 20, 30)]), (100, 200), last_pixel_counts=True)
    np.testing.assert_array_equal(wider.boxes, [(10, 5, 20, 30)])
    assert found.scores.tolist() == [1, 1, 1]


def test_crowds_and_people_without_joints_or_area_have_no_box() -> None:
    keypoints = np.ones((4, 2, 3))
    keypoints[1] = 0
    box = (0, 0, 9, 9)
    found = true_boxes(people([box] * 4, keypoints, [9, 9, 0, 9], [False, False, False, True]), (100, 200))
    assert len(found) == 1
    assert len(true_boxes(people([(300, 10, 9, 9)]), (100, 200))) == 0
    assert len(true_boxes(people([]), (100, 200))) == 0


def test_detections_by_picture_in_the_order_of_the_file(tmp_path) -> None:
    entries = [detection(9, score=0.1), detection(7, (1, 1, 5, 5), 0.2), detection(9, (2, 2, 5, 5), 0.9)]
    found = load_detections(write(tmp_path, entries), IMAGES)
    assert found.boxes(9).scores.tolist() == [0.1, 0.9]
    assert found.boxes(7).boxes.tolist() == [[1, 1, 5, 5]]
    assert len(found.boxes(1)) == 0
    assert (len(found), found.skipped) == (3, {})


def test_what_cannot_be_used_is_counted_by_reason(tmp_path) -> None:
    entries = [
        detection(),
        detection(image=12),
        detection(image=13),
        detection(category=3),
        detection(score=0.05),
        detection(box=(1, 2, 0, 40)),
        detection(box=(1, 2, 30, -1)),
        detection(box=(200, 2, 30, 40)),
        detection(box=(-30, 2, 30, 40)),
        detection(box=(-29, 2, 30, 40)),
    ]
    found = load_detections(write(tmp_path, entries), IMAGES, min_score=0.1)
    assert len(found) == 2
    assert found.skipped == {
        "of pictures that are not in the dataset": 2,
        "of another category": 1,
        "below the score 0.1": 1,
        "of zero size": 2,
        "outside their picture": 2,
    }


def test_the_file_of_another_dataset_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match=r"knows none of the 2 pictures.*image_id is 12.*first is 7"):
        load_detections(write(tmp_path, [detection(image=12)]), IMAGES)
    assert len(load_detections(write(tmp_path, []), IMAGES)) == 0


def test_every_wrong_entry_is_named(tmp_path) -> None:
    wrong = [
        detection(image="7"),
        detection(box=(1, 2, 3)),
        detection(score=None),
        detection(box=(1, 2, float("nan"), 4)),
        {"image_id": 7, "category_id": True, "bbox": [1, 2, 3, 4], "score": 1},
    ]
    with pytest.raises(DataError) as caught:
        load_detections(write(tmp_path, wrong), IMAGES)
    for text in ("entry 0: image_id is '7'", "entry 1: bbox has 3", "entry 2: score", "entry 3: bbox", "entry 4: cate"):
        assert text in str(caught.value)


@pytest.mark.parametrize("content", ["{}", "[1]", "no json", '{"annotations": []}'])
def test_other_files_are_refused(tmp_path, content) -> None:
    file = tmp_path / "x.json"
    file.write_text(content)
    with pytest.raises(DataError, match=r"x\.json"):
        load_detections(file, IMAGES)
    with pytest.raises(DataError, match="Cannot read"):
        load_detections(tmp_path / "missing.json", IMAGES)
