"""`limbnet compress`: prune, retrain and quantise until a budget is met."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from limbnet.commands import flags
from limbnet.commands.prune import add_criterion, criterion
from limbnet.status import StatusLog

HELP = "Search the most accurate network within a budget: prune, retrain, quantise, measure."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    flags.model(parser)
    flags.train_spec(parser)
    flags.dataset_spec(parser)
    flags.key(parser)
    flags.results_dir(parser)
    flags.json_output(parser)
    flags.threads(parser)
    parser.add_argument("--device", help="device of the retrains: cpu, cuda, ...; without it the best one there is")
    _add_budget(parser.add_argument_group("budget"))
    _add_search(parser.add_argument_group("search"))
    add_criterion(parser.add_argument_group("pruning"))


def _add_budget(group: Any) -> None:
    group.add_argument("--latency", type=flags.amount, metavar="MS", help="milliseconds for one picture on the engine")
    group.add_argument("--parameters", type=flags.positive, metavar="N", help="parameters")
    group.add_argument(
        "--engine", choices=["openvino", "onnxruntime", "torch"], default="onnxruntime",
        help="what measures latency and AP; torch runs no INT8",
    )  # fmt: skip
    group.add_argument(
        "--input_dims", type=flags.input_size, metavar="H,W,3", help="input size; without it the model's own"
    )
    group.add_argument("--max_ap_drop", type=flags.amount, default=0.02, metavar="AP", help="AP that may be lost")


def _add_search(group: Any) -> None:
    group.add_argument(
        "--keep", type=float, nargs="+", default=[0.75, 0.5, 0.35, 0.25], metavar="SHARE",
        help="shares of the multiply-adds that are measured in any case, falling",
    )  # fmt: skip
    group.add_argument(
        "--refinements", type=flags.not_negative, default=1, metavar="N",
        help="networks tried between the last one that was too dear and the first one that was not",
    )  # fmt: skip
    group.add_argument("--epochs", type=flags.positive, metavar="N", help="of each retrain; without it the spec's")
    group.add_argument(
        "--cal_image_dir", type=Path, metavar="DIR",
        help="pictures for INT8 calibration; without it the dataset's training pictures",
    )  # fmt: skip
    group.add_argument("--cal_pictures", type=flags.positive, metavar="N", help="how many of them; without it up to 32")


def run(args: argparse.Namespace) -> None:
    """Compress one model and print the table of candidates."""
    from limbnet.compress.candidates import Budget
    from limbnet.compress.report import markdown
    from limbnet.compress.search import CompressSettings, compress
    from limbnet.specs.load import load_dataset_spec, load_train_spec

    settings = CompressSettings(
        budget=Budget(args.latency, args.parameters, args.max_ap_drop),
        engine=args.engine,
        size=args.input_dims,
        keep=tuple(args.keep),
        refinements=args.refinements,
        pruning=criterion(args),
        epochs=args.epochs,
        calibration_dir=args.cal_image_dir,
        calibration_pictures=args.cal_pictures,
        threads=args.threads,
        device=args.device,
    )
    with StatusLog(args.results_dir, "compress") as status:
        outcome = compress(
            args.model, load_train_spec(args.experiment_spec), load_dataset_spec(args.dataset_spec), settings,
            args.results_dir, key=args.key,
        )  # fmt: skip
        chosen = outcome.chosen
        status.write("Compressed.", kpi={"AP": chosen.ap, "latency_ms": chosen.latency or 0.0})
    if args.json:
        print(json.dumps({"chosen": asdict(chosen), "candidates": [asdict(one) for one in outcome.candidates]}))
        return
    print(markdown(outcome.candidates, chosen))
    print(f"\nChosen: {chosen.name}, {chosen.latency:.2f} ms, AP {chosen.ap:.4f} (budget {settings.budget})")
    print(f"Written: {outcome.weights} and {outcome.exported.name}, candidates.md, .csv, .json, pareto.png, .svg")
