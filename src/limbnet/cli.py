"""The command `limbnet`: a table of commands, and how their mistakes are printed."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from limbnet.errors import LimbnetError, UsageError, nearest

#: Command: (module with HELP, add_arguments and run; one line for the table). A module is imported when asked for.
COMMANDS: dict[str, tuple[str, str]] = {
    "dataset_convert": ("limbnet.commands.dataset_convert", "turn COCO annotations into training records and masks"),
    "train": ("limbnet.commands.train", "train a network; the same command again goes on where it stopped"),
    "evaluate": ("limbnet.commands.evaluate", "measure a model: COCO's ten keypoint numbers"),
    "inference": ("limbnet.commands.inference", "find people in pictures and draw them"),
    "prune": ("limbnet.commands.prune", "remove a network's weakest filters"),
    "sample_calibration_images": (
        "limbnet.commands.sample_calibration_images",
        "copy suitable pictures of a dataset to calibrate INT8 with",
    ),
    "export": ("limbnet.commands.export", "write a model as ONNX: float, half or INT8, compared with the original"),
    "convert": ("limbnet.commands.convert", "build a TensorRT or OpenVINO engine from an exported model"),
    "compress": ("limbnet.commands.compress", "prune, retrain and quantise until a budget is met"),
    "profile": ("limbnet.commands.profile", "measure speed: every stage, size and engine, with tables and charts"),
    "benchmark": ("limbnet.commands.benchmark", "run a study: many networks, accuracy against frames per second"),
    "zoo": ("limbnet.commands.zoo", "list published networks, check weight files against them"),
}

#: Names that users of TAO know.
OTHER_NAMES: dict[str, str] = {"tlt-converter": "convert", "tao-converter": "convert"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 1 for a mistake, 2 for a wrong command line, 130 if interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except LimbnetError as error:
        _print_traceback_when_debugging()
        print(f"limbnet: {error}", file=sys.stderr)
        return error.exit_code
    except SystemExit as stop:  # --help has printed
        return int(stop.code or 0)
    except KeyboardInterrupt:
        print("limbnet: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output (`| head`) has gone; nobody is left to tell
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - keeps the interpreter quiet at exit
        return 141
    except OSError as error:
        if error.errno != errno.ENOSPC:
            return _report_bug(error)
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115 - what is left to print would fail again at exit
        print("limbnet: The disk is full.\n  Free some space and repeat the command.", file=sys.stderr)
        return 1
    except Exception as error:
        return _report_bug(error)


def _report_bug(error: Exception) -> int:
    shown = _print_traceback_when_debugging()
    text = " ".join(f"{type(error).__name__}: {error}".split())
    hint = "" if shown else " (LIMBNET_DEBUG=1 shows where it happened)"
    print(f"limbnet: this is a bug, please report it{hint}: {text}", file=sys.stderr)
    return 1


def _dispatch(words: list[str]) -> int:
    if not words:
        print(_overview(), file=sys.stderr)
        return 2
    name, *rest = words
    if name in ("-h", "--help", "help"):
        if rest and name == "help":
            return _dispatch([rest[0], "--help"])
        print(_overview())
        return 0
    if name in ("-V", "--version"):
        from limbnet import __version__

        print(f"limbnet {__version__}")
        return 0
    name = OTHER_NAMES.get(name, name)
    if name not in COMMANDS:
        raise UsageError(
            f"There is no command '{name}'.{nearest(name, [*COMMANDS, *OTHER_NAMES])}",
            f"Commands: {', '.join(COMMANDS)}. 'limbnet --help' tells what they do.",
        )
    from limbnet.commands.parser import run_command

    return run_command(name, import_module(COMMANDS[name][0]), rest)


def _overview() -> str:
    width = max(map(len, COMMANDS), default=0)
    lines = [f"  {name:<{width}}  {text}" for name, (_, text) in COMMANDS.items()]
    return "\n".join(
        [
            "limbnet: train, prune, quantise, measure and deploy bottom-up multi-person 2D pose networks.",
            "",
            "Usage: limbnet COMMAND [flags]",
            "",
            *lines,
            "",
            "'limbnet COMMAND --help' lists the flags of a command. 'limbnet --version' prints the version.",
        ]
    )


def _print_traceback_when_debugging() -> bool:
    """Print where the exception came from, with `-l DEBUG` or LIMBNET_DEBUG=1; return whether it was printed."""
    import logging
    import traceback

    if os.environ.get("LIMBNET_DEBUG", "0") in ("", "0") and not logging.getLogger("limbnet").isEnabledFor(10):
        return False
    traceback.print_exc()
    return True
