"""Whole training runs of published networks, small ones: what they leave behind, and what the repeated command does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limbnet.cli import main
from limbnet.commands.zoo import check
from limbnet.data.boxes import PersonBoxes
from limbnet.errors import LimbnetError, ModelFileError, SpecError, TrainingError, UsageError
from limbnet.models.checkpoint import load_model
from limbnet.models.zoo import create_model, find
from limbnet.models.zoo.weights import load_start, load_weights
from limbnet.runtime.zoo.load import load_zoo_estimator
from limbnet.skeleton import COCO_17
from limbnet.specs.load import resolved
from limbnet.specs.zoo_train import ZooTrainSpec
from limbnet.training.loop import Trainer, train
from limbnet.training.precision import Precision
from limbnet.training.zoo.data import zoo_training_data
from limbnet.training.zoo.family import ZooFamily

from .conftest import MakeZooSpec

LITE, SIZE = "litehrnet_18_256x192", (64, 32)
OUTCOME = ("pose_model.safetensors", "model.epoch-3.safetensors", "metrics.csv", "model.best.safetensors")


def outcome(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in OUTCOME}


@pytest.fixture(scope="module")
def spec(make_zoo_spec: MakeZooSpec) -> ZooTrainSpec:
    return make_zoo_spec(LITE, SIZE, num_epoch=3, validation_every_n_epoch=2, ema_decay=0.9)


@pytest.fixture(scope="module")
def run(spec: ZooTrainSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    train(spec, folder, device="cpu")
    return folder


def test_the_weights_are_an_official_file(run: Path) -> None:
    for name in ("pose_model.safetensors", "model.best.safetensors", "model.epoch-3.safetensors"):
        report = check(LITE, run / name)
        assert report.fits
        assert report.belongs_to == (LITE,)
    estimator = load_zoo_estimator(LITE, run / "pose_model.safetensors")
    assert estimator.network.entry.input_size == SIZE  # what it was trained at, not what is published
    assert load_zoo_estimator(LITE, run / "pose_model.safetensors", input_size=(96, 64)).network.entry.input_size == (
        96,
        64,
    )
    boxes = PersonBoxes(np.array([[10.0, 10, 40, 60]]), np.ones(1))
    assert len(estimator(np.zeros((80, 80, 3), np.uint8), boxes)) <= 1
    with pytest.raises(ModelFileError, match="holds the published network 'litehrnet_18_256x192'"):
        load_model(run / "pose_model.safetensors")


def study_of(weights: Path, dataset: Path, folder: Path, *engines: str) -> list[dict[str, Any]]:
    """The lines of a study with a row on each engine, through the command."""
    rows = [
        {"row": engine, "model": LITE, "boxes": "ground_truth", "engine": engine, "checkpoint": str(weights)}
        for engine in engines
    ]
    study = {"dataset": str(dataset), "repetitions": 1, "bootstrap": 0, "device": "cpu", "rows": rows}
    (folder / "study.yaml").write_text(json.dumps(study))
    assert main(["benchmark", str(folder / "study.yaml"), "-r", str(folder / "study")]) == 0
    return [json.loads(line) for line in (folder / "study/study.jsonl").read_text().splitlines()]


def test_a_study_takes_the_weights(run: Path, four_pictures: Path, tmp_path: Path) -> None:
    (row,) = study_of(run / "pose_model.safetensors", four_pictures, tmp_path, "torch")
    assert row["row"] == "torch"
    assert row["ap"] is not None
    assert row["facts"]["input_size"] == list(SIZE)


def test_a_broken_run_ends_where_an_unbroken_one_ends(
    spec: ZooTrainSpec, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Trainer._update

    def update(self: Trainer, *arguments: Any) -> Any:
        if self.state.epoch == 1 and self.recorder._steps % self.data.steps_per_epoch == 1:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_update", update)
        with pytest.raises(KeyboardInterrupt):
            train(spec, tmp_path, device="cpu")
    train(spec, tmp_path, device="cpu")
    assert outcome(tmp_path) == outcome(run)
    other = spec.model_copy(update={"random_seed": 1})
    with pytest.raises(TrainingError, match="random_seed: 42 then, 1 now"):
        train(other, tmp_path, device="cpu")


def test_the_command_line(spec: ZooTrainSpec, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.yaml").write_text(resolved(spec))
    assert main(["train", "-e", str(tmp_path / "spec.yaml"), "-r", str(run), "--device", "cpu", "-l", "INFO"]) == 0
    assert "All 3 epochs are done" in capsys.readouterr().err
    assert main(["zoo", "check", LITE, str(run / "pose_model.safetensors")]) == 0
    assert "every name and shape fits" in capsys.readouterr().out


def test_keys_are_refused(spec: ZooTrainSpec, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not encrypted"):
        train(spec, tmp_path, key="secret", device="cpu")


@pytest.mark.parametrize(
    ("zoo", "size"),
    [
        (LITE, SIZE),
        ("naive_litehrnet_18_256x192", SIZE),
        ("hrnet_w32_256x192", SIZE),
        ("transpose_r_a3_256x192", (256, 192)),
        ("transpose_h_a6_256x192", (256, 192)),
        ("higherhrnet_w32_512", (64, 64)),
        ("dekr_w32_512", (64, 64)),
    ],
)
def test_every_weight_learns(zoo: str, size: tuple[int, int], make_zoo_spec: MakeZooSpec) -> None:
    """Several processes wait for the gradient of every parameter: one without would stop them."""
    spec = make_zoo_spec(zoo, size, dataloader={"batch_size": 2 if size[0] < 100 else 1})
    family, device = ZooFamily(), torch.device("cpu")
    network = family.first_model(spec, COCO_17, None, False).train()
    batch = next(zoo_training_data(spec, COCO_17).batches(0))
    family.objective(spec, network, device)(network, batch, Precision(device, False)).total.backward()
    without = [name for name, weight in network.named_parameters() if weight.requires_grad and weight.grad is None]
    assert not without
    assert all(bool(weight.grad.isfinite().all()) for weight in network.parameters() if weight.grad is not None)


@pytest.mark.parametrize(
    ("zoo", "size"),
    [("darkpose_hrnet_w32_256x192", (64, 32)), ("higherhrnet_w32_512", (64, 64)), ("dekr_w32_512", (64, 64))],
)
def test_the_first_loss_is_that_of_the_plain_formulas(
    zoo: str, size: tuple[int, int], make_zoo_spec: MakeZooSpec
) -> None:
    """The objective on a real batch, and the same numbers from the batch and the outputs without its help."""
    spec = make_zoo_spec(zoo, size, dataloader={"batch_size": 2})
    family, data = ZooFamily(), zoo_training_data(spec, COCO_17)
    network = family.first_model(spec, COCO_17, None, False).eval()
    device = torch.device("cpu")
    batch = next(data.batches(0))
    losses = family.objective(spec, network, device)(network, batch, Precision(device, False))
    named = losses.named()
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = ((batch.images / 255 - mean) / deviation).permute(0, 3, 1, 2)
    with torch.no_grad():
        outputs = network(images)
    if zoo.startswith("dark"):
        of_joints = (outputs.heatmaps - batch.heatmaps).square().mean(dim=(2, 3)) * batch.weights
        expected = {"heatmap_loss": 0.5 * of_joints.mean()}
    elif zoo.startswith("higher"):
        expected = {
            "coarse_heatmap_loss": ((outputs.coarse[:, :17] - batch.coarse) ** 2 * batch.coarse_mask).mean(),
            "fine_heatmap_loss": ((outputs.fine - batch.fine) ** 2 * batch.fine_mask).mean(),
        }
    else:
        error = (outputs.offsets - batch.offsets).abs()
        smooth = torch.where(error < 1 / 9, 4.5 * error**2, error - 1 / 18) * batch.offset_weights
        expected = {
            "heatmap_loss": ((outputs.heatmaps - batch.heatmaps) ** 2 * batch.heatmap_weights).mean(),
            "offset_loss": 0.03 * smooth.sum() / (batch.offset_weights > 0).sum(),
        }
    for name, value in expected.items():
        assert float(named[name]) == pytest.approx(float(value), rel=2e-3), name
    assert float(losses.total.detach()) == pytest.approx(
        sum(float(v) for k, v in named.items() if k != "total_loss"), rel=1e-5
    )


def test_a_student_learns_from_its_teacher(make_zoo_spec: MakeZooSpec, run: Path) -> None:
    """With the weight 1 the labels do not matter: a student with its teacher's weights has no loss."""
    teacher = {"teacher": LITE, "checkpoint": str(run / "pose_model.safetensors")}
    spec = make_zoo_spec(LITE, SIZE, loss={"distillation": teacher | {"weight": 1.0}})
    device, family = torch.device("cpu"), ZooFamily()
    batch = next(zoo_training_data(spec, COCO_17).batches(0))
    student = create_model(LITE, input_size=SIZE)
    load_weights(student, find(LITE), run / "pose_model.safetensors")
    precision = Precision(device, False)
    assert float(family.objective(spec, student, device)(student, batch, precision).total) == pytest.approx(0, abs=1e-9)
    half = make_zoo_spec(LITE, SIZE, loss={"distillation": teacher})
    plain = family.objective(make_zoo_spec(LITE, SIZE), student, device)(student, batch, precision)
    mixed = family.objective(half, student, device)(student, batch, precision)
    assert float(mixed.total) == pytest.approx(0.5 * float(plain.total), rel=1e-5)
    fresh = create_model(LITE, input_size=SIZE, seed=5)
    learning = family.objective(half, fresh, device)(fresh, batch, precision).named()
    assert min(learning.values()) > 0


def test_teachers_must_fit(make_zoo_spec: MakeZooSpec, run: Path) -> None:
    file = str(run / "pose_model.safetensors")
    wrong = make_zoo_spec(LITE, SIZE, loss={"distillation": {"teacher": "hrnet_w32_256x192", "checkpoint": file}})
    with pytest.raises(ModelFileError, match=r"(?s)does not fit 'hrnet_w32_256x192'.*belongs to litehrnet_18_256x192"):
        ZooFamily().objective(wrong, torch.nn.Identity(), torch.device("cpu"))
    other = {"teacher": "darkpose_hrnet_w32_256x192", "checkpoint": file}
    with pytest.raises(SpecError, match="crops otherwise"):
        ZooFamily().objective(
            make_zoo_spec(LITE, SIZE, loss={"distillation": other}), torch.nn.Identity(), torch.device("cpu")
        )


def test_training_starts_from_a_file(run: Path, tmp_path: Path) -> None:
    """With as many joints everything is taken, with others all but the head, and other networks' files are refused."""
    same = create_model(LITE, seed=3)
    assert "New:" not in load_start(same, find(LITE), run / "pose_model.safetensors")
    trained = create_model(LITE)
    load_weights(trained, find(LITE), run / "pose_model.safetensors")
    for name, tensor in trained.state_dict().items():
        assert torch.equal(same.state_dict()[name], tensor), name
    fewer = create_model(LITE, joints=5)
    head = fewer.state_dict()["keypoint_head.final_layer.weight"].clone()
    said = load_start(fewer, find(LITE), run / "pose_model.safetensors")
    assert "New: keypoint_head.final_layer.weight, keypoint_head.final_layer.bias." in said
    assert torch.equal(fewer.state_dict()["keypoint_head.final_layer.weight"], head)
    other = find("hrnet_w32_256x192")
    with pytest.raises(ModelFileError, match="does not fit 'hrnet_w32_256x192'"):
        load_start(create_model(other.name, device="meta"), other, run / "pose_model.safetensors")


@pytest.mark.long
def test_other_skeletons_travel_with_the_weights(
    make_zoo_spec: MakeZooSpec, four_pictures: Path, tmp_path: Path
) -> None:
    joints = ["nose", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow"]
    category = {"name": "person", "keypoints": joints, "skeleton": [[1, 2], [1, 3], [2, 4], [3, 5]]}
    (tmp_path / "pose.json").write_text(json.dumps({"pose_config_type": "arms", "categories": [category]}))
    loader = {"pose_config": {"pose_config_path": str(tmp_path / "pose.json")}}
    spec = make_zoo_spec(LITE, SIZE, num_epoch=1, validation_every_n_epoch=1, dataloader=loader)
    result = train(spec, tmp_path / "run", device="cpu")
    assert "AP" in result.history[0]
    estimator = load_zoo_estimator(LITE, result.model)
    assert estimator.skeleton.joints[3] == "left_elbow"
    report = check(LITE, result.model)
    assert report.fits
    torchs, openvinos = study_of(result.model, four_pictures, tmp_path, "torch", "openvino")
    assert torchs["ap"] is not None
    assert openvinos["ap"] == pytest.approx(torchs["ap"], abs=0.01)
    published = find(LITE)
    assert torchs["facts"]["parameters"] == report.parameters < published.parameters  # twelve joints fewer
    assert torchs["facts"]["multiply_adds"] < published.multiply_adds / 20  # 64x32 of 256x192


def test_mistakes_are_told_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "spec.yaml").write_text(
        "model: {zoo: litehrnet}\n"
        "dataloader:\n  dataset_config: {dataset_specs: {a: b.json}}\n  batch: 3\n"
        "num_epoch: 7\nstages: 3\n"
    )
    assert main(["train", "-e", str(tmp_path / "spec.yaml"), "-r", str(tmp_path / "run")]) == 1
    printed = capsys.readouterr().err
    assert "spec.yaml:1: model.zoo: 'litehrnet' is no network." in printed
    assert "litehrnet_18_256x192" in printed
    assert "spec.yaml:4: unknown key 'dataloader.batch'" in printed
    assert "spec.yaml:6: unknown key 'stages'" in printed


@pytest.mark.parametrize(
    ("zoo", "changes", "words"),
    [
        ("openpose_coco", {}, "'openpose_coco' cannot be trained here"),
        (LITE, {"dataloader": {"augmentation_config": {"picture_params": {}}}}, "sees crops: give crop_params"),
        ("dekr_w32_512", {"dataloader": {"augmentation_config": {"crop_params": {}}}}, "sees whole pictures"),
        (LITE, {"dataloader": {"image_config": {"image_dims": {"height": 100, "width": 96}}}}, "multiples of 32"),
        (
            "higherhrnet_w32_512",
            {"dataloader": {"image_config": {"image_dims": {"height": 128, "width": 256}}}},
            "learns squares",
        ),
        (
            "dekr_w32_512",
            {"dataloader": {"image_config": {"image_dims": {"height": 96, "width": 96}}}},
            "multiples of 64",
        ),
        (
            "transpose_r_a3_256x192",
            {"dataloader": {"image_config": {"image_dims": {"height": 128, "width": 96}}}},
            "is built for 256x192 alone",
        ),
        (
            "dekr_w32_512",
            {"loss": {"distillation": {"teacher": LITE, "checkpoint": "x.pth"}}},
            "is for top-down networks",
        ),
        (LITE, {"loss": {"distillation": {"teacher": "dekr_w32_512", "checkpoint": "x.pth"}}}, "no top-down network"),
        (LITE, {"num_epoch": 5, "checkpoint_n_epoch": 2}, "must divide num_epoch"),
    ],
)
def test_contradictions_are_named(zoo: str, changes: dict[str, Any], words: str, make_zoo_spec: MakeZooSpec) -> None:
    with pytest.raises(ValueError, match=words):
        make_zoo_spec(zoo, (128, 128) if "dekr" in zoo or "higher" in zoo else (256, 192), **changes)


def test_what_is_left_out_follows_the_publication(make_zoo_spec: MakeZooSpec) -> None:
    lite, large = make_zoo_spec(LITE, (256, 192)), make_zoo_spec("hrnet_w48_384x288", (384, 288))
    assert (lite.sigma, large.sigma, make_zoo_spec("dekr_w32_512", (512, 512)).sigma) == (2, 3, 2)
    assert (lite.crop_params.scale_factor, lite.crop_params.rotate_factor) == (0.25, 30)
    assert (large.crop_params.scale_factor, large.crop_params.rotate_factor) == (0.35, 45)
    published = make_zoo_spec("dekr_w48_640", (1, 1), dataloader={"image_config": {}})
    assert published.input_size == (640, 640)


def test_missing_test_data_are_told_before_training(
    make_zoo_spec: MakeZooSpec, four_pictures: Path, tmp_path: Path
) -> None:
    content = json.loads(four_pictures.read_text())
    content["test_data"]["annotation_root_dir_path"] = "missing.json"
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    loader = {"dataset_config": {"dataset_specs": {"four": str(tmp_path / "dataset.json")}}}
    spec = make_zoo_spec(LITE, SIZE, validation_every_n_epoch=1, dataloader=loader)
    with pytest.raises(LimbnetError, match=r"(?s)missing\.json.*validation_every_n_epoch to 0"):
        train(spec, tmp_path / "run", device="cpu")
