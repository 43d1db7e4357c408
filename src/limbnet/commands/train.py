"""`limbnet train`: train a network as a train spec says, or go on where an earlier run ended."""

from __future__ import annotations

import argparse

from limbnet.commands import flags

HELP = "Train or retrain a network; repeated, the same command goes on from the last checkpoint."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    flags.train_spec(parser)
    flags.results_dir(parser)
    parser.set_defaults(results_dir=None)  # the spec's checkpoint_dir comes before the usual folder
    flags.key(parser)
    flags.devices(parser, several=True)


def run(args: argparse.Namespace) -> None:
    """Train."""
    from limbnet.specs.load import load_any_train_spec
    from limbnet.training.loop import train

    train(
        load_any_train_spec(args.experiment_spec),
        args.results_dir,
        key=args.key,
        device=args.device,
        gpus=args.gpus,
        gpu_index=args.gpu_index,
    )
