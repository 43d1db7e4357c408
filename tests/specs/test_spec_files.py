"""Spec files that are shipped, those that the manuals print, and what follows from what is written in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from spec_text import SMALLEST, Write

from limbnet.skeleton import BODY_18
from limbnet.specs.load import load_dataset_spec, load_inference_spec, load_pose_config, load_train_spec, resolved
from limbnet.specs.source import to_yaml
from limbnet.specs.train import AdamW, CosineSchedule, SoftstartAnnealing, WeightedMomentum

MANUALS = Path(__file__).parents[1] / "fixtures" / "specs"


@pytest.mark.parametrize("name", ["bpnet_train_m1_coco", "bpnet_retrain_m1_coco", "tiny_cpu"])
def test_shipped_train_specs_load_from_anywhere_without_a_word(
    root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_train_spec(root / "specs" / f"{name}.yaml")
    assert not caplog.records
    for path in spec.dataloader.dataset_config.dataset_specs.values():
        load_dataset_spec(path)
    assert load_pose_config(spec.dataloader.pose_config.pose_config_path) == BODY_18


@pytest.mark.parametrize("name", ["infer_spec", "infer_spec_retrained_strict", "infer_tiny"])
def test_shipped_inference_specs_load_without_a_word(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    load_inference_spec(root / "specs" / f"{name}.yaml")
    assert not caplog.records


@pytest.mark.parametrize("name", ["dataset_coco", "dataset_examples"])
def test_shipped_dataset_specs_load_without_a_word(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    spec = load_dataset_spec(root / "specs" / f"{name}.json")
    assert len(spec.category.keypoints) == 17
    assert not caplog.records


def test_every_shipped_spec_is_tested(root: Path) -> None:
    assert sorted(path.name for path in (root / "specs").iterdir()) == [
        "bpnet_18joints.json",
        "bpnet_retrain_m1_coco.yaml",
        "bpnet_train_m1_coco.yaml",
        "dataset_coco.json",
        "dataset_examples.json",
        "infer_spec.yaml",
        "infer_spec_retrained_strict.yaml",
        "infer_tiny.yaml",
        "tiny_cpu.yaml",
    ]


def test_shipped_pose_config_is_the_built_in_skeleton(root: Path) -> None:
    assert load_pose_config(root / "specs" / "bpnet_18joints.json") == BODY_18 == load_pose_config(None)


def test_examples_spec_points_at_the_examples(root: Path) -> None:
    spec = load_dataset_spec(root / "specs" / "dataset_examples.json")
    folder = root / spec.root_directory_path
    for part in (spec.train_data, spec.test_data):
        assert (folder / part.images_root_dir_path).is_dir()
        assert (folder / part.annotation_root_dir_path).is_file()


def test_train_spec_of_the_manual(caplog: pytest.LogCaptureFixture) -> None:
    spec = load_train_spec(MANUALS / "manual_train.yaml")
    schedule = spec.optimizer.learning_rate_schedule
    assert isinstance(schedule, SoftstartAnnealing)
    assert (schedule.base_learning_rate, schedule.min_learning_rate) == (2e-5, 8e-8)
    assert spec.model.kernel_regularization_factor == 5e-4
    assert spec.dataloader.pose_config.target_shape == (32, 32)
    assert spec.dataloader.dataset_config.train_records_path == ("train-fold-000-of-001",)
    assert spec.checkpoint_dir == Path("/workspace/tlt-experiments/bpnet/models/exp_m1_unpruned")
    silent = {record.getMessage().split("'")[1].split(".")[-1] for record in caplog.records}
    assert silent == {
        "infrequent_summary_every_n_steps", "shuffle_buffer_size", "image_encoding", "val_records_folder_path",
        "val_records_path", "mask_scale", "mask_offset", "identity_spatial_aug_params", "paf_gaussian_sigma",
        "data_format", "last_step",
    }  # fmt: skip


def test_dataset_spec_of_the_manual_as_json_and_as_yaml(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    spec = load_dataset_spec(MANUALS / "coco_spec.json")
    assert spec.root_directory_path == Path("/workspace/tlt-experiments/bpnet/data")
    assert spec.part("test").images_root_dir_path == "val2017"
    assert spec.visibility_flags.value == {"visible": 2, "occluded": 1, "not_labeled": 0}
    assert len(caplog.records) == 2  # the two skeletons of the dataset spec
    content = json.loads((MANUALS / "coco_spec.json").read_text())
    assert load_dataset_spec(write(to_yaml(content))) == spec
    assert load_dataset_spec(write(json.dumps(content, indent="\t"))) == spec


def test_inference_spec_of_the_manual(caplog: pytest.LogCaptureFixture) -> None:
    spec = load_inference_spec(MANUALS / "manual_infer.yaml")
    assert (spec.input_shape, spec.scales) == ((368, 368), (0.5, 1.0, 1.5, 2.0))
    assert [record.getMessage() for record in caplog.records] == [
        f"{MANUALS / 'manual_infer.yaml'}:7: 'output_upsampling_factor' has no effect here: "
        "peaks are refined below a pixel on the maps themselves"
    ]


def test_relative_paths_working_directory_first_then_the_spec_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, work = tmp_path / "specs", tmp_path / "work"
    folder.mkdir()
    work.mkdir()
    monkeypatch.chdir(work)
    (folder / "both.tlt").touch()
    (folder / "there.tlt").touch()
    (work / "both.tlt").touch()
    spec = folder / "infer.yaml"
    for name, expected in (
        ("both.tlt", "both.tlt"),
        ("there.tlt", str(folder / "there.tlt")),
        ("none.tlt", "none.tlt"),
    ):
        spec.write_text(f"model_path: {name}\n")
        assert load_inference_spec(spec).model_path == Path(expected)


def test_checkpoint_dir_is_never_looked_up_beside_the_spec(write: Write) -> None:
    path = write("checkpoint_dir: out\n" + SMALLEST)
    (path.parent / "out").mkdir()
    assert load_train_spec(path).checkpoint_dir == Path("out")


def test_absent_class_names_take_the_usual_class(write: Write) -> None:
    spec = load_train_spec(write("optimizer: {learning_rate_schedule: {soft_start: 0.1}}\n" + SMALLEST))
    assert isinstance(spec.optimizer, WeightedMomentum)
    assert isinstance(spec.optimizer.learning_rate_schedule, SoftstartAnnealing)
    text = "optimizer: {__class_name__: AdamWOptimizer, learning_rate_schedule: {warmup: 0.1}}\n"
    spec = load_train_spec(write(text + SMALLEST))
    assert isinstance(spec.optimizer, AdamW)
    assert isinstance(spec.optimizer.learning_rate_schedule, CosineSchedule)


def test_checkpoint_interval_is_checkpoint_n_epoch(write: Write) -> None:
    assert load_train_spec(write("checkpoint_interval: 10\n" + SMALLEST)).checkpoint_n_epoch == 10


def test_keys_that_idle_beside_others_are_told(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    backbone = "  backbone_attributes: {mtype: s8_3rdblock}\n"
    text = f"model:\n  __class_name__: BpNetModel\n  stage1_kernel_sizes: [5]\n{backbone}"
    load_train_spec(write(text + SMALLEST))
    assert [record.getMessage().split(": ", 1)[1] for record in caplog.records] == [
        "'model.stage1_kernel_sizes' has no effect here: BpNetModel's kernels have fixed sizes",
        "'model.backbone_attributes.mtype' has no effect here: vgg comes in one type",
    ]


@pytest.mark.parametrize(("asked", "factor"), [("", 0.0), ("  kernel_regularization_factor: 1.e-3\n", 1e-3)])
def test_retraining_is_unregularised_unless_the_spec_asks(write: Write, asked: str, factor: float) -> None:
    text = f"load_graph: true\npretrained_weights: pruned.tlt\nmodel:\n  stages: 3\n{asked}{SMALLEST}"
    spec = load_train_spec(write(text))
    assert spec.model.kernel_regularization_factor == factor
    assert load_train_spec(write(resolved(spec))) == spec


def test_a_loaded_spec_holds_defaults_where_keys_have_no_effect(write: Write) -> None:
    spec = load_train_spec(write(SMALLEST + "  shuffle_buffer_size: 5\n"))
    assert spec.dataloader.shuffle_buffer_size == 20000


def test_resolved_spec_hides_the_key(write: Write) -> None:
    spec = load_train_spec(write("key: secret\n" + SMALLEST))
    assert spec.key == "secret"
    assert "secret" not in resolved(spec)
    assert "secret" not in repr(spec)
