"""A few real pictures, and train specs small enough to run in a second."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limbnet.specs.train import TrainSpec

MakeSpec = Callable[..., TrainSpec]


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with nested changes; a section that names another class replaces the old one."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and "__class_name__" not in value:
            result[key] = merged(old, value)
        else:
            result[key] = value
    return result


@pytest.fixture(scope="session")
def few_pictures(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset spec over the first pictures of examples/ that hold some thirty people."""
    spec = json.loads((root / "specs/dataset_examples.json").read_text())
    content = json.loads((root / "examples" / spec["train_data"]["annotation_root_dir_path"]).read_text())
    images, people = [], 0
    while people < 32:
        images.append(content["images"][len(images)])
        of_image = [entry for entry in content["annotations"] if entry["image_id"] == images[-1]["id"]]
        people += sum(entry["num_keypoints"] >= 5 and entry["area"] >= 1024 for entry in of_image)
    ids = {image["id"] for image in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    folder = tmp_path_factory.mktemp("few_pictures")
    content |= {"images": images, "annotations": annotations}
    (folder / "annotations.json").write_text(json.dumps(content))
    spec |= {"root_directory_path": str(root / "examples"), "duplicate_data_with_each_person_as_center": True}
    for part in ("train_data", "test_data"):
        spec[part]["annotation_root_dir_path"] = str(folder / "annotations.json")
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder / "dataset.json"


@pytest.fixture(scope="session")
def make_spec(few_pictures: Path) -> MakeSpec:
    """Build a spec for a very narrow network; nested changes may be given."""
    base: dict[str, Any] = {
        "num_epoch": 2,
        "checkpoint_n_epoch": 1,
        "validation_every_n_epoch": 0,
        "log_every_n_secs": 100,
        "dataloader": {
            "batch_size": 4,
            "workers": 0,
            "image_config": {"image_dims": {"height": 64, "width": 64}},
            "dataset_config": {"dataset_specs": {"few": str(few_pictures)}},
        },
        "model": {
            "backbone_attributes": {"width": 0.05},
            "stages": 2,
            "width": 0.05,
            "stageT_kernel_sizes": [3],
            "kernel_initializer": "xavier",
        },
        "optimizer": {
            "__class_name__": "WeightedMomentumOptimizer",
            "learning_rate_schedule": {
                "__class_name__": "SoftstartAnnealingLearningRateSchedule",
                "base_learning_rate": 2e-4,
                "min_learning_rate": 1e-5,
            },
        },
    }

    def make(**changes: Any) -> TrainSpec:
        return TrainSpec.model_validate(merged(base, changes))

    return make
