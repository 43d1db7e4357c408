"""Mistakes in specs: each told with its line, its key, what was found and what was expected; all at once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spec_text import SMALLEST, Write, mistakes

from limbnet.errors import SpecError
from limbnet.specs.load import load_dataset_spec, load_inference_spec, load_pose_config, load_train_spec

WRONG = {
    "num_epochs: 3": "1: unknown key 'num_epochs'. Did you mean 'num_epoch'?",
    "stages: 3": "1: unknown key 'stages'. It belongs to model.",
    "model: {num_epoch: 3}": "1: unknown key 'model.num_epoch'. It belongs to the top level.",
    "model: {stages: 9}": "1: model.stages: found 9, expected at most 7",
    "model: {stages: 2.5}": "1: model.stages: found 2.5, expected a whole number",
    "model: {stages: true}": "1: model.stages: found true, expected a whole number",
    "model: {stages: null}": "1: model.stages: found nothing (null), expected a whole number",
    "model: {stages: [3]}": "1: model.stages: found a list of 1, expected a whole number",
    "model: 3": "1: model: found 3, expected a section of keys",
    "model: {stages: 3, stages: 4}": "1: 'model.stages' is given twice, first in line 1",
    "model: {regularization_type: l3}": (
        "1: model.regularization_type: found the text 'l3', expected 'l1', 'l2' or 'l1_l2'."
    ),
    "model: {stage1_kernel_sizes: [3, 0]}": "1: model.stage1_kernel_sizes[1]: found 0, expected more than 0",
    "model: {heat_channels: 20}": (
        "1: model.heat_channels: found 20, but the skeleton 'bpnet_18_joints' needs 19 (18 joints + background)"
    ),
    "model: {paf_channels: 20}": (
        "1: model.paf_channels: found 20, but the skeleton 'bpnet_18_joints' needs 38 (2 x 19 limbs)"
    ),
    "model: {backbone_attributes: {nlayers: 16}}": (
        "1: model.backbone_attributes.nlayers: is 16: vgg is built with 19 layers"
    ),
    "model: {backbone_attributes: {architecture: helnet}}": (
        "1: model.backbone_attributes.nlayers: is missing: helnet is built with 6, 10, 12, 18, 26, 34 layers"
    ),
    "optimizer: {__class_name__: WeightedMomentumOptimiser}": (
        "1: optimizer.__class_name__: found the text 'WeightedMomentumOptimiser'. "
        "Did you mean 'WeightedMomentumOptimizer'?"
    ),
    "__class_name__: BpNetTraner": (
        "1: __class_name__: found the text 'BpNetTraner', expected 'BpNetTrainer'. Did you mean 'BpNetTrainer'?"
    ),
    "optimizer: {learning_rate_schedule: {base_learning_rate: .nan}}": (
        "1: optimizer.learning_rate_schedule.base_learning_rate: found the text '.nan', expected a number"
    ),
    "optimizer: {momentum: 1e999}": "1: optimizer.momentum: found inf, expected a finite number",
    "optimizer: {learning_rate_schedule: {base_learning_rate: 1.e-9}}": (
        "1: optimizer.learning_rate_schedule.min_learning_rate: is above base_learning_rate 1e-09"
    ),
    "num_epoch: 7": "1: checkpoint_n_epoch: is 5, which must divide num_epoch 7",
    "optimizer: {__class_name__: AdamWOptimizer, learning_rate_schedule: {__class_name__: CosineLearningRateSchedule, "
    "planned_epochs: [{first_epoch: 0, num_epoch: 40}]}}": (
        "1: optimizer.learning_rate_schedule.planned_epochs: plans 40 epochs in the end, but num_epoch is 100; "
        "leave it out for another length"
    ),
    "checkpoint_n_epoch: 5\ncheckpoint_interval: 5": (
        "2: 'checkpoint_interval' is another name of 'checkpoint_n_epoch', which is given too"
    ),
    "load_graph: true": "1: load_graph: needs pretrained_weights: the pruned model to retrain",
    "finetuning_config: {is_finetune_exp: true}": (
        "1: finetuning_config.checkpoint_path: is missing: the checkpoint to fine-tune from"
    ),
    "final_model_name: a/b": "1: final_model_name: is 'a/b': a file name without folders is needed",
}


@pytest.mark.parametrize("text", WRONG)
def test_one_mistake(write: Write, text: str) -> None:
    assert mistakes(load_train_spec, write(f"{text}\n{SMALLEST}")) == [WRONG[text]]


DATALOADER_WRONG = {
    "image_config: {image_dims: {width: 250}}": (
        "dataloader.image_config.image_dims.width: is 250, no multiple of the network's stride 8; the nearest is 248"
    ),
    "pose_config: {target_shape: [32, 64]}": (
        "dataloader.pose_config.target_shape: is [32, 64], but an input of 256x256 (height x width) at the network's "
        "stride 8 gives maps of [32, 32]; leave target_shape out, or write those"
    ),
    "normalization_params: {image_scale: [256.0, 256.0]}": (
        "dataloader.normalization_params.image_scale: found 2 values, expected more"
    ),
    "normalization_params: {image_scale: [0.0, 1, 1]}": (
        "dataloader.normalization_params.image_scale: is a divisor and must not be 0"
    ),
    "augmentation_config: {spatial_aug_params: {rotate_deg_min: 50}}": (
        "dataloader.augmentation_config.spatial_aug_params.rotate_deg_min: is 50, above rotate_deg_max 40"
    ),
    "augmentation_config: {spatial_augmentation_mode: person_centred}": (
        "dataloader.augmentation_config.spatial_augmentation_mode: found the text 'person_centred', expected "
        "'person_centric', 'standard' or 'standard_with_fixed_aspect_ratio'. Did you mean 'person_centric'?"
    ),
}


@pytest.mark.parametrize("text", DATALOADER_WRONG)
def test_one_mistake_in_the_dataloader(write: Write, text: str) -> None:
    assert mistakes(load_train_spec, write(f"{SMALLEST}  {text}\n")) == [f"4: {DATALOADER_WRONG[text]}"]


def test_all_mistakes_at_once_in_order(write: Write) -> None:
    text = "num_epochs: 3\nrandom_seed: x\nmodel:\n  stages: 9\n  width: -1\nloss: {focal_loss_params: {gama: 1}}\n"
    assert mistakes(load_train_spec, write(text)) == [
        "1: 'dataloader' is missing",
        "1: unknown key 'num_epochs'. Did you mean 'num_epoch'?",
        "2: random_seed: found the text 'x', expected a whole number",
        "4: model.stages: found 9, expected at most 7",
        "5: model.width: found -1, expected more than 0",
        "6: unknown key 'loss.focal_loss_params.gama'. Did you mean 'gamma'?",
    ]


def test_helnet_of_stride_16_has_its_own_shapes(write: Write) -> None:
    text = "model: {backbone_attributes: {architecture: helnet, nlayers: 10}}\n" + SMALLEST
    target = "  pose_config: {target_shape: [%d, %d]}\n"
    assert load_train_spec(write(text + target % (16, 16))).model.backbone_attributes.stride == 16
    assert "stride 16 gives maps of [16, 16]" in mistakes(load_train_spec, write(text + target % (32, 32)))[0]


DATASET_WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda spec: spec.pop("test_data"), "'test_data' is missing"),
    (lambda spec: spec.update(categories=[]), "categories: is empty: one category with keypoints is needed"),
    (
        lambda spec: spec["categories"][0].update(num_joints=16),
        "categories[0].num_joints: is 16, but keypoints names 17 joints",
    ),
    (
        lambda spec: spec["categories"][0]["keypoints"].__setitem__(1, "nose"),
        "categories[0].keypoints: names 'nose' twice",
    ),
    (
        lambda spec: spec["visibility_flags"]["mapping"].pop("occluded"),
        "visibility_flags.mapping: says nothing about 'occluded', which value names",
    ),
    (
        lambda spec: spec["visibility_flags"]["mapping"].update(occluded="hidden"),
        "visibility_flags.mapping.occluded: found the text 'hidden', expected 'visible', 'annotatable', 'occluded', "
        "'truncated', 'not_labeled' or 'not_labeled_in_dataset'.",
    ),
    (
        lambda spec: spec["data_filtering_params"].update(min_acceptable_kpts=-1),
        "data_filtering_params.min_acceptable_kpts: found -1, expected at least 0",
    ),
]


@pytest.mark.parametrize(("change", "expected"), DATASET_WRONG)
def test_mistakes_in_a_dataset_spec(
    root: Path, write: Write, change: Callable[[dict[str, Any]], object], expected: str
) -> None:
    content = json.loads((root / "specs" / "dataset_coco.json").read_text())
    change(content)
    assert [line.partition(": ")[2] for line in mistakes(load_dataset_spec, write(json.dumps(content, indent=1)))] == [
        expected
    ]


def test_annotations_are_no_dataset_spec(root: Path) -> None:
    with pytest.raises(SpecError, match=r"is a COCO annotation file(?s:.)*Copy specs/dataset_coco\.json"):
        load_dataset_spec(root / "examples" / "annotations" / "person_keypoints.json")


INFERENCE_WRONG = [
    ("weak_heatmap_threshold: little", "weak_heatmap_threshold: found the text 'little', expected a number"),
    ("weak_heatmap_threshold: true", "weak_heatmap_threshold: found true, expected a number"),
    ("weak_heatmap_threshold: -0.5", "weak_heatmap_threshold: found -0.5, expected at least 0"),
    (
        "{heatmap_threshold: 0.1, weak_heatmap_threshold: 0.2}",
        "weak_heatmap_threshold: found 0.2, expected less than heatmap_threshold, 0.1",
    ),
]


@pytest.mark.parametrize(("text", "expected"), INFERENCE_WRONG)
def test_mistakes_in_an_inference_spec(write: Write, text: str, expected: str) -> None:
    assert [line.partition(": ")[2] for line in mistakes(load_inference_spec, write(text))] == [expected]


POSE_WRONG: list[tuple[dict[str, Any], str]] = [
    ({"skeleton": [[1, 2], [2, 4]]}, "skeleton: limb 2 joins 2 and 4, but joints are numbered 1 to 3"),
    ({"skeleton": [[1, 2]]}, "skeleton: no chain of limbs reaches joint 'tail'"),
    ({"skeleton": [[1, 2], [2, 2], [2, 3]]}, "skeleton: limb 2 joins 'neck' to itself"),
    (
        {"skeleton_edge_names": [["head", "nek"]]},
        "names the joint 'nek', which keypoints does not. Did you mean 'neck'?",
    ),
    ({}, "skeleton_edge_names: there are no limbs, so people cannot be told apart"),
    (
        {"skeleton": [[1, 2], [2, 3]], "skeleton_edge_names": [["neck", "head"], ["neck", "tail"]]},
        "skeleton_edge_names: names other limbs than skeleton, or in another order",
    ),
    (
        {"skeleton": [[1, 2], [2, 3]], "redundant_edge_names": [["tail", "neck"]]},
        "redundant_edge_names: names tail to neck, which is no limb of the skeleton",
    ),
    ({"skeleton": [[1, 2], [2, 3]], "sigmas": [0.1, 0.1]}, "sigmas: holds 2 numbers for 3 joints"),
]


@pytest.mark.parametrize(("limbs", "expected"), POSE_WRONG)
def test_mistakes_in_a_pose_config(write: Write, limbs: dict[str, Any], expected: str) -> None:
    category = {"name": "cat", "keypoints": ["head", "neck", "tail"], **limbs}
    (found,) = mistakes(load_pose_config, write(json.dumps({"pose_config_type": "cat", "categories": [category]})))
    assert found.startswith("1: categories[0].")
    assert found.endswith(expected)


def test_custom_skeleton_by_numbers_equals_the_one_by_names(write: Write) -> None:
    category: dict[str, Any] = {"name": "cat", "keypoints": ["head", "neck", "tail"]}
    by_number = {**category, "skeleton": [[1, 2], [2, 3]]}
    by_name = {**category, "skeleton_edge_names": [["head", "neck"], ["neck", "tail"]]}
    first, second = (
        load_pose_config(write(json.dumps({"pose_config_type": "cat", "categories": [item]})))
        for item in (by_number, by_name)
    )
    assert first == second
    assert first.limbs == ((0, 1), (1, 2))
    assert first.category == "cat"
