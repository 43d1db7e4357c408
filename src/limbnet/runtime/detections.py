"""`detections.json`: the result file of BodyPoseNet, written picture by picture so that any number fits in memory.

Layout, indented by two: the fields of the pose config, `inference_spec`, then `images`, a list with an entry for each
picture: `full_image_path`, `keypoints` [person][joint][x, y] in pixels of the original picture, `scores` [person]. A
picture that could not be read keeps an entry without `keypoints`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from limbnet.files import whole_file
from limbnet.runtime.predictor import Result
from limbnet.skeleton import Skeleton


def pose_config(skeleton: Skeleton) -> dict[str, Any]:
    """Return the fields of a pose config file that describes the skeleton; limbs are 1-based pairs of joints."""
    names = [[skeleton.joints[start], skeleton.joints[end]] for start, end in skeleton.limbs]
    return {
        "pose_config_type": skeleton.name,
        "categories": [
            {
                "supercategory": skeleton.category,
                "id": 1,
                "name": skeleton.category,
                "num_joints": len(skeleton.joints),
                "keypoints": list(skeleton.joints),
                "skeleton": [[start + 1, end + 1] for start, end in skeleton.limbs],
                "skeleton_edge_names": names,
                "redundant_edge_names": [names[limb] for limb in sorted(skeleton.redundant)],
                "sigmas": list(skeleton.sigmas) or None,
            }
        ],
    }


def detection_entry(result: Result[Any], path: str, extra: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the `images` entry of one result; `extra` adds keys but replaces none."""
    found = {} if result.poses is None else result.poses.to_detections()
    kept = {key: value for key, value in (extra or {}).items() if key not in ("full_image_path", "keypoints", "scores")}
    return {"full_image_path": path, **kept, **found}


class DetectionsFile:
    """An open `detections.json`; see `open_detections`."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self.entries = 0

    def add(self, entry: Mapping[str, Any]) -> None:
        """Append one entry of `images`."""
        self._file.write(",\n" if self.entries else "\n")
        self._file.write(_indented(entry, 4))
        self.entries += 1


@contextmanager
def open_detections(
    target: Path | str, skeleton: Skeleton, inference_spec: Mapping[str, Any], extra: Mapping[str, Any] | None = None
) -> Iterator[DetectionsFile]:
    """Open a `detections.json` for writing, whole or not at all: an error in the block leaves an earlier file alone.

    Args:
        target: the file.
        skeleton: names the joints.
        inference_spec: the spec as the user wrote it.
        extra: keys beside `images` to carry along; those of the pose config and the spec win.
    """
    head = dict(extra or {}) | pose_config(skeleton) | {"inference_spec": inference_spec}
    head.pop("images", None)
    with whole_file(target) as partial, partial.open("w", encoding="utf-8") as file:
        file.write("{\n")
        for key, value in head.items():
            file.write(f"  {json.dumps(key)}: {_indented(value, 2).lstrip()},\n")
        file.write('  "images": [')
        writer = DetectionsFile(file)
        yield writer
        file.write("\n  ]\n}\n" if writer.entries else "]\n}\n")


def _indented(value: Any, columns: int) -> str:
    """Return JSON as `json.dumps(..., indent=2)` would write it so many columns deep."""
    pad = " " * columns
    text = json.dumps(value, indent=2, default=str)
    # A newline inside a JSON string is always escaped, so every newline here is layout.
    return pad + text.replace("\n", "\n" + pad)
