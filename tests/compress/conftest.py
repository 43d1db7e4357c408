"""A small network that finds people, and what is needed to compress it in seconds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from limbnet.models.bodyposenet import build_model
from limbnet.models.checkpoint import save_model
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18
from limbnet.specs.train import BackboneAttributes, ModelSpec

SIZE = (64, 96)
BACKBONE: dict[str, Any] = {
    "architecture": "helnet", "nlayers": 6, "mtype": "s8_3rdblock", "use_batch_norm": False, "width": 0.25,
}  # fmt: skip


@pytest.fixture(scope="session")
def dataset_file(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset spec over six pictures of examples/."""
    spec = json.loads((root / "specs/dataset_examples.json").read_text())
    content = json.loads((root / "examples" / spec["train_data"]["annotation_root_dir_path"]).read_text())
    content["images"] = content["images"][:6]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [entry for entry in content["annotations"] if entry["image_id"] in ids]
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "annotations.json").write_text(json.dumps(content))
    spec["root_directory_path"] = str(root / "examples")
    for part in ("train_data", "test_data"):
        spec[part]["annotation_root_dir_path"] = str(folder / "annotations.json")
    (folder / "dataset.json").write_text(json.dumps(spec))
    return folder / "dataset.json"


@pytest.fixture(scope="session")
def train_file(dataset_file: Path) -> Path:
    """A train spec of one epoch."""
    spec = {
        "num_epoch": 1,
        "checkpoint_n_epoch": 1,
        "dataloader": {
            "batch_size": 2,
            "workers": 0,
            "image_config": {"image_dims": {"height": SIZE[0], "width": SIZE[1], "channels": 3}},
            "dataset_config": {"dataset_specs": {"few": str(dataset_file)}},
        },
        "model": {"backbone_attributes": BACKBONE, "stages": 2, "stageT_kernel_sizes": [3]},
    }
    path = dataset_file.with_name("train.yaml")
    path.write_text(yaml.safe_dump(spec))
    return path


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network whose filters differ in norm, as those of a trained one do."""
    torch.manual_seed(3)
    spec = ModelSpec(
        backbone_attributes=BackboneAttributes(**BACKBONE), width=0.25, stages=2,
        stageT_kernel_sizes=(3,), kernel_initializer="xavier",
    )  # fmt: skip
    model = build_model(spec, BODY_18)
    with torch.no_grad():
        for name, conv in model.conv_layers().items():
            if name not in model.output_layers:
                conv.weight.mul_(torch.rand(conv.out_channels, 1, 1, 1) + 0.05)
    path = tmp_path_factory.mktemp("model") / "model.tlt"
    save_model(path, model, ModelInfo(BODY_18, input_size=SIZE))
    return path
