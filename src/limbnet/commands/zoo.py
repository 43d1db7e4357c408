"""`limbnet zoo`: list the published networks, check a weight file against one of them, or export one to ONNX."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbnet.commands import flags
from limbnet.errors import UsageError
from limbnet.models.zoo import CATALOGUE, ZooEntry, create_model, find

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from limbnet.export.zoo_file import ZooExport
    from limbnet.models.zoo.weights import WeightReport
    from limbnet.runtime.signature import Precision
    from limbnet.specs.study import Boxes

HELP = "list published pose networks, check a weight file against one of them, or export one to ONNX"

ACTIONS = ("list", "check", "export")

#: Pictures of a checkout, for the comparison that every export ends with.
EXAMPLES = Path(__file__).resolve().parents[3] / "specs" / "dataset_examples.json"

TABLE_NOTE = """\
GMAC: 1e9 multiply-adds of one pass at that size, batch 1. GFLOPs and AP: as published, AP on COCO val2017 with flip;
top-down with detected boxes, bottom-up at one scale (at three scales). Conventions and notes: --json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "action", choices=ACTIONS, help="list the networks, check a weight file, or export a network to ONNX"
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="check, export: name of the network")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="check: the weight file")
    flags.json_output(parser)
    group: Any = parser.add_argument_group("export")
    flags.output_file(group, "ONNX file", required=False)
    group.add_argument("--checkpoint", type=Path, metavar="FILE", help="weight file; without it initial weights")
    group.add_argument("--precision", choices=["fp32", "fp16", "int8"], default="fp32", help="of the file")
    group.add_argument(
        "-d", "--input_dims", type=flags.input_size, metavar="H,W", help="input size; without it the published one"
    )
    group.add_argument(
        "--dataset_spec", type=Path, metavar="SPEC",
        help="pictures and people (its test_data) that the file is compared and INT8 calibrated on; the examples of "
        "a checkout without it, but not for INT8",
    )  # fmt: skip
    flags.threads(group)
    flags.overwrite(group)


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 when a checked file does not fit."""
    if args.action == "list":
        if args.name is not None:
            raise UsageError(f"zoo list takes no name, found '{args.name}'.", "Did you mean 'limbnet zoo check'?")
        print(json.dumps([asdict(entry) for entry in CATALOGUE.values()]) if args.json else table())
        return 0
    if args.action == "export":
        return _export(args)
    if args.name is None or args.file is None:
        raise UsageError("zoo check needs the name of a network and a file.", "Usage: limbnet zoo check NAME FILE")
    report = check(args.name, args.file)
    if args.json:
        print(json.dumps(asdict(report) | {"path": str(report.path), "fits": report.fits}))
        return 0 if report.fits else 1
    if not report.fits:
        raise report.error()
    print(summary(report))
    return 0


def _export(args: argparse.Namespace) -> int:
    if args.name is None or args.output_file is None or args.file is not None:
        raise UsageError(
            "zoo export needs the name of a network and an output.",
            "Usage: limbnet zoo export NAME -o FILE [--checkpoint FILE] [--precision fp32|fp16|int8]",
        )
    report = export(
        args.name,
        args.output_file,
        checkpoint=args.checkpoint,
        precision=args.precision,
        input_size=args.input_dims,
        dataset_spec=args.dataset_spec,
        threads=args.threads,
        overwrite=args.overwrite,
    )
    if args.json:
        print(json.dumps(report.to_dict()))
        return 0
    for line in (*report.int8_shares, *report.deviations):
        print(line)
    print(f"Written: {report.output} and {report.path.name}")
    return 0


def export(
    name: str,
    output: Path,
    *,
    checkpoint: Path | None = None,
    precision: Precision = "fp32",
    input_size: tuple[int, int] | None = None,
    dataset_spec: Path | None = None,
    threads: int | None = None,
    overwrite: bool = False,
) -> ZooExport:
    """Export the network `name` to an ONNX file; see `export_zoo_file`.

    Args:
        name: a key of the catalogue.
        output: the file.
        checkpoint: its weights; initial ones when None.
        precision: of the file.
        input_size: (height, width); the checkpoint's or the published one when None.
        dataset_spec: pictures to compare and calibrate on.
        threads: CPU threads.
        overwrite: replace an output that exists.

    Raises:
        UsageError: unknown network, INT8 without pictures, or the output exists.
        LimbnetError: weights or pictures are wrong, or the network cannot be exported.
    """
    from limbnet.benchmark.study_data import load_study_data
    from limbnet.benchmark.study_inputs import pose_features, study_inputs
    from limbnet.export.zoo_file import export_zoo_file
    from limbnet.models.zoo.weights import load_weights, read_checkpoint
    from limbnet.runtime.zoo.load import load_zoo_estimator
    from limbnet.runtime.zoo.network import TorchZooNetwork
    from limbnet.specs.study import StudyRow, StudySpec

    entry = find(name)
    if output.exists() and not overwrite:  # before any long work
        raise UsageError(f"'{output}' exists.", "Choose another output, or add --overwrite.")
    boxes: Boxes | None = "ground_truth" if entry.head == "joint_maps" else None
    row = StudyRow(row="export", model="hrnet_w32_256x192", boxes="ground_truth")  # whose boxes suit every network
    data = load_study_data(StudySpec(dataset=_dataset(dataset_spec, precision), rows=(row,)))
    inputs: Sequence[NDArray[Any]]
    if entry.input_size is None:
        network, inputs = create_model(name), pose_features(data)
        if checkpoint is not None:
            load_weights(network, entry, checkpoint)
    else:
        ready = load_zoo_estimator(name, checkpoint, input_size=input_size).network
        assert isinstance(ready, TorchZooNetwork)
        network, entry, inputs = ready.module, ready.entry, study_inputs(ready, data, boxes)
    weights = "" if checkpoint is None else read_checkpoint(checkpoint).sha256
    return export_zoo_file(
        network, entry, output, inputs, precision=precision, weights=weights, threads=threads, overwrite=overwrite
    )


def _dataset(asked: Path | None, precision: Precision) -> Path:
    if asked is not None:
        return asked
    if precision == "int8":
        raise UsageError(
            "INT8 needs to see which values the network's tensors take.", "Give pictures with --dataset_spec SPEC."
        )
    if not EXAMPLES.is_file():
        raise UsageError(
            "An export is compared with the network on real pictures, and there are none here.",
            "Give some with --dataset_spec SPEC.",
        )
    return EXAMPLES


def check(name: str, file: Path) -> WeightReport:
    """Return how a weight file fits the network `name`; a file that fits has really been loaded, strictly.

    Raises:
        UsageError: unknown network.
        ModelFileError: the file cannot be read as weights at all.
    """
    from limbnet.models.zoo.weights import compare_weights
    from limbnet.runtime.zoo.load import as_trained

    entry, _ = as_trained(name, file)
    network = create_model(name, joints=entry.joints, input_size=entry.input_size, device="meta")
    report, state = compare_weights(network, entry, file)
    if report.fits:
        network.load_state_dict(state, strict=True, assign=True)
    return report


def summary(report: WeightReport) -> str:
    """Return the lines printed for a file that fits."""
    entry = CATALOGUE[report.network]
    place = f", under '{report.container}'" if report.container else ""
    prefix = f", '{report.prefix}' stripped from every name" if report.prefix else ""
    return "\n".join(
        [
            f"network  {entry.system} ({entry.name}), {report.parameters:,} parameters",
            f"file     {report.path}: {report.kind}{place}{prefix}",
            f"sha256   {report.sha256}",
            f"tensors  {report.tensors}; every name and shape fits",
            f"licence  {entry.licence} (released weights)",
        ]
    )


def table() -> str:
    """Return the catalogue as a table for a terminal."""
    head = ("name", "system", "input", "parameters", "GMAC", "GFLOPs", "AP", "licence of weights", "official file")
    rows = [head, *(_row(entry) for entry in CATALOGUE.values())]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numeric = {head.index(title) for title in ("parameters", "GMAC", "GFLOPs")}
    lines = [
        "  ".join(
            cell.rjust(width) if column in numeric else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    return "\n".join([*lines, "", TABLE_NOTE])


def _row(entry: ZooEntry) -> tuple[str, ...]:
    published = entry.published
    several = f" ({published.ap_multi_scale})" if published.ap_multi_scale is not None else ""
    return (
        entry.name,
        entry.system,
        "-" if entry.input_size is None else "{}x{}".format(*entry.input_size),
        f"{entry.parameters:,}",
        _giga(entry.multiply_adds),
        _or_dash(published.gflops),
        _or_dash(published.ap) + several,
        entry.licence,
        ", ".join(entry.files),
    )


def _giga(count: int) -> str:
    return f"{count / 1e9:.3f}" if count >= 1e6 else f"{count / 1e9:.6f}"


def _or_dash(value: Any) -> str:
    return "-" if value is None else str(value)
