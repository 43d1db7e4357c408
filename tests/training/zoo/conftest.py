"""Train specs of published networks over a few real pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from limbnet.specs.zoo_train import ZooTrainSpec

MakeZooSpec = Callable[..., ZooTrainSpec]

#: Pictures with two people each, most of them large.
FOUR = (165, 529, 412151, 442450)

#: Pictures of six people, all of them inside the square in the middle, which is what bottom-up networks see.
CENTRAL = (86, 294, 529, 412151)


def write_dataset(folder: Path, root: Path, pictures: Sequence[int], people: int) -> Path:
    """Write a dataset spec over some pictures of examples/, to learn from and to be measured on; return its file."""
    spec = json.loads((root / "specs/dataset_examples.json").read_text())
    content = json.loads((root / "examples" / spec["train_data"]["annotation_root_dir_path"]).read_text())
    content["images"] = [image for image in content["images"] if image["id"] in pictures]
    content["annotations"] = [person for person in content["annotations"] if person["image_id"] in pictures]
    assert len(content["images"]) == len(pictures)
    assert sum(person["num_keypoints"] > 0 for person in content["annotations"]) == people
    (folder / "annotations.json").write_text(json.dumps(content))
    spec |= {"root_directory_path": str(root / "examples")}
    for part in ("train_data", "test_data"):
        spec[part]["annotation_root_dir_path"] = str(folder / "annotations.json")
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder / "dataset.json"


@pytest.fixture(scope="session")
def four_pictures(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset spec over four pictures of two people each."""
    return write_dataset(tmp_path_factory.mktemp("four_pictures"), root, FOUR, 8)


@pytest.fixture(scope="session")
def make_zoo_spec(four_pictures: Path) -> MakeZooSpec:
    """Build a spec over the four pictures: `size` is the input, `dataloader` and the rest are merged one level deep."""

    def make(zoo: str, size: tuple[int, int], **changes: Any) -> ZooTrainSpec:
        dataloader: dict[str, Any] = {
            "batch_size": 4,
            "workers": 0,
            "image_config": {"image_dims": {"height": size[0], "width": size[1]}},
            "dataset_config": {"dataset_specs": {"four": str(four_pictures)}},
        }
        content: dict[str, Any] = {
            "num_epoch": 2,
            "checkpoint_n_epoch": 1,
            "validation_every_n_epoch": 0,
            "log_every_n_secs": 100,
            "model": {"zoo": zoo},
            "dataloader": dataloader | changes.pop("dataloader", {}),
        }
        return ZooTrainSpec.model_validate(content | changes)

    return make
