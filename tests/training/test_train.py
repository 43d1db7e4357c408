"""Whole training runs on real pictures with a very narrow network."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from limbnet.cli import main
from limbnet.data.loader import TrainingData, network_input
from limbnet.errors import LimbnetError, TrainingError
from limbnet.models.bodyposenet import build_model
from limbnet.models.checkpoint import load_model
from limbnet.skeleton import BODY_18
from limbnet.specs.load import load_train_spec, resolved
from limbnet.training.loop import train, training_mode
from limbnet.training.loss import map_loss
from limbnet.training.optimiser import layer_multipliers
from limbnet.training.schedule import learning_rate

from .conftest import MakeSpec

ADAMW = {
    "__class_name__": "AdamWOptimizer",
    "learning_rate_schedule": {"__class_name__": "CosineLearningRateSchedule", "learning_rate": 3e-3},
}


def test_a_run_leaves_what_the_manual_promises(make_spec: MakeSpec, tmp_path: Path) -> None:
    spec = make_spec(num_epoch=4, validation_every_n_epoch=2, summary_every_n_steps=2, optimizer=ADAMW, ema_decay=0.9)
    result = train(spec, tmp_path, device="cpu")

    names = {path.name for path in tmp_path.iterdir()}
    assert {f"model.epoch-{epoch}.tlt" for epoch in range(5)} <= names
    assert {"bpnet_model.tlt", "model.best.tlt", "experiment_spec.yaml", "metrics.csv", "status.json"} <= names
    assert not [name for name in names if "partial" in name]
    assert result.model == tmp_path / "bpnet_model.tlt"
    assert result.best == tmp_path / "model.best.tlt"

    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [bool(row["AP"]) for row in rows] == [False, True, False, True]
    assert float(rows[-1]["total_loss"]) < 0.95 * float(rows[0]["total_loss"])
    assert float(rows[-1]["AP"]) == result.history[-1]["AP"]

    events = EventAccumulator(str(tmp_path / "events")).Reload()
    stages = [f"{kind}_loss_stage{stage}" for kind in ("cmap", "paf") for stage in (1, 2)]
    assert {"total_loss", "learning_rate", "AP", *stages} <= set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("total_loss")][:2] == [2, 4]

    lines = [json.loads(line) for line in (tmp_path / "status.json").read_text().splitlines()]
    assert [lines[0]["status"], lines[1]["status"], lines[-1]["status"]] == ["STARTED", "RUNNING", "SUCCESS"]
    assert lines[1]["epoch"] == 1
    assert lines[1]["max_epoch"] == 4
    assert {"time_per_epoch", "eta"} <= lines[1].keys()
    assert lines[2]["kpi"]["AP"] == result.history[1]["AP"]

    assert load_train_spec(tmp_path / "experiment_spec.yaml").model_dump() == spec.model_dump()
    final = load_model(tmp_path / "bpnet_model.tlt")
    assert final.training is None
    assert final.info.extra["epoch"] == 4
    assert final.info.input_size == (64, 64)
    assert final.info.skeleton == BODY_18


def test_weights_equal_those_of_the_plain_loop(make_spec: MakeSpec, tmp_path: Path) -> None:
    """The twin: no channels-last, no fused kernels, no groups; the formulas one after the other."""
    # No batch norm: torch's channels-last one sums its statistics to four digits only on a CPU.
    helnet = {"architecture": "helnet", "nlayers": 6, "mtype": "s8_3rdblock", "use_batch_norm": False, "width": 0.1}
    model = {"backbone_attributes": helnet, "regularization_type": "l2", "kernel_regularization_factor": 0.1}
    spec = make_spec(num_epoch=1, use_stagewise_lr_multipliers=True, model=model)
    train(spec, tmp_path, device="cpu")
    trained = load_model(tmp_path / "bpnet_model.tlt").model.state_dict()

    torch.manual_seed(spec.random_seed)
    model = build_model(spec.model, BODY_18).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    multipliers = layer_multipliers(model, spec.optimizer, stagewise=True)
    data = TrainingData(spec, BODY_18)
    velocity = {name: torch.zeros_like(parameter) for name, parameter in model.named_parameters()}
    steps = data.steps_per_epoch
    for step, batch in zip(range(steps), data.batches(0), strict=False):
        images = network_input(batch.images, (256.0,) * 3, (0.5,) * 3)
        maps = model(images)
        loss = torch.zeros(())
        for heatmaps, pafs in zip(maps.heatmaps, maps.pafs, strict=True):
            loss = loss + map_loss(heatmaps, batch.heatmaps, batch.masks, spec.loss.focal_loss_params)
            loss = loss + map_loss(pafs, batch.pafs, batch.masks, spec.loss.focal_loss_params)
        loss = loss / spec.dataloader.batch_size
        for name in model.regularised_layers:
            loss = loss + 0.1 * model[name].weight.square().sum()
        model.zero_grad()
        loss.backward()
        rate = learning_rate(spec.optimizer.learning_rate_schedule, step, steps, steps)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                velocity[name] = 0.9 * velocity[name] + multipliers[name] * parameter.grad
                parameter.sub_(rate * velocity[name])
    for name, tensor in model.state_dict().items():
        assert (tensor - before[name]).abs().max() > 1e-5, name
        torch.testing.assert_close(trained[name], tensor, rtol=1e-6, atol=1e-7)


def test_running_statistics_follow_as_fast_as_the_spec_says(make_spec: MakeSpec, tmp_path: Path) -> None:
    """With a share of 1 they are those of the last batch: the first layer's mean by hand."""
    spec = make_spec(num_epoch=1, batch_norm_momentum=1.0, optimizer={"weight_default_value": 0.0})
    result = train(spec, tmp_path, device="cpu")
    model, data = load_model(result.model).model, TrainingData(spec, BODY_18)
    *_, last = (batch for batch, _ in zip(data.batches(0), range(data.steps_per_epoch), strict=False))
    images = network_input(last.images, (256.0,) * 3, (0.5,) * 3)
    mean = model["block_1a_conv_1"](images).mean(dim=(0, 2, 3))
    torch.testing.assert_close(model["block_1a_bn_1"].running_mean, mean, rtol=1e-3, atol=1e-5)


def test_running_statistics_stay_with_a_share_of_0(make_spec: MakeSpec, tmp_path: Path) -> None:
    """And training computes with them: in training mode the network gives what it gives in evaluation mode."""
    spec = make_spec(num_epoch=1, batch_norm_momentum=0.0)
    trained = load_model(train(spec, tmp_path, device="cpu").model).model
    means = [tensor for name, tensor in trained.state_dict().items() if name.endswith("running_mean")]
    assert means
    assert not any(tensor.any() for tensor in means)
    images = torch.randn(2, 3, 64, 64)
    norms = [layer for layer in trained.modules() if isinstance(layer, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        expected = trained.eval()(images).pafs[-1]
        for momentum, same in ((0.0, True), (0.01, False)):
            for norm in norms:
                norm.momentum = momentum
            found = training_mode(trained)(images).pafs[-1]
            assert trained.training
            assert torch.equal(found, expected) is same


def test_mixed_precision_learns_too(make_spec: MakeSpec, tmp_path: Path) -> None:
    history = train(make_spec(num_epoch=6, mixed_precision=True, optimizer=ADAMW), tmp_path, device="cpu").history
    assert history[-1]["total_loss"] < 0.9 * history[0]["total_loss"]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("mixed", [None, False])
def test_a_gpu_learns_and_resumes(make_spec: MakeSpec, tmp_path: Path, mixed: bool | None) -> None:
    spec = make_spec(num_epoch=6, mixed_precision=mixed, optimizer=ADAMW, ema_decay=0.9)
    history = train(spec, tmp_path, device="cuda").history
    assert history[-1]["total_loss"] < 0.9 * history[0]["total_loss"]
    (tmp_path / "model.epoch-6.tlt").unlink()
    again = train(spec, tmp_path, device="cuda").history
    assert again[-1]["total_loss"] == pytest.approx(history[-1]["total_loss"], rel=0.02)


def test_the_command_line(make_spec: MakeSpec, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.yaml").write_text(resolved(make_spec(num_epoch=1)))
    words = ["train", "-experiment_spec", str(tmp_path / "spec.yaml"), "-r", str(tmp_path / "run")]
    assert main([*words, "-k", "secret", "--device", "cpu", "-ll", "INFO"]) == 0
    printed = capsys.readouterr().err
    assert "Device: cpu" in printed
    assert "Rehearsed two batches in " in printed
    assert f"Model: '{tmp_path / 'run' / 'bpnet_model.tlt'}'" in printed
    with pytest.raises(LimbnetError, match="key"):
        load_model(tmp_path / "run" / "bpnet_model.tlt")
    assert load_model(tmp_path / "run" / "bpnet_model.tlt", "secret").info.extra["epoch"] == 1
    assert main([*words, "-k", "another", "--device", "cpu"]) == 1
    assert "No checkpoint in the results folder can be read" in capsys.readouterr().err


def test_results_go_to_the_checkpoint_dir_of_the_spec(make_spec: MakeSpec, tmp_path: Path) -> None:
    (tmp_path / "spec.yaml").write_text(resolved(make_spec(num_epoch=1, checkpoint_dir=str(tmp_path / "there"))))
    assert main(["train", "-e", str(tmp_path / "spec.yaml"), "--device", "cpu", "-l", "error"]) == 0
    assert (tmp_path / "there" / "bpnet_model.tlt").is_file()


def test_keys_without_effect_are_told_once(
    make_spec: MakeSpec, few_pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = yaml.safe_load(few_pictures.read_text())
    dataset["categories"][0]["skeleton"] = [[1, 2]]
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    spec = make_spec(
        num_epoch=1,
        validation_every_n_epoch=1,
        dataloader={"dataset_config": {"dataset_specs": {"few": str(tmp_path / "dataset.json")}}},
    )
    (tmp_path / "spec.yaml").write_text(resolved(spec))
    words = ["train", "-e", str(tmp_path / "spec.yaml"), "-r", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*words, "-l", "WARNING"]) == 0
    assert capsys.readouterr().err.count("'categories[0].skeleton' has no effect here") == 1


def test_validation_without_test_data_is_an_error(make_spec: MakeSpec, few_pictures: Path, tmp_path: Path) -> None:
    dataset = yaml.safe_load(few_pictures.read_text())
    dataset["test_data"]["annotation_root_dir_path"] = "missing.json"
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    spec = make_spec(
        validation_every_n_epoch=1,
        dataloader={"dataset_config": {"dataset_specs": {"few": str(tmp_path / "dataset.json")}}},
    )
    with pytest.raises(TrainingError, match=r"(?s)missing\.json.*validation_every_n_epoch to 0"):
        train(spec, tmp_path / "run", device="cpu")
    assert json.loads((tmp_path / "run/status.json").read_text().splitlines()[-1])["status"] == "FAILURE"
