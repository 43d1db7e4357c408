"""`limbnet benchmark`: a study of many networks on the same pictures, accuracy against frames per second."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from limbnet.commands import flags
from limbnet.status import StatusLog

HELP = "Run a study: published networks and your own on the same pictures, accuracy against frames per second."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("study", type=Path, metavar="STUDY", help="study (YAML), such as specs/study_tiny.yaml")
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; in the place of the study's")
    parser.add_argument(
        "--allow_missing",
        action="store_true",
        help="published networks whose weight files are missing run with initial weights, for speed only",
    )
    flags.overwrite(parser)
    flags.key(parser)
    charts = parser.add_mutually_exclusive_group()
    charts.add_argument(
        "--charts", action="store_true", default=None, help="draw charts; the default where matplotlib is installed"
    )
    charts.add_argument("--no_charts", dest="charts", action="store_false", help="draw no charts")
    flags.results_dir(parser)
    flags.json_output(parser)


def run(args: argparse.Namespace) -> None:
    """Run the study, print tables (or with `--json` one line of JSON), write files and charts."""
    from limbnet.benchmark.charts import can_draw, check_charts
    from limbnet.benchmark.study import run_study
    from limbnet.benchmark.study_charts import draw_study
    from limbnet.benchmark.study_report import print_study, write_study
    from limbnet.specs.load import load_study_spec

    if args.charts:
        check_charts()
    spec = load_study_spec(args.study)
    with StatusLog(args.results_dir, "benchmark") as status:
        study = run_study(
            spec,
            args.results_dir,
            key=args.key,
            device=args.device,
            overwrite=args.overwrite,
            allow_missing=args.allow_missing,
        )
        written = write_study(args.results_dir, study)
        if can_draw() if args.charts is None else args.charts:
            written += draw_study(args.results_dir, study)
        fastest = max(study.outcomes, key=lambda one: one.fps)
        status.write("Study finished.", kpi={"rows": len(study.outcomes), "fastest_fps": fastest.fps})
    if args.json:
        print(json.dumps(study.to_dict()))
        return
    print_study(study, _console())
    print(f"Written: {args.results_dir}: {', '.join(path.name for path in written)}")


def _console() -> Any:
    """Return a console on standard output; tables in a file or a pipe are not squeezed."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=220)
