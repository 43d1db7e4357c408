"""Train specs of published networks over a few real pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

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


def cut_square(dataset: Path) -> None:
    """Cut the pictures of a dataset spec that `write_dataset` wrote to the square in their middle, people with them.

    Bottom-up networks learn from that square and are measured on whole pictures; now both are the same.
    """
    folder, spec = dataset.parent, json.loads(dataset.read_text())
    content = json.loads((folder / "annotations.json").read_text())
    source = Path(spec["root_directory_path"]) / spec["train_data"]["images_root_dir_path"]
    (folder / "squares").mkdir()
    corners = {}
    for image in content["images"]:
        side = min(image["height"], image["width"])
        x, y = (image["width"] - side) // 2, (image["height"] - side) // 2
        with Image.open(source / image["file_name"]) as picture:
            image["file_name"] = f"{Path(image['file_name']).stem}.png"
            picture.crop((x, y, x + side, y + side)).save(folder / "squares" / image["file_name"])
        image |= {"height": side, "width": side}
        corners[image["id"]] = x, y
    for person in content["annotations"]:
        x, y = corners[person["image_id"]]
        joints = [person["keypoints"][first : first + 3] for first in range(0, len(person["keypoints"]), 3)]
        moved = [(u - x, v - y, seen) if seen else (0, 0, 0) for u, v, seen in joints]
        person["keypoints"] = [value for joint in moved for value in joint]
        left, top, width, height = person["bbox"]
        person["bbox"] = [left - x, top - y, width, height]
        person.pop("segmentation", None)
    (folder / "annotations.json").write_text(json.dumps(content))
    for part in ("train_data", "test_data"):
        spec[part] = {"images_root_dir_path": ".", "annotation_root_dir_path": str(folder / "annotations.json")}
    spec["root_directory_path"] = str(folder / "squares")
    dataset.write_text(json.dumps(spec))


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
