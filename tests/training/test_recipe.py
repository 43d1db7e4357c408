"""The whole recipe for little data around a light network: it learns, and a broken run ends as an unbroken one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from limbnet.models.checkpoint import load_model
from limbnet.specs.train import TrainSpec
from limbnet.training.loop import train

from .conftest import MakeSpec
from .test_train import ADAMW


@pytest.fixture
def recipe(make_spec: MakeSpec, few_pictures: Path, tmp_path: Path) -> TrainSpec:
    """Two datasets, the second one with joints that nobody labels, at sizes that grow in the third epoch."""
    unsure = json.loads(few_pictures.read_text())
    unsure.setdefault("visibility_flags", {})["mapping"] = {
        "visible": "visible", "occluded": "occluded", "not_labeled": "not_labeled_in_dataset",
    }  # fmt: skip
    (tmp_path / "unsure.json").write_text(json.dumps(unsure))
    return make_spec(
        num_epoch=4,
        ema_decay=0.9,
        optimizer=ADAMW,
        model={
            "__class_name__": "BpNetLightModel",
            "backbone_attributes": {"architecture": "efficientnet_lite0", "width": 0.25},
            "width": 0.25, "stages": 2, "stage1_kernel_sizes": [5], "stageT_kernel_sizes": [7],
            "kernel_regularization_factor": 0.0,
        },
        dataloader={
            "image_config": {
                "image_dims": {"height": 96, "width": 96},
                "growing_sizes": [
                    {"first_epoch": 0, "height": 64, "width": 64}, {"first_epoch": 2, "height": 96, "width": 96},
                ],
            },
            "dataset_config": {
                "dataset_specs": {"few": str(few_pictures), "unsure": str(tmp_path / "unsure.json")},
                "dataset_weights": {"few": 2, "unsure": 1},
                "samples_per_epoch": 16,
                "validation_datasets": ["few"],
            },
            "normalization_params": {"image_scale": [128.0] * 3, "image_offset": [0.9921875] * 3},
            "augmentation_config": {
                "mosaic_params": {"prob": 0.5}, "copy_paste_params": {"prob": 0.5}, "colour_aug_params": {"hue": 0.1},
            },
            "label_processor_config": {"hidden_joints": ["not_labeled_in_dataset"], "use_confidence": True},
        },
    )  # fmt: skip


def test_a_broken_run_ends_where_an_unbroken_one_does(recipe: TrainSpec, tmp_path: Path) -> None:
    whole = train(recipe, tmp_path / "whole", device="cpu")
    train(recipe, tmp_path / "broken", device="cpu")
    for late in ("model.epoch-3.tlt", "model.epoch-4.tlt", "bpnet_model.tlt"):
        (tmp_path / "broken" / late).unlink()
    train(recipe, tmp_path / "broken", device="cpu")  # goes on after epoch 2, where the input grows
    assert (tmp_path / "broken" / "bpnet_model.tlt").read_bytes() == whole.model.read_bytes()
    losses = [row["total_loss"] for row in whole.history]
    assert losses[1] < losses[0]
    loaded = load_model(whole.model)
    assert loaded.info.image_scale == (128.0,) * 3
    assert loaded.info.input_size == (96, 96)
    assert loaded.model.stride == 8
