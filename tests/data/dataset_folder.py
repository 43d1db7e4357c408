"""A folder with a small made-up dataset: pictures of noise, annotations, and the specs that name them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from limbnet.skeleton import COCO_JOINTS
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.train import TrainSpec

JOINTS = len(COCO_JOINTS)


def person(
    number: int,
    image: int,
    box: tuple[float, float, float, float] = (20.0, 10.0, 60.0, 90.0),
    labelled: int = JOINTS,
    **changes: Any,
) -> dict[str, Any]:
    """Return an annotation whose first `labelled` joints lie inside the box, alternately visible and occluded."""
    x, y, w, h = box
    keypoints: list[float] = []
    for joint in range(JOINTS):
        share = (joint + 1) / (JOINTS + 1)
        keypoints += [x + w * share, y + h * ((3 * share) % 1), 2 - joint % 2] if joint < labelled else [0, 0, 0]
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "bbox": list(box),
        "area": w * h,
        "iscrowd": 0,
        "num_keypoints": labelled,
        "keypoints": keypoints,
        "segmentation": [outline],
        **changes,
    }


class DatasetFolder:
    """A folder with pictures, an annotation file and the specs that name them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.content: dict[str, Any] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": 1, "name": "person", "keypoints": list(COCO_JOINTS)}],
        }

    def image(self, number: int, height: int = 120, width: int = 160, name: str | None = None, **changes: Any) -> None:
        """Add a picture of noise with its entry."""
        name = name or f"{number:03d}.jpg"
        path = self.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((width, height)).save(path)
        self.content["images"].append({"id": number, "file_name": name, "height": height, "width": width, **changes})

    def people(self, *people: dict[str, Any]) -> None:
        """Add annotations."""
        self.content["annotations"] += people

    @property
    def annotation_file(self) -> Path:
        return self.root / "people.json"

    def write(self) -> DatasetSpec:
        """Write the annotation file and return the dataset spec."""
        self.annotation_file.write_text(json.dumps(self.content))
        part = {
            "images_root_dir_path": "images",
            "mask_root_dir_path": "masks",
            "annotation_root_dir_path": "people.json",
        }
        spec = {
            "root_directory_path": str(self.root),
            "train_data": part,
            "test_data": part,
            "categories": [{"name": "person", "num_joints": JOINTS, "keypoints": list(COCO_JOINTS)}],
        }
        (self.root / "dataset.json").write_text(json.dumps(spec))
        return DatasetSpec.model_validate(spec)

    def train_spec(self, **loader: Any) -> TrainSpec:
        """Return a train spec that reads this dataset; `loader` changes its dataloader section."""
        dataloader: dict[str, Any] = {
            "batch_size": 3,
            "workers": 0,
            "image_config": {"image_dims": {"height": 64, "width": 96}},
            "dataset_config": {"dataset_specs": {"coco": str(self.root / "dataset.json")}},
        }
        return TrainSpec.model_validate({"dataloader": dataloader | loader})
