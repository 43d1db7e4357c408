"""Spec files that are shipped, those that the manuals print, and what follows from what is written in them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from spec_text import SMALLEST, Write

from limbnet.errors import SpecError
from limbnet.skeleton import BODY_18
from limbnet.specs.base import Section
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.inference import InferenceSpec
from limbnet.specs.load import (
    _all_sections,
    _extra,
    load_any_train_spec,
    load_dataset_spec,
    load_inference_spec,
    load_pose_config,
    load_study_spec,
    load_train_spec,
    resolved,
)
from limbnet.specs.optimiser import AdamW, CosineSchedule, SoftstartAnnealing, WeightedMomentum
from limbnet.specs.source import to_yaml
from limbnet.specs.train import TrainSpec
from limbnet.specs.zoo_train import ZooTrainSpec

MANUALS = Path(__file__).parents[1] / "fixtures" / "specs"


def shipped(kind: str) -> list[str]:
    """Return the names of the spec files of one kind in specs/."""
    names = sorted(path.name for path in (Path(__file__).parents[2] / "specs").iterdir())
    return [name for name in names if kind_of(name) == kind]


def kind_of(name: str) -> str:
    if name.startswith("dataset_"):
        return "dataset"
    if name.endswith(".json"):
        return "pose config"
    if name.startswith("study_"):
        return "study"
    if name.startswith("zoo_"):
        return "zoo"
    return "inference" if name.startswith("infer_") else "train"


@pytest.mark.parametrize("name", shipped("train"))
def test_shipped_train_specs_load_from_anywhere_without_a_word(
    root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_train_spec(root / "specs" / name)
    assert not caplog.records
    for path in spec.dataloader.dataset_config.dataset_specs.values():
        load_dataset_spec(path)


@pytest.mark.parametrize("name", shipped("zoo"))
def test_shipped_recipes_of_published_networks_load_without_a_word(
    root: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    spec = load_any_train_spec(root / "specs" / name)
    assert isinstance(spec, ZooTrainSpec)
    assert not caplog.records
    for path in spec.dataloader.dataset_config.dataset_specs.values():
        load_dataset_spec(path)
    (tmp_path / "again.yaml").write_text(resolved(spec))
    assert load_any_train_spec(tmp_path / "again.yaml") == spec
    with pytest.raises(SpecError, match="recipe of a published network"):
        load_train_spec(root / "specs" / name)


@pytest.mark.parametrize("name", shipped("inference"))
def test_shipped_inference_specs_load_without_a_word(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    load_inference_spec(root / "specs" / name)
    assert not caplog.records


@pytest.mark.parametrize("name", shipped("study"))
def test_shipped_studies_hold_the_25_rows_and_load_without_a_word(
    root: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    study = load_study_spec(root / "specs" / name)
    assert not caplog.records
    assert "".join(row.row for row in study.rows) == "abcdefghijklmnopqrstuvwxy"
    load_dataset_spec(study.dataset)
    assert [row.row for row in study.rows if row.boxes == "detected"] == list("acegikmoq")
    assert [row.row for row in study.rows if len(row.scales) > 1] == list("uwy")
    assert [row.row for row in study.rows if row.flip] == list("opqr")  # the others switched it off


@pytest.mark.parametrize("name", shipped("dataset"))
def test_shipped_dataset_specs_load_without_a_word(root: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    load_dataset_spec(root / "specs" / name)
    assert not caplog.records


@pytest.mark.parametrize("name", shipped("pose config"))
def test_shipped_pose_configs_load(root: Path, name: str) -> None:
    load_pose_config(root / "specs" / name)


def test_the_names_that_users_of_the_manuals_know_are_shipped() -> None:
    assert {"bpnet_train_m1_coco.yaml", "bpnet_retrain_m1_coco.yaml"} <= set(shipped("train"))
    assert {"infer_spec.yaml", "infer_spec_retrained_strict.yaml"} <= set(shipped("inference"))
    assert "bpnet_18joints.json" in shipped("pose config")


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


@pytest.mark.parametrize("schema", [TrainSpec, DatasetSpec, InferenceSpec])
def test_every_key_is_read_somewhere_or_declared_without_effect(root: Path, schema: type[Section]) -> None:
    text = "\n".join(path.read_text() for path in (root / "src/limbnet").rglob("*.py"))
    for home, section in _all_sections(schema, ()):
        for name, field in section.model_fields.items():
            if name != "class_name" and not _extra(field).get("no_effect"):
                assert re.search(rf"(\.|['\"]){name}\b", text), f"nothing reads {home}.{name}"
