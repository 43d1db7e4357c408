"""`limbnet profile`: where the time goes, stage by stage, for model files side by side."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from limbnet.commands import flags
from limbnet.errors import nearest
from limbnet.models.shipped import DEFAULT_MODEL
from limbnet.status import StatusLog

HELP = "Measure model files side by side: every stage's time, pictures a second, and AP where a dataset is given."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "models", type=Path, nargs="*", default=[DEFAULT_MODEL], metavar="MODEL",
        help=f"model files of any kind and precision; without one {DEFAULT_MODEL}, which comes with limbnet",
    )  # fmt: skip
    parser.add_argument(
        "--engine", type=_engines, default=(None,), metavar="NAME,...",
        help="runtimes, each for every file; without it the one that suits the file",
    )  # fmt: skip
    parser.add_argument(
        "--precision", type=_list(_precision), default=(), metavar="P,...",
        help="fp32,fp16,int8: export checkpoints in these too, for the time of the measurement",
    )  # fmt: skip
    parser.add_argument(
        "--sizes", type=_list(flags.input_size), default=(), metavar="HxW,...",
        help="input sizes, height first: 224x320,288x384,320x448; without it each model's own",
    )  # fmt: skip
    parser.add_argument(
        "--batch", type=_list(flags.positive), default=(1,), metavar="N,...", help="pictures in one run (default: 1)"
    )
    parser.add_argument(
        "--stages", type=_list(flags.positive), default=(None,), metavar="N,...",
        help="refinement stages whose maps are used, of checkpoints; without it the last",
    )  # fmt: skip
    parser.add_argument(
        "--people", type=_list(flags.positive), default=(1, 10, 30), metavar="N,...",
        help="crowds to decode (default: 1,10,30)",
    )  # fmt: skip
    parser.add_argument(
        "--input", type=Path, metavar="PATH", help="picture, folder or JSON file; without it a synthetic picture"
    )
    flags.dataset_spec(parser, required=False)
    parser.add_argument("--rounds", type=flags.positive, default=50, metavar="N", help="rounds over all rows, at most")
    parser.add_argument(
        "--seconds", type=flags.amount, default=60.0, metavar="S",
        help="no round of a measurement starts after so long; three are made in any case",
    )  # fmt: skip
    parser.add_argument("--device", help="cpu, cuda, cuda:1, ...; without it the best one that the runtime has")
    flags.threads(parser)
    flags.key(parser)
    charts = parser.add_mutually_exclusive_group()
    charts.add_argument(
        "--charts", action="store_true", default=None, help="draw charts; the default where matplotlib is installed"
    )
    charts.add_argument("--no_charts", dest="charts", action="store_false", help="draw no charts")
    flags.results_dir(parser)
    flags.json_output(parser)


def run(args: argparse.Namespace) -> None:
    """Measure, print tables (or with `--json` one line of JSON), write files and charts."""
    from limbnet.benchmark.charts import can_draw, check_charts, draw_charts
    from limbnet.benchmark.profile import ProfileSettings, profile
    from limbnet.benchmark.report import print_profile, write_profile
    from limbnet.commands.pictures import find_pictures
    from limbnet.specs.load import load_dataset_spec

    if args.charts:
        check_charts()
    settings = ProfileSettings(
        engines=args.engine,
        precisions=args.precision,
        sizes=args.sizes,
        batches=args.batch,
        output_stages=args.stages,
        people=args.people,
        rounds=args.rounds,
        seconds=args.seconds,
        stream_seconds=min(1.0, args.seconds),
        threads=args.threads,
        device=args.device,
    )
    with StatusLog(args.results_dir, "profile") as status:
        result = profile(
            args.models,
            settings,
            pictures=None if args.input is None else list(find_pictures(args.input).paths()),
            dataset=None if args.dataset_spec is None else load_dataset_spec(args.dataset_spec),
            key=args.key,
        )
        written = write_profile(args.results_dir, result)
        if can_draw() if args.charts is None else args.charts:
            written += draw_charts(args.results_dir, result)
        fastest = max(row.throughput("end to end") for row in result.ran)
        status.write("Profiled.", kpi={"pictures_per_second": fastest})
    if args.json:
        print(json.dumps(result.to_dict()))
        return
    print_profile(result, _console())
    print(f"Written: {args.results_dir}: {', '.join(path.name for path in written)}")


def _console() -> Any:
    """Return a console on standard output; tables in a file or a pipe are not squeezed."""
    from rich.console import Console

    console = Console()
    return console if console.is_terminal else Console(width=180)


def _list(kind: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return a type of flags: values between commas."""

    def convert(text: str) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(kind(part) for part in text.split(",") if part))

    return convert


def _precision(text: str) -> str:
    if text not in ("fp32", "fp16", "int8"):
        raise argparse.ArgumentTypeError(f"found '{text}', expected fp32, fp16 or int8")
    return text


def _engines(text: str) -> tuple[str, ...]:
    from limbnet.runtime.load import ENGINES

    names = tuple(dict.fromkeys(part for part in text.split(",") if part))
    for name in names:
        if name not in ENGINES:
            known = ", ".join(ENGINES)
            raise argparse.ArgumentTypeError(f"found '{name}', expected engines of {known}.{nearest(name, ENGINES)}")
    return names
