"""Where training starts: at fresh weights, pretrained ones, a pruned graph, a checkpoint to fine-tune or to resume."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from limbnet.data.stream import BatchStream
from limbnet.errors import TrainingError
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.checkpoint import load_model
from limbnet.skeleton import Skeleton
from limbnet.specs.train import TrainSpec
from limbnet.training.bodypose import BodyPoseFamily, check_fits, model_info
from limbnet.training.checkpoints import CheckpointFolder
from limbnet.training.distributed import Place
from limbnet.training.ema import MovingAverage
from limbnet.training.fake_quantise import FakeQuantised
from limbnet.training.family import AnyTrainSpec, Family, Loaded
from limbnet.training.optimiser import build_optimiser
from limbnet.training.precision import Precision
from limbnet.training.state import TrainingState

log = logging.getLogger(__name__)


def begin(
    spec: AnyTrainSpec,
    data: BatchStream[Any],
    place: Place,
    results: Path,
    key: str | None = None,
    *,
    family: Family[Any] | None = None,
) -> tuple[TrainingState, CheckpointFolder]:
    """Return the state that training goes on from, and the folder it is kept in.

    A results folder with checkpoints is resumed, and pretrained weights are not loaded then. The family is that of
    BodyPoseNets when None.

    Raises:
        TrainingError: the folder holds another run, or a model file does not fit the spec.
        ModelFileError: a model file is missing, damaged or of another kind.
    """
    torch.manual_seed(spec.random_seed)
    skeleton, kind = data.skeleton, cast(Family[Any], family or BodyPoseFamily())
    folder = CheckpointFolder(
        results,
        kind.info(spec, skeleton),
        run_facts(data, place),
        kind,
        key=key,
        keep=spec.max_ckpt_to_keep,
        final_name=spec.final_model_name,
    )
    if place.speaks:
        folder.tidy()
    resumed = folder.latest()
    if resumed is not None:
        folder.check_same_run(resumed, type(spec))
        state = _state_of(resumed.model, spec, place)
        _take_over(state, resumed)
        if place.speaks:
            log.info("Resuming after epoch %d from '%s'.", state.epoch, folder.path(state.epoch))
        return state, folder
    if isinstance(spec, TrainSpec) and spec.finetuning_config.is_finetune_exp:
        return _fine_tuned(spec, skeleton, place, key), folder
    return _state_of(kind.first_model(spec, skeleton, key, place.speaks), spec, place), folder


def run_facts(data: BatchStream[Any], place: Place) -> dict[str, Any]:
    """Return what decides the weights beside the spec: the processes and the samples themselves."""
    digest = hashlib.sha256()
    samples = data.samples
    for picture in samples.pictures:
        digest.update(f"{Path(picture.path).name}\n".encode())
    for array in (samples.joints, samples.rows, samples.first, samples.picture, samples.centres, samples.heights):
        digest.update(array.tobytes())
    for known in (samples.boxes, samples.areas):
        digest.update(b"" if known is None else known.tobytes())
    return {"processes": place.world_size, "samples": len(samples), "samples_digest": digest.hexdigest()[:16]}


def _fine_tuned(spec: TrainSpec, skeleton: Skeleton, place: Place, key: str | None) -> TrainingState:
    """Go on from a checkpoint: its weights, its epoch and, where it holds them, its momenta."""
    path = spec.finetuning_config.checkpoint_path
    assert path is not None  # the spec's own check
    loaded = load_model(path, key)
    check_fits(loaded, spec, skeleton, path)
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


def _state_of(model: nn.Module, spec: AnyTrainSpec, place: Place) -> TrainingState:
    """Put a network on its device, ready to be trained."""
    model = model.to(place.device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = spec.batch_norm_momentum
    quantised, stagewise = None, False
    if isinstance(spec, TrainSpec):
        stagewise = spec.use_stagewise_lr_multipliers
        if spec.quantize and isinstance(model, BodyPoseNet):
            quantised = FakeQuantised(model, model_info(spec, model.skeleton)).to(place.device)
    return TrainingState(
        model,
        build_optimiser(model, spec.optimizer, stagewise),
        Precision(place.device, False if quantised else spec.mixed_precision),  # eight bits need exact sums
        MovingAverage(model, spec.ema_decay) if spec.ema_decay else None,
        quantised,
    )


def _take_over(state: TrainingState, loaded: Loaded) -> None:
    assert loaded.training is not None
    state.restore(loaded.training, {name: value.clone() for name, value in loaded.model.state_dict().items()})
