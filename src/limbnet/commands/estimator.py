"""Flags of the commands that run a model on pictures, and the estimator that they ask for."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
from typing import Any

from limbnet.commands import flags
from limbnet.decode import compiled
from limbnet.devices import choose_device
from limbnet.errors import UsageError
from limbnet.models.info import ModelInfo
from limbnet.models.shipped import DEFAULT_MODEL
from limbnet.runtime.load import ENGINES, load_engine
from limbnet.runtime.predictor import PoseEstimator, Result
from limbnet.specs.inference import InferenceSpec
from limbnet.specs.load import load_inference_spec, load_pose_config, load_train_spec
from limbnet.specs.source import read_source

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that choose the model, the spec, the device and the runtime."""
    flags.inference_spec(parser, required=False)
    flags.model(parser, spec_may_name_it=True)
    flags.key(parser)
    flags.devices(parser)
    parser.add_argument(
        "--engine", choices=sorted(ENGINES), help="runtime; without it the one that suits the model file"
    )
    flags.threads(parser)
    parser.add_argument(
        "--scales", type=flags.scales, metavar="S,...",
        help="average over these factors on the input size: 1 (fastest), 0.5,1; without it the spec's, or the model's",
    )  # fmt: skip
    parser.add_argument("--flip", action="store_true", help="average with the mirrored picture (slower, more accurate)")


def open_estimator(args: argparse.Namespace) -> tuple[PoseEstimator, dict[str, Any]]:
    """Load spec and model; return the estimator and the inference spec as the user wrote it."""
    spec = InferenceSpec() if args.inference_spec is None else load_inference_spec(args.inference_spec)
    written = {} if args.inference_spec is None else dict(read_source(args.inference_spec).content)
    model = args.model or spec.model_path or DEFAULT_MODEL
    engine = load_engine(
        model,
        key=args.key,
        device=_device(args),
        engine=args.engine,
        threads=args.threads,
        output_stage=spec.output_stage_to_use,
        fallback=lambda: info_from_train_spec(spec, model),
    )
    return PoseEstimator.from_spec(engine, spec, scales=args.scales, flip=args.flip), written


def described(estimator: PoseEstimator) -> str:
    """Say what looks at pictures, and how often: `onnxruntime int8 on cpu at scales 0.5, 1, mirrored too`."""
    engine, scales = estimator.engine, estimator.scales
    several = "" if scales == (1.0,) else f" at scales {', '.join(f'{scale:g}' for scale in scales)}"
    decoding = "" if compiled.in_use else f"; decoding by {compiled.described()}"
    return f"{engine.name} on {engine.device}{several}{', mirrored too' if estimator.flip else ''}{decoding}"


def warn_about(result: Result[Any]) -> None:
    """Log what went wrong with one picture, in one line each."""
    for sentence in result.warnings:
        log.warning("%s: %s", result.source, sentence)
    if result.error is not None:
        log.warning("%s", result.error.what)


def _device(args: argparse.Namespace) -> str | None:
    """Return the device that was asked for; without a wish the runtime takes its best. The runtime announces it."""
    if args.device is None and args.gpus is None and args.gpu_index is None:
        return None
    return str(choose_device(args.device, args.gpus, args.gpu_index, announce=False))


def info_from_train_spec(spec: InferenceSpec, model: Path) -> ModelInfo:
    """Describe a model file that says nothing about itself by the spec it was trained with.

    Raises:
        UsageError: the inference spec names no train spec.
    """
    if spec.train_spec is None:
        raise UsageError(
            f"'{model}' says nothing about its skeleton and its input.",
            "Give an inference spec whose train_spec names the pose config and the normalisation it was trained with.",
        )
    dataloader = load_train_spec(spec.train_spec).dataloader
    dims = dataloader.image_config.image_dims
    return ModelInfo(
        skeleton=load_pose_config(dataloader.pose_config.pose_config_path),
        input_size=spec.input_shape or (dims.height, dims.width),
        image_scale=dataloader.normalization_params.image_scale,
        image_offset=dataloader.normalization_params.image_offset,
    )
