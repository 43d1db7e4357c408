"""`limbnet zoo`: list the published networks, or check a weight file against one of them."""

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
    from limbnet.models.zoo.weights import WeightReport

HELP = "list published pose networks, or check a weight file against one of them"

TABLE_NOTE = """\
GMAC: 1e9 multiply-adds of one pass at that size, batch 1. GFLOPs and AP: as published, AP on COCO val2017 with flip;
top-down with detected boxes, bottom-up at one scale (at three scales). Conventions and notes: --json."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("action", choices=("list", "check"), help="list the networks, or check a weight file")
    parser.add_argument("name", nargs="?", metavar="NAME", help="check: name of the network")
    parser.add_argument("file", nargs="?", type=Path, metavar="FILE", help="check: the weight file")
    flags.json_output(parser)


def run(args: argparse.Namespace) -> int:
    """Run the command; 1 when a checked file does not fit."""
    if args.action == "list":
        if args.name is not None:
            raise UsageError(f"zoo list takes no name, found '{args.name}'.", "Did you mean 'limbnet zoo check'?")
        print(json.dumps([asdict(entry) for entry in CATALOGUE.values()]) if args.json else table())
        return 0
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


def check(name: str, file: Path) -> WeightReport:
    """Return how a weight file fits the network `name`; a file that fits has really been loaded, strictly.

    Raises:
        UsageError: unknown network.
        ModelFileError: the file cannot be read as weights at all.
    """
    from limbnet.models.zoo.weights import compare_weights

    entry = find(name)
    network = create_model(name, device="meta")
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
            f"network  {entry.system} ({entry.name}), {entry.parameters:,} parameters",
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
