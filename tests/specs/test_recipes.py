"""Keys of the recipes for little data: off by default, and wrong values are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from limbnet.errors import SpecError
from limbnet.specs.load import load_train_spec
from limbnet.specs.train import TrainSpec


def spec(**dataloader: Any) -> TrainSpec:
    config = {"dataset_specs": {"coco": "coco.json", "own": "own.json"}} | dataloader.pop("dataset_config", {})
    return TrainSpec.model_validate({"dataloader": {"dataset_config": config} | dataloader})


def test_the_original_recipe_has_none_of_it(root: Path) -> None:
    for name in ("bpnet_train_m1_coco.yaml", "bpnet_retrain_m1_coco.yaml"):
        loader = load_train_spec(root / "specs" / name).dataloader
        augmentation, labels, data = loader.augmentation_config, loader.label_processor_config, loader.dataset_config
        assert (augmentation.mosaic_params, augmentation.copy_paste_params) == (None, None)
        assert augmentation.colour_aug_params is None
        assert (labels.hidden_joints, labels.use_confidence) == ((), False)
        assert (data.dataset_weights, data.samples_per_epoch, data.validation_datasets) == (None, None, None)
        assert loader.image_config.growing_sizes == ()


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"dataset_config": {"dataset_weights": {"coco": 1, "mine": 1}}}, "dataset_weights.mine: is no name in"),
        ({"dataset_config": {"dataset_weights": {"coco": 1}}}, "dataset_weights: says nothing about 'own'"),
        ({"dataset_config": {"dataset_weights": {"coco": 1, "own": -1}}}, "must not be negative"),
        ({"dataset_config": {"dataset_weights": {"coco": 0, "own": 0}}}, "at least one must be above 0"),
        ({"dataset_config": {"validation_datasets": ["mine"]}}, "names 'mine', which dataset_specs does not"),
        ({"dataset_config": {"samples_per_epoch": 0}}, "samples_per_epoch"),
        ({"augmentation_config": {"mosaic_params": {"centre_min": 0.8}}}, "centre_min: is 0.8, above centre_max 0.7"),
        ({"augmentation_config": {"mosaic_params": {"prob": 2}}}, "mosaic_params.prob"),
        (
            {"augmentation_config": {"copy_paste_params": {"person_scale_min": 0.9}}},
            "person_scale_min: is 0.9, above person_scale_max 0.8",
        ),
        ({"label_processor_config": {"hidden_joints": ["invisible"]}}, "hidden_joints"),
        (
            {"image_config": {"growing_sizes": [{"first_epoch": 1, "height": 64, "width": 64}]}},
            "the first entry needs first_epoch 0",
        ),
        (
            {"image_config": {"growing_sizes": [{"first_epoch": 0, "height": 64, "width": 64}] * 2}},
            "which must rise",
        ),
        (
            {"image_config": {"growing_sizes": [{"first_epoch": 0, "height": 60, "width": 64}]}},
            "growing_sizes.0: is 60x64, no multiple of the network's stride 8",
        ),
    ],
)
def test_mistakes_are_named(keys: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec(**keys)
    assert words in str(caught.value)


def test_light_models_have_their_own_rules(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    start = "dataloader:\n  dataset_config:\n    dataset_specs: {coco: coco.json}\n"
    path = tmp_path / "train.yaml"
    path.write_text(start + "model:\n  stages: 1\n  backbone_attributes: {output_stride: 4}\n")
    with pytest.raises(SpecError) as caught:
        load_train_spec(path)
    assert "only efficientnet_lite0 has a choice" in str(caught.value)
    path.write_text(start + "model:\n  stages: 1\n")
    with pytest.raises(SpecError, match="stages: is 1: only BpNetLightModel has less than 2"):
        load_train_spec(path)
    path.write_text(start + "model:\n  image_pyramid_levels: 2\n")
    with pytest.raises(SpecError, match="image_pyramid_levels: is 2: only BpNetLightModel has more than 1"):
        load_train_spec(path)
    path.write_text(
        start
        + "model:\n  __class_name__: BpNetLightModel\n  stages: 1\n  use_bias: False\n"
        + "  backbone_attributes: {architecture: efficientnet_lite0, nlayers: 5, output_stride: 4}\n"
    )
    loaded = load_train_spec(path)
    assert loaded.model.backbone_attributes.stride == 4
    assert "'model.use_bias' has no effect here" in caplog.text
    assert "'model.backbone_attributes.nlayers' has no effect here" in caplog.text


@pytest.mark.parametrize("name", ["limbnet_s", "limbnet_s_third", "limbnet_m", "limbnet_m_last"])
def test_shipped_recipes_name_no_machine(root: Path, name: str) -> None:
    path = root / "specs" / f"{name}.yaml"
    loaded = load_train_spec(path)
    assert loaded.dataloader.dataset_config.validation_datasets == ("coco_mini",)
    assert set(loaded.dataloader.dataset_config.dataset_weights or ()) == {"coco_mini", "lspet", "everyday"}
    text = path.read_text()
    assert "/work" not in text
    assert ".." not in text
