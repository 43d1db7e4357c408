"""Runs that are broken off, spoilt or changed, and what the repeated command makes of them."""

from __future__ import annotations

import errno
import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock

from limbnet.errors import LimbnetError, ModelFileError, TrainingError
from limbnet.models.bodyposenet import build_from_architecture, build_model
from limbnet.models.checkpoint import load_model, save_model
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18
from limbnet.specs.train import TrainSpec
from limbnet.training import loop
from limbnet.training.loop import Trainer, train

from .conftest import MakeSpec
from .test_train import ADAMW

OUTCOME = ("bpnet_model.tlt", "model.epoch-4.tlt", "metrics.csv", "model.best.tlt")


def outcome(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTCOME if (folder / name).exists()}


def train_until(epoch: int, spec: TrainSpec, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train, and be interrupted in the middle of the epoch after `epoch`."""
    whole = Trainer._update

    def update(self: Trainer, *arguments: Any) -> Any:
        if self.state.epoch == epoch and self.recorder._steps % self.data.steps_per_epoch == 1:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        with pytest.raises(KeyboardInterrupt):
            train(spec, folder, device="cpu")


@pytest.fixture(scope="module")
def spec(make_spec: MakeSpec) -> TrainSpec:
    return make_spec(num_epoch=4, validation_every_n_epoch=3, optimizer=ADAMW, ema_decay=0.9, dataloader={"workers": 1})


@pytest.fixture(scope="module")
def unbroken(spec: TrainSpec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("unbroken")
    train(spec, folder, device="cpu")
    assert set(outcome(folder)) == set(OUTCOME)
    return outcome(folder)


def test_one_run_in_a_folder_at_a_time(spec: TrainSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "LOCK_SECONDS", 0.1)
    with FileLock(tmp_path / ".lock"), pytest.raises(TrainingError, match="Another process is training in"):
        train(spec, tmp_path, device="cpu")
    assert not list(tmp_path.glob("*.tlt"))


def test_two_runs_give_the_same_bytes(spec: TrainSpec, unbroken: dict[str, bytes], tmp_path: Path) -> None:
    train(spec, tmp_path, device="cpu")
    assert outcome(tmp_path) == unbroken


@pytest.mark.parametrize("epoch", [0, 1, 3])
def test_a_broken_run_ends_where_an_unbroken_one_ends(
    epoch: int, spec: TrainSpec, unbroken: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(epoch, spec, tmp_path, monkeypatch)
    (tmp_path / ".model.epoch-9.tlt.1234abcd.partial").write_bytes(b"what a killed run had begun to write")
    train(spec, tmp_path, device="cpu")
    assert outcome(tmp_path) == unbroken
    assert not list(tmp_path.glob(".*.partial"))


def test_momentum_and_its_multipliers_resume_too(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(num_epoch=4, use_stagewise_lr_multipliers=True)
    train(spec, tmp_path / "unbroken", device="cpu")
    train_until(2, spec, tmp_path / "broken", monkeypatch)
    train(spec, tmp_path / "broken", device="cpu")
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "unbroken")


def test_a_finished_run_is_left_as_it_is(spec: TrainSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(spec, tmp_path, device="cpu")
    before = outcome(tmp_path)
    with caplog.at_level(logging.INFO, "limbnet"):
        again = train(spec, tmp_path, device="cpu")
    assert "nothing is left to train" in caplog.text
    assert again.epochs == 4
    assert len(again.history) == 4
    assert outcome(tmp_path) == before


@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    damage: str,
    spec: TrainSpec,
    unbroken: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    train_until(3, spec, tmp_path, monkeypatch)
    newest = tmp_path / "model.epoch-3.tlt"
    content = bytearray(newest.read_bytes())
    content[-1000] ^= 1
    newest.write_bytes(content if damage == "changed" else content[:-1000])
    train(spec, tmp_path, device="cpu")
    assert f"'{newest}' is damaged" in caplog.text
    assert f"the checkpoint before it: '{tmp_path / 'model.epoch-2.tlt'}'" in caplog.text
    assert outcome(tmp_path) == unbroken


def test_nothing_but_damaged_checkpoints_is_an_error(spec: TrainSpec, tmp_path: Path) -> None:
    for epoch in (1, 2):
        (tmp_path / f"model.epoch-{epoch}.tlt").write_bytes(b"no model")
    with pytest.raises(TrainingError, match=r"(?s)epoch-2\.tlt.*epoch-1\.tlt.*another results folder"):
        train(spec, tmp_path, device="cpu")
    assert (tmp_path / "model.epoch-2.tlt").read_bytes() == b"no model"


def test_only_the_last_checkpoints_and_the_best_are_kept(make_spec: MakeSpec, tmp_path: Path) -> None:
    train(make_spec(num_epoch=4, max_ckpt_to_keep=2, validation_every_n_epoch=4), tmp_path, device="cpu")
    kept = {path.name for path in tmp_path.glob("*.tlt")}
    assert kept == {"model.epoch-3.tlt", "model.epoch-4.tlt", "model.best.tlt", "bpnet_model.tlt"}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"random_seed": 7}, ["random_seed: 42 then, 7 now"]),
        (
            {"model": {"stages": 3}, "ema_decay": 0.99},
            ["model.stages: 2 then, 3 now", "ema_decay: None then, 0.99 now"],
        ),
        ({"dataloader": {"batch_size": 2}}, ["dataloader.batch_size: 4 then, 2 now"]),
        ({"optimizer": ADAMW}, ["optimizer.__class_name__: 'WeightedMomentumOptimizer' then, 'AdamWOptimizer' now"]),
    ],
)
def test_the_folder_of_another_run_is_refused(
    changes: dict[str, Any], named: list[str], make_spec: MakeSpec, tmp_path: Path
) -> None:
    train(make_spec(num_epoch=1), tmp_path, device="cpu")
    before = {path: path.read_bytes() for path in tmp_path.glob("*.tlt")}
    with pytest.raises(TrainingError) as caught:
        train(make_spec(num_epoch=1, **changes), tmp_path, device="cpu")
    for text in (*named, "another results folder with -r"):
        assert text in str(caught.value)
    assert {path: path.read_bytes() for path in tmp_path.glob("*.tlt")} == before


def test_a_key_younger_than_the_run_counts_as_its_default(make_spec: MakeSpec, tmp_path: Path) -> None:
    train(make_spec(num_epoch=1), tmp_path, device="cpu")
    path = tmp_path / "model.epoch-1.tlt"
    begun = load_model(path)
    del begun.info.spec["model"]["width"], begun.info.spec["ema_decay"]
    save_model(path, begun.model, begun.info, training=begun.training)
    with pytest.raises(TrainingError, match=r"model\.width: 1\.0 then, 0\.05 now"):
        train(make_spec(num_epoch=2), tmp_path, device="cpu")
    begun.info.spec["model"]["width"] = 0.05
    save_model(path, begun.model, begun.info, training=begun.training)
    assert train(make_spec(num_epoch=2), tmp_path, device="cpu").epochs == 2


def test_other_samples_are_noticed(make_spec: MakeSpec, few_pictures: Path, tmp_path: Path) -> None:
    dataset = json.loads(few_pictures.read_text())
    annotations = json.loads(Path(dataset["train_data"]["annotation_root_dir_path"]).read_text())
    dataset["train_data"]["annotation_root_dir_path"] = str(tmp_path / "annotations.json")
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    spec = make_spec(
        num_epoch=1, dataloader={"dataset_config": {"dataset_specs": {"few": str(tmp_path / "dataset.json")}}}
    )
    train(spec, tmp_path / "run", device="cpu")
    labelled = next(entry for entry in annotations["annotations"] if entry["num_keypoints"] > 5)
    labelled["keypoints"] = [
        value + 1 if number % 3 == 0 else value for number, value in enumerate(labelled["keypoints"])
    ]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    with pytest.raises(TrainingError, match="samples_digest"):
        train(spec, tmp_path / "run", device="cpu")


def test_a_run_goes_on_when_its_data_and_specs_have_moved(
    root: Path, make_spec: MakeSpec, few_pictures: Path, tmp_path: Path
) -> None:
    train(make_spec(num_epoch=1), tmp_path / "run", device="cpu")
    (tmp_path / "moved.json").write_text(few_pictures.read_text())
    skeleton = json.loads((root / "specs/bpnet_18joints.json").read_text())
    (tmp_path / "skeleton.json").write_text(json.dumps(skeleton))
    moved = {
        "dataset_config": {"dataset_specs": {"few": str(tmp_path / "moved.json")}},
        "pose_config": {"pose_config_path": str(tmp_path / "skeleton.json")},
    }
    assert train(make_spec(num_epoch=2, dataloader=moved), tmp_path / "run", device="cpu").epochs == 2
    for key in ("skeleton", "skeleton_edge_names"):
        skeleton["categories"][0][key] = skeleton["categories"][0][key][::-1]
    (tmp_path / "skeleton.json").write_text(json.dumps(skeleton))
    with pytest.raises(TrainingError, match=r"skeleton\.limbs: "):
        train(make_spec(num_epoch=2, dataloader=moved), tmp_path / "run", device="cpu")


def test_a_run_may_be_made_longer(make_spec: MakeSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train(make_spec(num_epoch=1), tmp_path, device="cpu")
    result = train(make_spec(num_epoch=2, log_every_n_secs=7, validation_every_n_epoch=1), tmp_path, device="cpu")
    assert "num_epoch was 1 and is 2 now" in caplog.text
    assert [row["epoch"] for row in result.history] == [1, 2]
    assert "AP" in result.history[1]


def test_a_loss_that_becomes_nan_leaves_the_checkpoints_alone(make_spec: MakeSpec, tmp_path: Path) -> None:
    growing = {
        "__class_name__": "BpNetExponentialDecayLRSchedule",
        "learning_rate": 1e-5,
        "decay_epochs": 1,
        "decay_rate": 1e12,
        "staircase": True,
    }
    spec = make_spec(
        num_epoch=4, optimizer={"__class_name__": "WeightedMomentumOptimizer", "learning_rate_schedule": growing}
    )
    with pytest.raises(TrainingError, match=r"(?s)(became (nan|inf)|NaN or infinite).*Lower the learning rate"):
        train(spec, tmp_path, device="cpu")
    assert {path.name for path in tmp_path.glob("*.tlt")} == {"model.epoch-0.tlt", "model.epoch-1.tlt"}
    weights = load_model(tmp_path / "model.epoch-1.tlt").model.state_dict()
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert json.loads((tmp_path / "status.json").read_text().splitlines()[-1])["status"] == "FAILURE"


def test_a_full_disk_costs_nothing_but_time(
    spec: TrainSpec, unbroken: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(self: Path, content: Any) -> int:
        if "epoch-2" in self.name:
            write(self, content[: len(content) // 2])
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(LimbnetError, match=r"(?s)disk is full.*model\.epoch-2\.tlt.*Free some space"):
            train(spec, tmp_path, device="cpu")
    assert {path.name for path in tmp_path.glob("*epoch*")} == {"model.epoch-0.tlt", "model.epoch-1.tlt"}
    train(spec, tmp_path, device="cpu")
    assert outcome(tmp_path) == unbroken


def test_fine_tuning_goes_on_from_a_checkpoint(
    make_spec: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(make_spec(num_epoch=2), tmp_path / "first", device="cpu")
    tuned = make_spec(
        num_epoch=4,
        dataloader={"batch_size": 2},
        finetuning_config={
            "is_finetune_exp": True,
            "checkpoint_path": str(tmp_path / "first/model.epoch-2.tlt"),
            "ckpt_epoch_num": 2,
        },
    )
    result = train(tuned, tmp_path / "second", device="cpu")
    assert [row["epoch"] for row in result.history] == [3, 4]
    start = load_model(tmp_path / "second/model.epoch-2.tlt")
    before = load_model(tmp_path / "first/model.epoch-2.tlt")
    assert start.training is not None
    assert before.training is not None
    for name, slots in before.training["optimiser"].items():
        assert torch.equal(start.training["optimiser"][name]["momentum_buffer"], slots["momentum_buffer"])
    train_until(3, tuned, tmp_path / "third", monkeypatch)
    train(tuned, tmp_path / "third", device="cpu")
    assert outcome(tmp_path / "third") == outcome(tmp_path / "second")


def test_fine_tuning_from_a_final_model_starts_momenta_afresh(
    make_spec: MakeSpec, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    train(make_spec(num_epoch=1), tmp_path / "first", device="cpu")
    config = {"is_finetune_exp": True, "checkpoint_path": str(tmp_path / "first/bpnet_model.tlt")}
    with caplog.at_level(logging.INFO, "limbnet"):
        result = train(make_spec(num_epoch=1, finetuning_config=config), tmp_path / "second", device="cpu")
    assert "momenta start at 0" in caplog.text
    assert [row["epoch"] for row in result.history] == [2]


def test_pretrained_weights_are_where_training_starts(make_spec: MakeSpec, tmp_path: Path) -> None:
    torch.manual_seed(5)
    model = build_model(make_spec().model, BODY_18)
    save_model(tmp_path / "pretrained.tlt", model, ModelInfo(BODY_18))
    spec = make_spec(num_epoch=1, pretrained_weights=str(tmp_path / "pretrained.tlt"))
    train(spec, tmp_path / "run", device="cpu")
    start = load_model(tmp_path / "run/model.epoch-0.tlt").model.state_dict()
    assert all(torch.equal(start[name], tensor) for name, tensor in model.state_dict().items())


def test_a_pruned_graph_is_retrained_without_regularisation(make_spec: MakeSpec, tmp_path: Path) -> None:
    architecture = build_model(make_spec(model={"width": 0.2}).model, BODY_18).architecture
    architecture["channels"]["stage2/conv1"] = 5
    model = build_from_architecture(architecture, BODY_18)
    save_model(tmp_path / "pruned.tlt", model, ModelInfo(BODY_18))
    retrain = {"load_graph": True, "pretrained_weights": str(tmp_path / "pruned.tlt")}
    result = train(make_spec(num_epoch=1, use_stagewise_lr_multipliers=True, **retrain), tmp_path / "run", device="cpu")
    assert result.history[0]["regularisation"] == 0
    assert load_model(result.model).model.architecture == architecture
    with pytest.raises(ModelFileError, match="it has 2 stages, the spec 3"):
        train(make_spec(model={"stages": 3}, **retrain), tmp_path / "other", device="cpu")


@pytest.mark.slow
def test_two_processes_equal_one_at_the_same_global_batch(make_spec: MakeSpec, tmp_path: Path) -> None:
    helnet = {"architecture": "helnet", "nlayers": 6, "mtype": "s8_3rdblock", "use_batch_norm": False, "width": 0.1}
    weights = []
    for batch, processes in ((4, 1), (2, 2)):
        spec = make_spec(num_epoch=1, model={"backbone_attributes": helnet}, dataloader={"batch_size": batch})
        folder = tmp_path / str(processes)
        result = train(spec, folder, device="cpu", gpus=processes)
        assert result.history[0]["step"] >= 5
        weights.append(load_model(folder / "bpnet_model.tlt").model.state_dict())
    start = load_model(tmp_path / "1/model.epoch-0.tlt").model.state_dict()
    for name, tensor in weights[0].items():
        assert not torch.equal(tensor, start[name]), name
        torch.testing.assert_close(weights[1][name], tensor, rtol=0, atol=1e-6)
