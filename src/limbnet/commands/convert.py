"""`limbnet convert`: an exported model to an engine; the successor of `tlt-converter`."""

from __future__ import annotations

import argparse
from pathlib import Path

from limbnet.commands import flags
from limbnet.errors import UsageError
from limbnet.runtime.onnx_file import Fallback

HELP = "Build an engine from an exported model: TensorRT (.engine) or OpenVINO (.xml)."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("input_file", type=Path, metavar="INPUT", help="ONNX file, encrypted or not")
    flags.key(parser)
    parser.add_argument(
        "-e", "--engine_file", type=Path, default=Path("saved.engine"), metavar="FILE",
        help="output: .xml means OpenVINO, anything else TensorRT",
    )  # fmt: skip
    parser.add_argument(
        "-t", "--data_type", choices=["fp32", "fp16", "int8"], help="precision; the file's own when left out"
    )
    parser.add_argument(
        "-c", "--cal_cache_file", type=Path, metavar="FILE", help="calibration cache, for int8 of a float file"
    )
    parser.add_argument("-d", "--input_dims", metavar="H,W,3", help="input size; 3,H,W with -i nchw")
    parser.add_argument("-o", "--outputs", metavar="NAMES", help="output tensors, separated by commas; checked only")
    parser.add_argument(
        "-p", "--profile", action="append", default=[], metavar="NAME,MIN,OPT,MAX",
        help="input shapes, such as input_1:0,1x288x384x3,4x288x384x3,8x288x384x3",
    )  # fmt: skip
    parser.add_argument(
        "-m", "--max_batch_size", type=flags.positive, default=16, metavar="N", help="largest batch, without -p"
    )
    parser.add_argument(
        "-w", "--max_workspace_size", type=flags.byte_count, metavar="BYTES", help="GPU memory for the build"
    )
    parser.add_argument(
        "-i", "--input_order", choices=["nchw", "nhwc", "nc"], help="order of -d; the file's own when left out"
    )
    parser.add_argument(
        "--gpu_arch", nargs="+", default=[], metavar="SM", help="GPU architectures to build for, such as sm86 sm89"
    )
    parser.add_argument(
        "--inference_spec",
        type=Path,
        metavar="SPEC",
        help="inference spec, for files that say nothing about themselves",
    )
    flags.overwrite(parser)
    flags.without_effect(parser, "-b", "--batch_size", why="INT8 takes its scales from the file or the cache")
    flags.without_effect(parser, "-s", "--strict_type_constraints", why="the file itself fixes every type", nargs=0)
    flags.without_effect(parser, "-u", "--use_dla", why="engines are built for GPUs, not for DLA cores")


def run(args: argparse.Namespace) -> None:
    """Convert one file."""
    from limbnet.export.converting import ConvertSettings, convert_file

    profiles = args.profile
    if len(profiles) > 1:
        raise UsageError(f"{len(profiles)} profiles were given, but the network has one input.", "Give -p once.")
    network = convert_file(
        args.input_file,
        ConvertSettings(
            engine_file=args.engine_file,
            precision=args.data_type,
            cache_file=args.cal_cache_file,
            dims=args.input_dims,
            order=args.input_order,
            outputs=tuple(args.outputs.split(",")) if args.outputs else (),
            profile=profiles[0] if profiles else None,
            max_batch=args.max_batch_size,
            workspace=args.max_workspace_size,
            architectures=tuple(args.gpu_arch),
        ),
        key=args.key,
        fallback=_fallback(args),
        overwrite=args.overwrite,
    )
    print(f"Written: {args.engine_file} (from {network.signature.precision}, input {network.signature.input_name})")


def _fallback(args: argparse.Namespace) -> Fallback | None:
    """Return what describes a file without metadata, from the train spec that the inference spec names."""
    if args.inference_spec is None:
        return None
    from limbnet.commands.estimator import info_from_train_spec
    from limbnet.specs.load import load_inference_spec

    return lambda: info_from_train_spec(load_inference_spec(args.inference_spec), args.input_file)
