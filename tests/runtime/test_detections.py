"""`detections.json`: written bit by bit, read as if it had been written at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limbnet.poses import Poses
from limbnet.runtime.detections import detection_entry, open_detections, pose_config
from limbnet.runtime.predictor import Result
from limbnet.skeleton import BODY_18
from limbnet.specs.pose import PoseConfigFile

SPEC = {"input_shape": [368, 368], "model_path": "a/b.tlt", "keep_aspect_ratio_mode": None}
ENTRIES = [{"full_image_path": 'a "b"\n.jpg', "keypoints": [[[1.5, 2.0]]], "scores": [0.9]}, {"full_image_path": "ä"}]


@pytest.mark.parametrize("entries", [[], ENTRIES[:1], ENTRIES])
def test_the_file_is_what_json_would_write_at_once(tmp_path: Path, entries: list[dict]) -> None:
    target = tmp_path / "new" / "detections.json"
    with open_detections(target, BODY_18, SPEC, {"note": {"a": []}, "images": "replaced", "categories": 1}) as file:
        for entry in entries:
            file.add(entry)
    whole = {"note": {"a": []}, **pose_config(BODY_18), "inference_spec": SPEC, "images": entries}
    reordered = {key: whole[key] for key in json.loads(target.read_text())}
    assert reordered == whole
    assert target.read_text() == json.dumps(reordered, indent=2) + "\n"


def test_a_failure_leaves_the_earlier_file(tmp_path: Path) -> None:
    target = tmp_path / "detections.json"
    target.write_text("earlier")

    def fail() -> None:
        with open_detections(target, BODY_18, {}) as file:
            file.add({})
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "earlier"
    assert [path.name for path in tmp_path.iterdir()] == ["detections.json"]


def test_the_pose_config_fields_are_a_pose_config() -> None:
    config = pose_config(BODY_18)
    assert "background" not in config["categories"][0]["keypoints"]  # the original leaks it
    assert PoseConfigFile.model_validate_json(json.dumps(config)).skeleton() == BODY_18


def test_an_entry_keeps_what_was_said_but_not_what_is_found_anew() -> None:
    said = {"full_image_path": "old", "keypoints": [1], "scores": [2], "note": "kept"}
    poses = Poses.empty(BODY_18, (4, 4))
    assert detection_entry(Result(0, "a", poses), "new", said) == {
        "full_image_path": "new",
        "note": "kept",
        "keypoints": [],
        "scores": [],
    }
    assert detection_entry(Result(0, "a", None), "new", said) == {"full_image_path": "new", "note": "kept"}
