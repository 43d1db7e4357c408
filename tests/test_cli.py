"""The command line: help, flags in every spelling of the manuals, and how mistakes are told."""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import types
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from limbnet import __version__, cli
from limbnet.commands import flags
from limbnet.commands.parser import command_parser
from limbnet.console import progress, set_up_logging
from limbnet.errors import DataError, UsageError

HEAVY = ("torch", "cv2", "pydantic", "numpy", "rich", "onnx", "onnxruntime", "openvino")


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A command `toy` whose `run` each test replaces."""
    module: Any = types.ModuleType("limbnet_toy")
    module.HELP = "A toy."
    module.run = lambda args: None

    def add_arguments(parser: argparse.ArgumentParser) -> None:
        flags.model(parser)
        flags.train_spec(parser, required=False)
        flags.devices(parser, several=True)
        flags.results_dir(parser)
        parser.add_argument("-n", "--normalizer", choices=["max", "L2"], default="max", help="norm")
        parser.add_argument("-pg", "--pruning_granularity", type=flags.positive, default=8, help="step")
        parser.add_argument("-pth", type=flags.amount, default=0.1, help="threshold")
        parser.add_argument("-d", "--input_dims", type=flags.input_size, help="size")
        flags.without_effect(parser, "--force_ptq", why="there is nothing to force", nargs=0)
        flags.without_effect(parser, "-w", "--max_workspace_size", why="memory is taken as needed")

    module.add_arguments = add_arguments
    monkeypatch.setitem(sys.modules, "limbnet_toy", module)
    monkeypatch.setitem(cli.COMMANDS, "toy", ("limbnet_toy", "play"))
    return module


def parsed(toy: types.ModuleType, line: str) -> argparse.Namespace:
    return command_parser("toy", toy).read(line.split())


# Help.


def test_help_needs_no_heavy_package() -> None:
    code = (
        "import sys; from limbnet.cli import main; assert main(['--help']) == 0; "
        f"print(sorted(set(sys.modules) & set({HEAVY!r})))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"
    for name, (_, text) in cli.COMMANDS.items():
        assert f"{name} " in run.stdout
        assert text in run.stdout


def test_every_command_file_is_in_the_table_and_back(root: Path) -> None:
    files = {path.stem for path in (root / "src/limbnet/commands").glob("*.py") if "\nHELP = " in path.read_text()}
    assert files == set(cli.COMMANDS)
    assert all(module == f"limbnet.commands.{name}" for name, (module, _) in cli.COMMANDS.items())


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_of_a_command(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    module = import_module(cli.COMMANDS[name][0])
    assert module.HELP.split(";")[0].split(":")[0] in " ".join(shown.split())
    for action in command_parser(name, module)._actions:
        assert action.help, f"{name}: {action.option_strings or action.dest} says nothing about itself"


def test_version_overview_and_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"limbnet {__version__}\n"
    assert cli.main(["help"]) == 0
    assert "Usage: limbnet COMMAND" in capsys.readouterr().out
    assert cli.main([]) == 2
    assert "Usage: limbnet COMMAND" in capsys.readouterr().err
    assert cli.main(["help", "train"]) == 0
    assert "usage: limbnet train" in capsys.readouterr().out


# The manuals' own command lines.

MANUAL_LINES = [
    "dataset_convert -d coco_spec.json -o /data/train -m train --generate_masks",
    "dataset_convert --dataset_spec coco_spec.json --output_filename data/val --mode test --check_files -p 4 -s 2",
    "train -e train.yaml -r models/exp -k KEY --gpus 2",
    "train --experiment_spec_file train.yaml --results_dir models/exp --key KEY --gpus 2 --gpu_index 0 1 -l INFO",
    "train -e train.yaml -r models/exp \u2013key KEY --log_level DEBUG",
    "train --e train.yaml -ll WARNING --gpu_index 1,2 --gpus 2",
    "evaluate -i infer.yaml -d coco_spec.json -m model.tlt -r results -k KEY",
    "evaluate --inference_spec i.yaml --dataset_spec d.json --model_filename m.engine --results_dir r -l ERROR",
    "inference --inference_spec i.yaml --model_filename m.tlt --input_type json --input viz.json --results_dir r "
    "--dump_visualizations -k KEY",
    "inference -i i.yaml -m m.tlt --input_type dir --input images --image_root_path root --results_dir r",
    "prune -m m.tlt -o pruned.tlt -eq union -pth 0.05 -k KEY",
    "prune --model m.tlt --output_file p.tlt -normalizer L2 --equalization_criterion geometric_mean "
    "-pruning_granularity 8 -pth 3.0 --min_num_filters 16 --excluded_layers a b --key KEY",
    "prune -m m.tlt -o p.tlt -k KEY -n max -eq arithmetic_mean -pg 8 -pth 0.1 -nf 16 -el stage1/conv1 stage1/conv2",
    "sample_calibration_images -a person_keypoints.json -i train2017/ -o calibration/ -n 2000 -pth 1 --randomize",
    "export -m m.tlt -e train.yaml -o m.etlt -k KEY -t tfonnx",
    "export -m m.tlt -o m.etlt -k KEY -d 288,384,3 -e train.yaml -t tfonnx --data_type int8 --engine_file m.engine "
    "--cal_image_dir images/ --cal_cache_file cal.bin --cal_data_file coco.tensorfile --batch_size 1 --batches 2000 "
    "--max_batch_size 1 --data_format channels_last --sdk_compatible_model",
    "export -m m.tlt -k KEY --backend tfonnx --e train.yaml --data_type fp16 --batch_size 1 --max_batch_size 1 "
    "--data_format channels_last --input_dims 288,384,3",
    "convert m.etlt -k KEY -t fp16 -e m.engine -p input_1:0,1x288x384x3,1x288x384x3,1x288x384x3",
    "convert m.etlt -k KEY -d 3,288,384 -o paf_out,heatmap_out -c cal.bin -e m.engine -b 8 -m 16 -t int8 "
    "-w 1073741824 -i nhwc -p input_1:0,1x288x384x3,1x288x384x3,1x288x384x3 -s -u 0",
]


@pytest.mark.parametrize("line", MANUAL_LINES)
def test_command_lines_of_the_manuals(line: str) -> None:
    name, *words = line.split()
    arguments = vars(command_parser(name, import_module(cli.COMMANDS[name][0])).read(words))
    values = {str(value) for value in arguments.values()}
    assert {"KEY", "models/exp", "train.yaml"} & set(words) <= values


@pytest.mark.parametrize(
    "line",
    [
        "export -m m.tlt -k KEY -t tfonnx --max_workspace_size 2147483648 -s --force_ptq --verbose",
        "export -m m.tlt -experiment_spec train.yaml --strict_type_constraints",
    ],
)
def test_flags_of_the_manuals_without_effect_are_accepted(line: str) -> None:
    name, *words = line.split()
    arguments = command_parser(name, import_module(cli.COMMANDS[name][0])).read(words)
    for notice in getattr(arguments, "notices", []):
        assert " has no effect here: " in notice


# Spelling.


@pytest.mark.parametrize(
    "line",
    [
        "-m a -experiment_spec s -pruning_granularity 4 -normalizer L2",
        "-m a --e s --pg 4 --n L2",
        "-model a --experiment_spec_file=s --pruning-granularity=4 -n=L2",
        "\u2013model a -e s \u2013pruning_granularity 4 \u2014normalizer L2",
        "--model_filename a -e./s -pg 4 -n=L2",
    ],
)
def test_dashes_and_hyphens_are_forgiven(toy: types.ModuleType, line: str) -> None:
    arguments = parsed(toy, line)
    assert (arguments.model, arguments.experiment_spec) == (Path("a"), Path("s"))
    assert (arguments.pruning_granularity, arguments.normalizer) == (4, "L2")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--modle a", "unknown flag '--modle'. Did you mean '--model'?"),
        ("-m a --gpu 1 --resultsdir r", "unknown flag '--gpu'. Did you mean '--gpus'?; unknown flag '--resultsdir'."),
        ("-m a -resume", "unknown flag '-resume'."),
        ("-m a --mod b", "unknown flag '--mod'"),
        ("-m a b", "'b' belongs to no flag"),
        ("-m", "expected one argument"),
        ("-m a -pg 0", "argument -pg/--pruning_granularity: found '0', expected a whole number from 1"),
        ("-m a -pg 1.5", "found '1.5', expected a whole number from 1"),
        ("-m a -pth nan", "found 'nan', expected a number from 0"),
        ("-m a -pth inf", "found 'inf', expected a number from 0"),
        ("-m a -pth -1", "found '-1', expected a number from 0"),
        ("-m a -n L3", "invalid choice: 'L3'"),
        ("-m a -d 288", "found '288', expected height,width"),
        ("-m a -d 288,384,1", "found '288,384,1', expected height,width"),
        ("-m a -l LOUD", "invalid choice: 'LOUD'"),
        ("-m a --gpu_index x", "found 'x', expected a whole number from 0"),
    ],
)
def test_wrong_command_lines(toy: types.ModuleType, line: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(toy, line)
    assert message in str(caught.value)
    assert str(caught.value).endswith("'limbnet toy --help' lists the flags.")


@pytest.mark.parametrize("text", ["288,384", "288,384,3", "288x384", "288x384x3"])
def test_input_dims(toy: types.ModuleType, text: str) -> None:
    assert parsed(toy, f"-m a -d {text}").input_dims == (288, 384)


@pytest.mark.parametrize("text", ["--gpu_index 0 2", "--gpu_index 0,2", "--gpu_index 0, 2"])
def test_gpu_index(toy: types.ModuleType, text: str) -> None:
    assert parsed(toy, f"-m a {text}").gpu_index == [0, 2]


def test_flags_without_effect_say_so_once_logging_is_set_up(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["toy", "-m", "a", "--force_ptq", "-w", "1073741824"]) == 0
    assert capsys.readouterr().err.splitlines() == [
        "warning: '--force_ptq' has no effect here: there is nothing to force",
        "warning: '-w' has no effect here: memory is taken as needed",
    ]
    assert cli.main(["toy", "-m", "a", "--force_ptq", "-l", "ERROR"]) == 0
    assert capsys.readouterr().err == ""


# Exit codes.


def raising(error: BaseException) -> Any:
    def run(args: argparse.Namespace) -> None:
        raise error

    return run


def test_unknown_command_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tarin"]) == 2
    assert "There is no command 'tarin'. Did you mean 'train'?" in capsys.readouterr().err


def test_mistakes_are_one_message_without_traceback(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIMBNET_DEBUG", raising=False)
    toy.run = raising(DataError("Picture 'a.jpg' is cut short.", "Copy it again."))
    assert cli.main(["toy", "-m", "a"]) == 1
    captured = capsys.readouterr()
    assert captured.err == "limbnet: Picture 'a.jpg' is cut short.\n  Copy it again.\n"
    assert captured.out == ""


def test_unexpected_errors_ask_for_a_report(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LIMBNET_DEBUG", raising=False)
    toy.run = raising(ZeroDivisionError("division\nby zero"))
    assert cli.main(["toy", "-m", "a"]) == 1
    assert capsys.readouterr().err == (
        "limbnet: this is a bug, please report it (LIMBNET_DEBUG=1 shows where it happened): "
        "ZeroDivisionError: division by zero\n"
    )


@pytest.mark.parametrize("way", ["environment", "flag"])
def test_debugging_shows_the_traceback(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    toy.run = raising(DataError("x"))
    monkeypatch.setenv("LIMBNET_DEBUG", "1" if way == "environment" else "0")
    assert cli.main(["toy", "-m", "a", *(["-l", "debug"] if way == "flag" else [])]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_interruption_is_130(toy: types.ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    toy.run = raising(KeyboardInterrupt())
    assert cli.main(["toy", "-m", "a"]) == 130
    assert capsys.readouterr().err == "limbnet: interrupted\n"


def test_a_closed_pipe_is_no_news() -> None:
    code = "import sys, limbnet.cli as cli; cli._overview = lambda: 'x\\n' * 100000; sys.exit(cli.main(['--help']))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(2)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(20) == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, Linux's disk that is always full")
def test_a_full_disk_behind_standard_output_is_no_bug() -> None:
    code = "import sys, limbnet.cli as cli; sys.exit(cli.main(['--help']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, "limbnet: The disk is full.\n  Free some space and repeat the command.\n",
    )  # fmt: skip


def test_exit_code_of_the_installed_command(root: Path) -> None:
    command = Path(sys.executable).with_name("limbnet")
    run = subprocess.run([command, "nonsense"], capture_output=True, text=True, check=False, env={"PATH": os.defpath})
    assert (run.returncode, run.stdout) == (2, "")


# The console.


def test_long_lines_stay_whole_and_brackets_stay_text(
    toy: types.ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("INFO")
    text = "[bold]spec.yaml[0]: " + "x" * 300
    logging.getLogger("limbnet.toy").info("%s", text)
    logging.getLogger("limbnet.toy").debug("hidden")
    logging.getLogger("other").info("hidden")
    assert capsys.readouterr().err == text + "\n"


def test_progress_draws_nothing_into_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("{task.fields[speed]}") as bars:
        task = bars.add_task("work", total=3, speed="")
        bars.advance(task, 3)
    assert bars.finished
    assert capsys.readouterr().err == ""
