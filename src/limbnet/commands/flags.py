"""Flags that several commands share: one declaration and one meaning each, in every spelling of the manuals.

Dashes are forgiven by the parser (`-experiment_spec`, `--e`), so only names are declared here.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from limbnet.models.shipped import DEFAULT_MODEL

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


def log_level(parser: argparse.ArgumentParser) -> None:
    """`-l`: every command has it."""
    parser.add_argument(
        "-l",
        "-ll",
        "--log_level",
        type=str.upper,
        choices=LEVELS,
        default="INFO",
        metavar="LEVEL",
        help="least severe messages to print: DEBUG, INFO, WARNING, ERROR or CRITICAL",
    )


def key(parser: argparse.ArgumentParser) -> None:
    """`-k`: the key of encrypted model files."""
    parser.add_argument("-k", "--key", help="key of encrypted model files; a model is written encrypted when given")


def results_dir(parser: argparse.ArgumentParser) -> None:
    """`-r`: the folder for everything a command writes beside its main output."""
    parser.add_argument(
        "-r",
        "--results_dir",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder for results and status.json",
    )


def model(parser: argparse.ArgumentParser, spec_may_name_it: bool = False) -> None:
    """`-m`: a model file of any kind, recognised by its content; None where an inference spec may name it."""
    parser.add_argument(
        "-m",
        "--model",
        "--model_filename",
        dest="model",
        type=Path,
        default=None if spec_may_name_it else DEFAULT_MODEL,
        metavar="FILE",
        help="model file of any kind; without it, "
        + ("model_path of the inference spec, or " if spec_may_name_it else "")
        + f"{DEFAULT_MODEL}, which comes with limbnet",
    )


def output_file(parser: argparse.ArgumentParser, text: str, required: bool = True) -> None:
    """`-o`: the main output file."""
    parser.add_argument("-o", "--output_file", type=Path, required=required, metavar="FILE", help=text)


def train_spec(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`-e`: the train spec, called experiment spec in the manuals."""
    parser.add_argument(
        "-e",
        "--experiment_spec_file",
        "--experiment_spec",
        dest="experiment_spec",
        type=Path,
        required=required,
        metavar="SPEC",
        help="train spec (YAML)",
    )


def inference_spec(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`-i`: the inference spec."""
    parser.add_argument(
        "-i", "--inference_spec", type=Path, required=required, metavar="SPEC", help="inference spec (YAML)"
    )


def dataset_spec(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """`-d`: the dataset spec."""
    parser.add_argument(
        "-d", "--dataset_spec", type=Path, required=required, metavar="SPEC", help="dataset spec (JSON or YAML)"
    )


def devices(parser: argparse.ArgumentParser, several: bool = False) -> None:
    """`--device`, `--gpu_index` and, where several processes can work, `--gpus`; for `limbnet.devices`."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 or mps; without it the best one there is")
    text = "number of devices, one process each; with --device cpu, processes" if several else "1: use a GPU"
    parser.add_argument("--gpus", type=positive, metavar="N", help=text)
    parser.add_argument(
        "--gpu_index", type=indices, nargs="+", action=_Joined, metavar="I", help="indices of the GPUs to use"
    )


def threads(parser: argparse.ArgumentParser) -> None:
    """`--threads`: CPU threads of the network."""
    text = "CPU threads; without it OMP_NUM_THREADS, or one for each core that may be used"
    parser.add_argument("--threads", type=positive, metavar="N", help=text)


def seed(parser: argparse.ArgumentParser, default: int = 42) -> None:
    """`--seed`: the one seed of everything random."""
    parser.add_argument("--seed", type=int, default=default, metavar="N", help="seed of everything random")


def json_output(parser: argparse.ArgumentParser) -> None:
    """`--json`: the result as JSON on standard output."""
    parser.add_argument("--json", action="store_true", help="print the result as one line of JSON")


def overwrite(parser: argparse.ArgumentParser) -> None:
    """`--overwrite`: replace an output that exists."""
    parser.add_argument("--overwrite", action="store_true", help="replace outputs that exist")


def without_effect(parser: argparse.ArgumentParser, *names: str, why: str, nargs: int | str | None = None) -> None:
    """Declare a flag of the manuals that limbnet accepts but does not need; using it prints one line.

    `nargs` is argparse's: 0 for a flag without value, None for one value.
    """
    parser.add_argument(
        *names,
        action=_WithoutEffect,
        nargs=nargs,
        why=why,
        dest=argparse.SUPPRESS,
        help=f"accepted without effect: {why}",
    )


class _WithoutEffect(argparse.Action):
    def __init__(self, why: str, **options: Any) -> None:
        super().__init__(default=argparse.SUPPRESS, metavar="X", **options)
        self.why = why

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,  # noqa: ARG002
        option_string: str | None = None,
    ) -> None:
        namespace.notices = [*getattr(namespace, "notices", []), f"'{option_string}' has no effect here: {self.why}"]


class _Joined(argparse.Action):
    """Joins the lists that several words gave."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,  # noqa: ARG002
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,  # noqa: ARG002
    ) -> None:
        setattr(namespace, self.dest, [item for part in values for item in part])


def _number(low: float, kind: Callable[[str], Any], expected: str, high: float = float("inf")) -> Callable[[str], Any]:
    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not low <= value <= high or value == float("inf"):
            raise argparse.ArgumentTypeError(f"found '{text}', expected {expected}")
        return value

    return convert


#: Types of flags: a whole number from 1, one from 0, a number from 0, and a percentile that leaves most values in.
positive: Callable[[str], int] = _number(1, int, "a whole number from 1")
not_negative: Callable[[str], int] = _number(0, int, "a whole number from 0")
amount: Callable[[str], float] = _number(0, float, "a number from 0")
percentile: Callable[[str], float] = _number(50, float, "a number from 50 to 100", 100)


def indices(text: str) -> list[int]:
    """Read `0` or `0,1`."""
    return [not_negative(part) for part in text.split(",") if part]


def input_size(text: str) -> tuple[int, int]:
    """Read `H,W`, `H,W,C`, `HxW` or `HxWxC` (height first) and return (height, width)."""
    parts: Sequence[str] = text.lower().replace("x", ",").split(",")
    if len(parts) not in (2, 3) or (len(parts) == 3 and parts[2] != "3"):
        raise argparse.ArgumentTypeError(f"found '{text}', expected height,width or height,width,3")
    return positive(parts[0]), positive(parts[1])


def scales(text: str) -> tuple[float, ...]:
    """Parse `0.5,1`: factors on the input size, above 0 and at most `LARGEST_SCALE`."""
    from limbnet.geometry import LARGEST_SCALE

    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not all(0 < scale <= LARGEST_SCALE for scale in found):
        wanted = f"factors above 0 and at most {LARGEST_SCALE}, such as 0.5,1"
        raise argparse.ArgumentTypeError(f"found '{text}', expected {wanted}")
    return found


def byte_count(text: str) -> int:
    """Read `2147483648` or, as the manual writes it, `1<<30`."""
    base, shift, power = text.replace("(", "").replace(")", "").partition("<<")
    try:
        value = int(base) << int(power) if shift else int(base)
    except ValueError:
        value = 0
    if value <= 0:
        raise argparse.ArgumentTypeError(f"found '{text}', expected a number of bytes such as 1073741824 or 1<<30")
    return value
