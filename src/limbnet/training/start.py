"""Where training starts: at fresh weights, pretrained ones, a pruned graph, a checkpoint to fine-tune or to resume."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any

import torch
from torch import nn

from limbnet.data.loader import TrainingData
from limbnet.errors import ModelFileError, TrainingError
from limbnet.models.bodyposenet import BodyPoseNet, build_model
from limbnet.models.checkpoint import LoadedModel, load_model
from limbnet.models.info import ModelInfo
from limbnet.models.pretrained import load_pretrained
from limbnet.skeleton import Skeleton
from limbnet.specs.train import TrainSpec
from limbnet.training.checkpoints import CheckpointFolder
from limbnet.training.distributed import Place
from limbnet.training.ema import MovingAverage
from limbnet.training.fake_quantise import FakeQuantised
from limbnet.training.optimiser import build_optimiser
from limbnet.training.precision import Precision
from limbnet.training.state import TrainingState

log = logging.getLogger(__name__)


def begin(
    spec: TrainSpec, data: TrainingData, place: Place, results: Path, key: str | None = None
) -> tuple[TrainingState, CheckpointFolder]:
    """Return the state that training goes on from, and the folder it is kept in.

    A results folder with checkpoints is resumed, and pretrained weights are not loaded then.

    Raises:
        TrainingError: the folder holds another run, or a model file does not fit the spec.
        ModelFileError: a model file is missing, damaged or of another kind.
    """
    torch.manual_seed(spec.random_seed)
    skeleton = data.skeleton
    folder = CheckpointFolder(
        results,
        model_info(spec, skeleton),
        run_facts(data, place),
        key=key,
        keep=spec.max_ckpt_to_keep,
        final_name=spec.final_model_name,
    )
    if place.speaks:
        folder.tidy()
    resumed = folder.latest()
    if resumed is not None:
        folder.check_same_run(resumed)
        state = _state_of(resumed.model, spec, place)
        _take_over(state, resumed)
        if place.speaks:
            log.info("Resuming after epoch %d from '%s'.", state.epoch, folder.path(state.epoch))
        return state, folder
    if spec.finetuning_config.is_finetune_exp:
        return _fine_tuned(spec, skeleton, place, key), folder
    return _state_of(_first_model(spec, skeleton, key, place.speaks), spec, place), folder


def model_info(spec: TrainSpec, skeleton: Skeleton) -> ModelInfo:
    """Return what the model files of a run say about themselves."""
    dims, norm = spec.dataloader.image_config.image_dims, spec.dataloader.normalization_params
    return ModelInfo(
        skeleton=skeleton,
        stride=spec.model.backbone_attributes.stride,
        input_size=(dims.height, dims.width),
        image_scale=norm.image_scale,
        image_offset=norm.image_offset,
        spec=spec.model_dump(mode="json", by_alias=True),
    )


def run_facts(data: TrainingData, place: Place) -> dict[str, Any]:
    """Return what decides the weights beside the spec: the processes and the samples themselves."""
    digest = hashlib.sha256()
    samples = data.samples
    for picture in samples.pictures:
        digest.update(f"{Path(picture.path).name}\n".encode())
    for array in (samples.joints, samples.rows, samples.first, samples.picture, samples.centres, samples.heights):
        digest.update(array.tobytes())
    return {"processes": place.world_size, "samples": len(samples), "samples_digest": digest.hexdigest()[:16]}


def _first_model(spec: TrainSpec, skeleton: Skeleton, key: str | None, speaks: bool) -> BodyPoseNet:
    if spec.load_graph and spec.pretrained_weights:
        loaded = load_model(spec.pretrained_weights, key)
        _check_fits(loaded, spec, skeleton, spec.pretrained_weights)
        if speaks:
            log.info("Retraining the graph and weights of '%s'.", spec.pretrained_weights)
        return loaded.model
    model = build_model(spec.model, skeleton)
    if spec.pretrained_weights:
        report = load_pretrained(model, spec.pretrained_weights, key)
        if speaks:
            log.info("%s", report)
    return model


def _fine_tuned(spec: TrainSpec, skeleton: Skeleton, place: Place, key: str | None) -> TrainingState:
    """Go on from a checkpoint: its weights, its epoch and, where it holds them, its momenta."""
    path = spec.finetuning_config.checkpoint_path
    assert path is not None  # the spec's own check
    loaded = load_model(path, key)
    _check_fits(loaded, spec, skeleton, path)
    state = _state_of(loaded.model, spec, place)
    if loaded.training:
        _take_over(state, loaded)
    else:
        state.epoch = int(loaded.info.extra.get("epoch", 0))
    state.start_epoch, state.history, state.best = state.epoch, [], {}
    left = spec.num_epoch - spec.finetuning_config.ckpt_epoch_num
    if left < 1:
        raise TrainingError(
            f"Nothing is left to fine-tune: num_epoch is {spec.num_epoch}, "
            f"finetuning_config.ckpt_epoch_num {spec.finetuning_config.ckpt_epoch_num}.",
            "Raise num_epoch.",
        )
    if place.speaks:
        momenta = "" if loaded.training else " It holds no state of its training, so momenta start at 0."
        log.info("Fine-tuning '%s' from epoch %d for %d epochs.%s", path, state.epoch, left, momenta)
    return state


def _state_of(model: BodyPoseNet, spec: TrainSpec, place: Place) -> TrainingState:
    """Put a network on its device, ready to be trained."""
    model = model.to(place.device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = spec.batch_norm_momentum
    quantised = FakeQuantised(model, model_info(spec, model.skeleton)).to(place.device) if spec.quantize else None
    return TrainingState(
        model,
        build_optimiser(model, spec.optimizer, spec.use_stagewise_lr_multipliers),
        Precision(place.device, False if quantised else spec.mixed_precision),  # eight bits need exact sums
        MovingAverage(model, spec.ema_decay) if spec.ema_decay else None,
        quantised,
    )


def _take_over(state: TrainingState, loaded: LoadedModel) -> None:
    assert loaded.training is not None
    state.restore(loaded.training, {name: value.clone() for name, value in loaded.model.state_dict().items()})


def _check_fits(loaded: LoadedModel, spec: TrainSpec, skeleton: Skeleton, path: Path) -> None:
    """Compare a loaded graph with what the spec says about it.

    Raises:
        ModelFileError: naming everything that differs.
    """
    theirs = loaded.info.skeleton
    problems = []
    if (theirs.joints, theirs.limbs) != (skeleton.joints, skeleton.limbs):
        problems.append(f"its skeleton is '{theirs.name}', the spec's '{skeleton.name}'")
    if len(loaded.model.stages) != spec.model.stages:
        problems.append(f"it has {len(loaded.model.stages)} stages, the spec {spec.model.stages}")
    if loaded.model.stride != spec.model.backbone_attributes.stride:
        problems.append(f"its stride is {loaded.model.stride}, the spec's {spec.model.backbone_attributes.stride}")
    if problems:
        raise ModelFileError(f"'{path}' does not fit the spec:\n  " + "\n  ".join(problems), "Make the spec follow it.")
