"""COCO annotation files: what is kept, and one clear message for every mistake."""

from __future__ import annotations

import json
import re
from typing import Any

import numpy as np
import pytest
from dataset_folder import DatasetFolder, person

from limbnet.data.coco import CocoDataset, load_coco, stays_inside
from limbnet.errors import DataError
from limbnet.skeleton import COCO_JOINTS
from limbnet.specs.dataset import Category

CATEGORY = Category(keypoints=COCO_JOINTS)


def load(folder: DatasetFolder) -> CocoDataset:
    folder.write()
    return load_coco(folder.annotation_file, folder.root / "images", CATEGORY)


def message(folder: DatasetFolder) -> str:
    """Return the error that loading gives."""
    with pytest.raises(DataError) as caught:
        load(folder)
    return str(caught.value)


def test_annotations_are_grouped_by_picture_in_the_order_of_the_file(folder: DatasetFolder) -> None:
    for number in (7, 3, 5):
        folder.image(number)
    folder.people(person(1, 3), person(2, 7, (0, 0, 30, 40), 4), person(3, 3, (5, 5, 10, 20), 0))
    dataset = load(folder)
    assert [image.id for image in dataset.images] == [7, 3, 5]
    assert dataset.images[1].path == folder.root / "images" / "003.jpg"
    assert [len(dataset.annotations(n)) for n in range(3)] == [1, 2, 0]
    found = dataset.annotations(1)
    np.testing.assert_array_equal(found.boxes, [[20, 10, 60, 90], [5, 5, 10, 20]])
    np.testing.assert_array_equal(found.centres, [[50, 55], [10, 15]])
    np.testing.assert_array_equal(found.labelled_count, [17, 0])
    np.testing.assert_array_equal(found.areas, [5400, 200])
    expected = np.array(folder.content["annotations"][1]["keypoints"]).reshape(1, 17, 3)
    np.testing.assert_array_equal(dataset.annotations(0).keypoints, expected)
    assert found.confidence is None


def test_person_without_keypoints_is_unlabelled(folder: DatasetFolder) -> None:
    folder.image(1)
    bare = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "area": 12.0}
    folder.people(bare, person(2, 1))
    found = load(folder).annotations(0)
    assert list(found.labelled_count) == [0, 17]
    assert not found.keypoints[0].any()
    assert found.segmentations[0] == ()


def test_confidence_is_carried_when_there_is_one(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.people(person(1, 1, keypoint_confidence=[0.5] * 17), person(2, 1))
    found = load(folder).annotations(0)
    assert found.confidence is not None
    np.testing.assert_array_equal(found.confidence, [[0.5] * 17, [1] * 17])


def test_missing_file(folder: DatasetFolder) -> None:
    with pytest.raises(DataError, match=r"Cannot read the annotation file '.*gone\.json'"):
        load_coco(folder.root / "gone.json", folder.root, CATEGORY)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "is not JSON"),
        (b'{"images": [', "is not JSON: .* in line 1, column"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[]", "not in COCO's format: the top level is no object"),
        (b"{}", "no list 'images'"),
        (b'{"images": []}', "no list 'annotations'"),
        (b'{"images": [3], "annotations": []}', "entries that are no objects"),
        (b'{"images": [], "annotations": []}', "lists no pictures"),
    ],
)
def test_files_that_are_not_coco(folder: DatasetFolder, content: bytes, expected: str) -> None:
    folder.annotation_file.write_bytes(content)
    with pytest.raises(DataError, match=expected):
        load_coco(folder.annotation_file, folder.root, CATEGORY)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"keypoints": [1, 2, 2] * 16}, "annotation 9: keypoints has 48 numbers, expected 51 numbers"),
        ({"keypoints": "all"}, "annotation 9: keypoints has 'all', expected 51 numbers"),
        ({"keypoints": [float("nan"), 2, 2] * 17}, "annotation 9: keypoints has a value that is no finite number"),
        ({"keypoints": [float("inf"), 2, 2] * 17}, "annotation 9: keypoints has a value that is no finite number"),
        ({"keypoints": [None, 2, 2] * 17}, "annotation 9: keypoints has a value that is no finite number"),
        ({"keypoints": [[1], 2, 2] * 17}, "annotation 9: keypoints has a value that is no finite number"),
        ({"num_keypoints": 5}, "annotation 9: num_keypoints is 5, but 17 keypoints are labelled"),
        ({"num_keypoints": "17"}, "annotation 9: num_keypoints is '17', but 17 keypoints are labelled"),
        ({"bbox": [5, 5, 0, 20]}, "annotation 9: its bbox is 0 wide and 20 high"),
        ({"bbox": [5, 5, 10, -2]}, "annotation 9: its bbox is 10 wide and -2 high"),
        ({"bbox": [5, 5, 10]}, "annotation 9: bbox has 3 numbers, expected 4 numbers"),
        ({"bbox": None}, "annotation 9: bbox has None, expected 4 numbers"),
        ({"bbox": [5, float("nan"), 10, 10]}, "annotation 9: bbox has a value that is no finite number"),
        ({"area": None}, "annotation 9: area has a value that is no finite number"),
        ({"area": -4}, "annotation 9: area is -4"),
        ({"image_id": 77}, "annotation 9: no picture has its image_id 77"),
        ({"image_id": [1]}, r"annotation 9: no picture has its image_id \[1\]"),
        ({"keypoint_confidence": [0.5] * 3}, "annotation 9: keypoint_confidence has 3 numbers, expected 17 numbers"),
        ({"keypoint_confidence": [1.5] * 17}, "annotation 9: keypoint_confidence has a number outside 0 to 1"),
        ({"segmentation": "yes"}, "annotation 9: segmentation is neither a list of polygons nor run lengths"),
        (
            {"segmentation": [[1, 2, float("nan"), 4, 5, 6]]},
            "annotation 9: segmentation has a number that is not finite",
        ),
        ({"segmentation": [[1, 2, 3, 4, 5]]}, "annotation 9: segmentation has a polygon that is no flat list"),
        (
            {"segmentation": [["a", 2, 3, 4, 5, 6]]},
            "annotation 9: segmentation has a polygon that is no list of numbers",
        ),
        (
            {"segmentation": {"size": [1, 2], "counts": [2]}},
            r"annotation 9: segmentation has run lengths of size \[1, 2\]",
        ),
        (
            {"segmentation": {"size": [120, 160], "counts": [2]}},
            "annotation 9: segmentation .* cover 2 of 19200 pixels",
        ),
    ],
)
def test_wrong_annotations(folder: DatasetFolder, changes: dict[str, Any], expected: str) -> None:
    folder.image(1)
    folder.people(person(8, 1), person(9, 1, **changes))
    assert re.search(expected, message(folder))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"file_name": "../secret.jpg"}, "file_name '../secret.jpg' leads out of the picture folder"),
        ({"file_name": "a/../../b.jpg"}, "leads out"),
        ({"file_name": "/etc/passwd"}, "leads out"),
        ({"file_name": "..\\b.jpg"}, "leads out"),
        ({"file_name": "C:\\b.jpg"}, "leads out"),
        ({"file_name": 7}, "file_name is 7, expected the picture's name"),
        ({"file_name": ""}, "file_name is '', expected"),
        ({"height": 0}, "height and width are 0 and 160, expected whole numbers above 0"),
        ({"width": None}, "height and width are 120 and None"),
        ({"height": 12.5}, "height and width are 12.5 and 160"),
        ({"id": "one"}, "id is 'one', expected a whole number"),
    ],
)
def test_wrong_pictures(folder: DatasetFolder, changes: dict[str, Any], expected: str) -> None:
    folder.image(1)
    folder.content["images"][0].update(changes)
    assert expected in message(folder)


def test_picture_listed_twice(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.image(1)
    assert "image 1: the id is used twice" in message(folder)


def test_all_mistakes_are_listed_at_once(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.people(*(person(n, 1, bbox=[0, 0, 0, 5]) for n in range(30)), person(30, 1, area=-1))
    text = message(folder)
    assert "has 31 mistakes" in text
    assert "annotation 0: its bbox" in text
    assert "... and 19 more" in text


def test_mistakes_of_pictures_and_of_people_are_listed_together_and_nothing_twice(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.image(2, file_name="../002.jpg")
    nan = float("nan")
    folder.people(
        person(1, 1, keypoints=[nan, 2, 2] * 17, bbox=[1, 1, 0, 5]),
        person(2, 1, bbox=[1, nan, 3, 4]),
        person(3, 2, area=-1),
        person(4, 77, segmentation={"size": [1, 2], "counts": [2]}),
    )
    assert message(folder).splitlines()[1:-1] == [
        "  image 2: file_name '../002.jpg' leads out of the picture folder",
        "  annotation 4: no picture has its image_id 77",
        "  annotation 1: keypoints has a value that is no finite number",
        "  annotation 2: bbox has a value that is no finite number",
        "  annotation 1: its bbox is 0 wide and 5 high",
        "  annotation 3: area is -1",
    ]


def test_other_joints_than_the_spec(folder: DatasetFolder) -> None:
    folder.image(1)
    folder.content["categories"][0]["keypoints"] = list(COCO_JOINTS[:16])
    assert "category 'person' has 16 keypoints, the dataset spec names 17" in message(folder)
    folder.content["categories"][0]["keypoints"] = list(reversed(COCO_JOINTS))
    assert "in another order" in message(folder)


def test_file_names_that_stay_inside() -> None:
    assert stays_inside("a/b..c/0001.jpg")
    assert stays_inside("..a.jpg")
    assert not stays_inside("a/../b.jpg")


def test_shipped_data_loads(shared_data: Any) -> None:
    for part in ("coco-mini/annotations/person_keypoints_val.json", "everyday/annotations/person_keypoints_train.json"):
        file = shared_data / part
        dataset = load_coco(file, file.parent, CATEGORY)
        content = json.loads(file.read_text())
        assert len(dataset) == len(content["images"])
        assert len(dataset.people) == len(content["annotations"])
        assert dataset.people.labelled_count.sum() == sum(a["num_keypoints"] for a in content["annotations"])
