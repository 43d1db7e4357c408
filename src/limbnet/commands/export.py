"""`limbnet export`: a checkpoint to ONNX, float or INT8, and where asked on to an engine."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import Any

from limbnet.commands import flags
from limbnet.errors import SpecError, UsageError
from limbnet.status import StatusLog

HELP = "Export a model to ONNX in fp32, fp16 or int8, compare it with the original, and build engines."

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    flags.model(parser)
    flags.output_file(parser, "ONNX file; without it <model>.etlt", required=False)
    flags.key(parser)
    flags.train_spec(parser, required=False)
    parser.add_argument(
        "-t", "--backend", choices=["onnx", "tfonnx"], default="onnx", help="format; both names mean ONNX"
    )
    parser.add_argument(
        "-d", "--input_dims", type=flags.input_size, metavar="H,W,3",
        help="input size of calibration, check and engine; without it the model's own",
    )  # fmt: skip
    parser.add_argument("--data_type", choices=["fp32", "fp16", "int8"], default="fp32", help="precision")
    parser.add_argument(
        "--input_type", choices=["uint8", "float32"], default="uint8",
        help="uint8: RGB pixels, normalised in the graph; float32: the normalised values that TAO's files take",
    )  # fmt: skip
    parser.add_argument(
        "-i", "--data_format", choices=["channels_last", "channels_first"], default="channels_last",
        help="layout of input and outputs",
    )  # fmt: skip
    parser.add_argument(
        "--sdk_compatible_model",
        action="store_true",
        help="repeat the part affinity fields' cells as NVIDIA's SDKs expect",
    )
    parser.add_argument(
        "-u",
        "--upsample_ratio",
        type=flags.positive,
        default=4,
        metavar="N",
        help="how often, with --sdk_compatible_model",
    )
    parser.add_argument(
        "--decode", choices=["none", "peaks"], default="none",
        help="none: the file returns maps; peaks: it finds the peaks and scores the limbs itself, for GPUs",
    )  # fmt: skip
    parser.add_argument(
        "--max_peaks", type=flags.positive, metavar="M",
        help="peaks kept per joint, with --decode peaks; without it the model's own number (64 unless changed)",
    )  # fmt: skip
    flags.overwrite(parser)
    flags.results_dir(parser)
    flags.threads(parser)
    flags.json_output(parser)
    _add_int8(parser.add_argument_group("INT8"))
    _add_accuracy(parser.add_argument_group("accuracy"))
    _add_engine(parser.add_argument_group("engine"))


def _add_int8(group: Any) -> None:
    group.add_argument("--cal_image_dir", type=Path, metavar="DIR", help="pictures to calibrate with, and to check on")
    group.add_argument(
        "--cal_data_file",
        type=Path,
        metavar="FILE",
        help="tensor file: used if it exists, else written from the pictures",
    )
    group.add_argument(
        "--cal_cache_file", type=Path, default=Path("cal.bin"), metavar="FILE",
        help="calibration cache: if it exists calibration is skipped, else it is written",
    )  # fmt: skip
    group.add_argument("--batches", type=flags.positive, default=10, metavar="N", help="batches to calibrate with")
    group.add_argument("--batch_size", type=flags.positive, default=1, metavar="N", help="pictures in one batch")
    group.add_argument(
        "--calibration", choices=["entropy", "minmax", "percentile"],
        help="how scales follow from the values; without it percentile, or whatever the cache was made by",
    )  # fmt: skip
    group.add_argument(
        "--percentile", type=flags.percentile, default=99.99, metavar="P", help="for --calibration percentile"
    )
    group.add_argument(
        "--float_layers", nargs="*", metavar="LAYER",
        help="convolutions that stay float; without it each stage's outputs and the 1x1 ones before them",
    )  # fmt: skip
    group.add_argument(
        "--sensitivity", action="store_true",
        help="rank the layers by what INT8 costs each of them; by AP with --dataset_spec",
    )  # fmt: skip
    flags.seed(group)
    flags.without_effect(group, "-s", "--strict_type_constraints", why="the file itself fixes every type", nargs=0)
    group.add_argument(
        "--force_ptq", action="store_true", help="calibrate even where quantisation-aware training found the ranges"
    )


def _add_accuracy(group: Any) -> None:
    group.add_argument(
        "--dataset_spec", type=Path, metavar="SPEC", help="dataset spec: measure the AP of the file in strict mode"
    )
    group.add_argument(
        "--max_ap_drop", type=flags.amount, metavar="AP", help="fail when the file loses more AP than this"
    )


def _add_engine(group: Any) -> None:
    group.add_argument(
        "--engine_file", type=Path, metavar="FILE", help="also build an engine: .engine TensorRT, .xml OpenVINO"
    )
    group.add_argument(
        "--gpu_arch", nargs="+", default=[], metavar="SM", help="GPU architectures to build for, such as sm86 sm89"
    )
    group.add_argument("--opt_batch_size", type=flags.positive, default=1, metavar="N", help="batch it is tuned for")
    group.add_argument("--max_batch_size", type=flags.positive, default=1, metavar="N", help="largest batch")
    group.add_argument(
        "--static_batch_size", type=int, default=-1, metavar="N", help="fix the batch in the file; -1 leaves it open"
    )
    group.add_argument("--max_workspace_size", type=flags.byte_count, metavar="BYTES", help="GPU memory for the build")
    flags.without_effect(group, "-v", "--verbose", why="'-l DEBUG' prints more", nargs=0)


def run(args: argparse.Namespace) -> None:
    """Export one checkpoint."""
    from limbnet.export.engines import EngineRequest, write_engine_file
    from limbnet.export.exporting import export_file

    output = args.output_file or args.model.with_name(args.model.name + ".etlt")
    request = EngineRequest(
        args.engine_file, tuple(args.gpu_arch), args.opt_batch_size, max(args.max_batch_size, args.batch_size),
        args.max_workspace_size,
    ) if args.engine_file else None  # fmt: skip
    if request is not None:
        request.check(overwrite=args.overwrite)
    with StatusLog(args.results_dir, "export") as status:
        _check_spec(args)
        network, report = export_file(
            args.model,
            output,
            _settings(args),
            calibration=_calibration(args),
            accuracy=_accuracy(args),
            key=args.key,
            overwrite=args.overwrite,
        )
        if request is not None:
            write_engine_file(network, request, report.size, key=args.key)
        status.write("Exported.", kpi={"largest_deviation": max(one.largest for one in report.deviations)})
    if args.json:
        print(json.dumps(report.to_dict()))
        return
    for line in (*report.sensitivity, *report.int8_shares, *report.deviations):
        print(line)
    print(f"Written: {output} and {report.path.name}" + (f", {args.engine_file}" if args.engine_file else ""))


def _settings(args: argparse.Namespace) -> Any:
    from limbnet.export.exporting import ExportSettings

    return ExportSettings(
        precision=args.data_type,
        size=args.input_dims,
        input_type=args.input_type,
        data_format=args.data_format,
        sdk_compatible=args.sdk_compatible_model,
        upsample_ratio=args.upsample_ratio,
        fixed_batch=args.static_batch_size if args.static_batch_size > 0 else None,
        float_layers=None if args.float_layers is None else tuple(args.float_layers),
        threads=args.threads,
        sensitivity=args.sensitivity,
        decode=args.decode,
        max_peaks=args.max_peaks,
    )


def _calibration(args: argparse.Namespace) -> Any:
    from limbnet.export.int8 import Calibration

    return Calibration(
        cache_file=args.cal_cache_file if args.data_type == "int8" else None,
        data_file=args.cal_data_file,
        image_dir=args.cal_image_dir,
        batches=args.batches,
        batch_size=args.batch_size,
        method=args.calibration,
        percentile=args.percentile,
        seed=args.seed,
        anew=args.force_ptq,
    )


def _accuracy(args: argparse.Namespace) -> Any:
    if args.dataset_spec is None:
        if args.max_ap_drop is not None:
            raise UsageError("--max_ap_drop needs a dataset to measure AP on.", "Give one with --dataset_spec.")
        return None
    from limbnet.export.accuracy import AccuracyLimit
    from limbnet.specs.load import load_dataset_spec

    return AccuracyLimit(load_dataset_spec(args.dataset_spec), args.max_ap_drop)


def _check_spec(args: argparse.Namespace) -> None:
    """Refuse a train spec whose normalisation is not the model's: calibration would see other values than inference."""
    if args.experiment_spec is None:
        return
    from limbnet.models.checkpoint import load_model
    from limbnet.specs.load import load_train_spec

    wanted = load_train_spec(args.experiment_spec).dataloader.normalization_params
    info = load_model(args.model, args.key).info
    if (wanted.image_scale, wanted.image_offset) != (info.image_scale, info.image_offset):
        raise SpecError(
            f"'{args.experiment_spec}' normalises by {wanted.image_scale} and {wanted.image_offset}, the model "
            f"'{args.model}' was trained with {info.image_scale} and {info.image_offset}.",
            "Leave -e out, or give the spec the model was trained with.",
        )
