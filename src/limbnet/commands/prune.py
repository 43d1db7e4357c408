"""`limbnet prune`: remove a network's weakest filters."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbnet.commands import flags
from limbnet.errors import UsageError
from limbnet.pruning import EQUALIZATIONS, NORMALIZERS, PruneSettings, prune
from limbnet.status import StatusLog

if TYPE_CHECKING:
    from limbnet.models.bodyposenet import BodyPoseNet

HELP = "Remove a network's weakest filters; retrain the result with load_graph: true."

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    flags.model(parser)
    flags.output_file(parser, "pruned model")
    flags.key(parser)
    add_criterion(parser)
    parser.add_argument(
        "-pth", "--pruning_threshold", type=flags.amount, default=PruneSettings().threshold, metavar="T",
        help="filters whose normalised norm exceeds it stay; 0 removes nothing",
    )  # fmt: skip
    flags.overwrite(parser)
    flags.results_dir(parser)
    flags.without_effect(parser, "-v", "--verbose", why="'-l DEBUG' prints more", nargs=0)
    flags.json_output(parser)


def add_criterion(parser: Any) -> None:
    """Declare the flags that say which filters are weak, the threshold aside."""
    defaults = PruneSettings()
    parser.add_argument(
        "-n", "--normalizer", choices=NORMALIZERS, default=defaults.normalizer,
        help="divide norms by the layer's largest one, or by the L2 norm of all",
    )  # fmt: skip
    parser.add_argument(
        "-eq", "--equalization_criterion", choices=EQUALIZATIONS, default=defaults.equalization,
        help="how the norms of layers that meet in a sum or product are combined",
    )  # fmt: skip
    parser.add_argument(
        "-pg", "--pruning_granularity", type=flags.positive, default=defaults.granularity, metavar="N",
        help="filters are removed so many at a time",
    )  # fmt: skip
    parser.add_argument(
        "-nf", "--min_num_filters", type=flags.positive, default=defaults.min_filters, metavar="N",
        help="filters that every layer keeps",
    )  # fmt: skip
    parser.add_argument(
        "-el", "--excluded_layers", nargs="+", default=[], metavar="LAYER", help="layers that stay whole"
    )


def criterion(args: argparse.Namespace) -> PruneSettings:
    """Return what those flags say."""
    return PruneSettings(
        normalizer=args.normalizer,
        equalization=args.equalization_criterion,
        granularity=args.pruning_granularity,
        min_filters=args.min_num_filters,
        excluded=tuple(args.excluded_layers),
    )


def run(args: argparse.Namespace) -> None:
    """Prune one model file and print what that saved."""
    settings = dataclasses.replace(criterion(args), threshold=args.pruning_threshold)
    with StatusLog(args.results_dir, "prune") as status:
        report = prune_file(args.model, args.output_file, settings, key=args.key, overwrite=args.overwrite)
        status.write("Pruned.", kpi={"pruning_ratio": report.ratio})
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        report.print()
        print(f"Written: {args.output_file}")


@dataclass(frozen=True)
class PruneReport:
    """What pruning saved. Pairs are (before, after).

    Attributes:
        parameters: batch norm's statistics included.
        multiply_adds: of one picture at `input_size`.
        seconds: median time of torch on this machine's CPU for one picture, both networks timed in turn.
        input_size: (height, width).
        filters: out-channels by layer, of the layers that lost some.
    """

    parameters: tuple[int, int]
    multiply_adds: tuple[int, int]
    seconds: tuple[float, float]
    input_size: tuple[int, int]
    filters: dict[str, tuple[int, int]]

    @property
    def ratio(self) -> float:
        """Parameters after over parameters before."""
        return self.parameters[1] / self.parameters[0]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return dataclasses.asdict(self) | {"pruning_ratio": self.ratio}

    def print(self) -> None:
        """Print two tables: layers that lost filters, and what the network costs before and after."""
        from rich.console import Console
        from rich.table import Table

        console = Console()
        if self.filters:
            layers = Table("layer", "filters before", "after")
            for name, (before, after) in self.filters.items():
                layers.add_row(name, str(before), str(after))
            console.print(layers)
        height, width = self.input_size
        costs = Table("", "before", "after", "after / before")
        rows: list[tuple[str, tuple[float, float], str]] = [
            ("parameters", self.parameters, "{:,.0f}"),
            (f"multiply-adds at {height}x{width}", self.multiply_adds, "{:,.0f}"),
            ("milliseconds (torch, CPU)", (1000 * self.seconds[0], 1000 * self.seconds[1]), "{:.1f}"),
        ]
        for title, pair, text in rows:
            costs.add_row(title, text.format(pair[0]), text.format(pair[1]), f"{pair[1] / pair[0]:.3f}")
        console.print(costs)


def prune_file(
    model: Path, output: Path, settings: PruneSettings, *, key: str | None = None, overwrite: bool = False
) -> PruneReport:
    """Prune the model file `model` into the file `output`, which is encrypted when `key` is given.

    Raises:
        UsageError: the output exists and `overwrite` is not set, or the settings do not fit the network.
        ModelFileError: the model cannot be read.
    """
    from limbnet.models.checkpoint import load_model, save_model

    if output.exists() and not overwrite:
        raise UsageError(f"'{output}' exists.", "Choose another output, or add --overwrite.")
    loaded = load_model(model, key)
    smaller = prune(loaded.model, settings)
    report = compare(loaded.model, smaller, loaded.info.input_size)
    history = [*loaded.info.extra.get("pruned", []), settings.to_dict() | {"parameters": list(report.parameters)}]
    info = dataclasses.replace(loaded.info, extra={**loaded.info.extra, "pruned": history})
    save_model(output, smaller, info, key=key)
    if not report.filters:
        log.warning("Nothing was removed: every filter's norm exceeds the threshold %g.", settings.threshold)
    return report


def compare(before: BodyPoseNet, after: BodyPoseNet, input_size: tuple[int, int]) -> PruneReport:
    """Compare what two networks with the same layers cost."""
    import torch

    from limbnet.benchmark.timing import medians
    from limbnet.models.counting import count_cost

    picture = torch.zeros(1, 3, *input_size)
    costs = count_cost(before, input_size), count_cost(after, input_size)
    layers = before.conv_layers(), after.conv_layers()
    with torch.inference_mode():
        seconds = medians([lambda: before(picture), lambda: after(picture)], rounds=7)
    return PruneReport(
        parameters=(costs[0].parameters, costs[1].parameters),
        multiply_adds=(costs[0].multiply_adds, costs[1].multiply_adds),
        seconds=(seconds[0], seconds[1]),
        input_size=input_size,
        filters={
            name: (conv.out_channels, layers[1][name].out_channels)
            for name, conv in layers[0].items()
            if conv.out_channels != layers[1][name].out_channels
        },
    )
