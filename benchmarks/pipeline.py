"""From picture to skeleton: the whole road against the bare network, against OpenPose's, and from a cold start.

BodyPoseNet's 3-stage Lite network and the same pruned to a quarter of its multiply-adds run as INT8 files on OpenVINO
at 288x384, over the example pictures from their files. The weights are random, which no speed depends on; so that
grouping has real work, what the network gives is replaced by maps of five people. The bare engine runs on the same
inputs, already in memory, with the same cores. limbnet-s and limbnet-m run bare at 256x320 and 384x512, and OpenPose's
COCO network (FP32, 368x496, network alone) on every engine, of which the best counts. All take turns, round after
round, and ratios are medians over the rounds.

Run: python benchmarks/pipeline.py [--rounds N] [--pictures N] [--memory N]
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from rich.progress import track

from limbnet.benchmark.crowds import crowd_maps
from limbnet.console import set_up_logging
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.geometry import fit
from limbnet.models.bodyposenet import BodyPoseNet, build_model
from limbnet.models.checkpoint import save_model
from limbnet.models.counting import count_cost
from limbnet.models.info import ModelInfo
from limbnet.models.zoo import create_model
from limbnet.pruning import PruneSettings, prune
from limbnet.runtime.engine import Engine, Maps, most_started, start
from limbnet.runtime.inputs import as_picture
from limbnet.runtime.load import load_engine
from limbnet.runtime.openvino_engine import compiled_model
from limbnet.runtime.predictor import PoseEstimator
from limbnet.skeleton import BODY_18
from limbnet.specs.train import ModelSpec
from reporting import report

ROOT = Path(__file__).resolve().parent.parent
PICTURES = sorted((ROOT / "examples/images").glob("*.jpg"))
SIZE, OPENPOSE_SIZE, STRIDE, PEOPLE = (288, 384), (368, 496), 8, 5
SMALL_SIZE, MIDDLE_SIZE = (256, 320), (384, 512)

#: What the project promises: shares of the bare engine's throughput, times OpenPose's network, seconds.
SHARE, PRUNED_SHARE, TIMES_OPENPOSE, TIMES_WHOLE, TIMES_MIDDLE = 0.95, 0.90, 40.0, 10.0, 3.0
COLD_START, HELP, GROWTH = 1.5, 0.3, 1.05

#: A first result in a process of its own, as a user's script gets it.
FIRST_RESULT = "import sys, limbnet; limbnet.load(sys.argv[1], device='cpu')(sys.argv[2])"


class WithPeople:
    """An engine whose network's maps are replaced by those of a crowd, so that decoding has its usual work."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        crowd = crowd_maps(PEOPLE, BODY_18, SIZE, STRIDE)
        self.maps = [np.repeat(maps[None], engine.preferred_batch, axis=0) for maps in crowd]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def run(self, images: NDArray[np.uint8]) -> Maps:
        """Run the network on (B, H, W, 3) pictures, and return the crowd's maps for each."""
        return self.start(images)()

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Maps]:
        """Start the network on pictures as `run` takes them."""
        fetch, count = start(self.engine, images), len(images)

        def crowd() -> Maps:
            fetch()
            return Maps(*(maps[:count] for maps in self.maps))

        return crowd


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each")
    parser.add_argument("--pictures", type=int, default=48, help="pictures in one turn of the whole network")
    parser.add_argument("--memory", type=int, default=0, metavar="N", help="watch memory over N pictures (10000 asked)")
    args = parser.parse_args()
    set_up_logging("ERROR")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = {name: int8_file(model, folder / name) for name, model in networks().items()}
        turns: dict[str, Callable[[], float]] = {}
        for name, path in files.items():
            engine = load_engine(path, engine="openvino-throughput", device="cpu")
            count = args.pictures * (1 if name == "whole" else 3)
            turns[f"{name}, bare engine"] = partial(bare, engine, count)
            turns[f"{name}, end to end"] = partial(end_to_end, engine, count)
        small = load_engine("limbnet-s", engine="openvino-throughput", device="cpu")
        turns["limbnet-s, bare engine"] = partial(bare, small, 10 * args.pictures, SMALL_SIZE)
        middle = load_engine("limbnet-m", engine="openvino-throughput", device="cpu")
        turns["limbnet-m, bare engine"] = partial(bare, middle, 4 * args.pictures, MIDDLE_SIZE)
        turns |= openpose(folder)
        seconds = in_turns(turns, args.rounds)
        rows, result = judge(seconds)
        rows += starts(files["whole"], result)
        if args.memory:
            rows.append(memory(files["pruned"], args.memory, result))
    for name, times in seconds.items():
        rows.insert(0, (name, f"{1000 * statistics.median(times):.1f} ms a picture", ""))
    report("pipeline", ("what", "measured", "asked for"), rows, result)


def networks() -> dict[str, BodyPoseNet]:
    """Return the whole network and the same pruned until at most a quarter of the multiply-adds is left."""
    torch.manual_seed(0)
    whole: BodyPoseNet = build_model(ModelSpec(), BODY_18).eval()
    for module in whole.modules():
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            module.weight.data *= torch.linspace(0.1, 1, len(module.weight)).view(-1, 1, 1, 1)  # norms to choose by
    wanted = count_cost(whole, SIZE).multiply_adds / 4
    for threshold in np.arange(0.3, 0.9, 0.02):
        pruned = prune(whole, PruneSettings(threshold=float(threshold)))
        if count_cost(pruned, SIZE).multiply_adds <= wanted:
            return {"whole": whole, "pruned": pruned}
    raise SystemExit("no threshold leaves a quarter of the multiply-adds")


def int8_file(model: BodyPoseNet, folder: Path) -> Path:
    folder.mkdir()
    save_model(folder / "model.tlt", model, ModelInfo(BODY_18))
    calibration = Calibration(image_dir=PICTURES[0].parent, batches=2)
    export_file(folder / "model.tlt", folder / "int8.onnx", ExportSettings("int8", SIZE), calibration=calibration)
    return folder / "int8.onnx"


def bare(engine: Engine, count: int, size: tuple[int, int] = SIZE) -> float:
    """Return seconds a picture of the network alone, on fitted pictures in memory, in the batches it likes best.

    As many batches are started at a time as keep it busy, so that nothing is measured but what it can do.
    """
    fitted = [
        fit(picture.shape[:2], size, "stretch", STRIDE).image(picture) for picture in map(as_picture, PICTURES[:8])
    ]
    batch = np.stack(list(itertools.islice(itertools.cycle(fitted), engine.preferred_batch)))
    engine.run(batch)
    batches = max(count // len(batch), 1)
    started: deque[Callable[[], object]] = deque()
    begun = time.perf_counter()
    for _ in range(batches):
        started.append(start(engine, batch))
        if len(started) == most_started(engine):
            started.popleft()()
    while started:
        started.popleft()()
    return (time.perf_counter() - begun) / (batches * len(batch))


def end_to_end(engine: Engine, count: int) -> float:
    """Return seconds a picture from file to people, counted once the stream runs."""
    warm = 8
    estimator = PoseEstimator(WithPeople(engine), input_size=SIZE, fit_mode="stretch")
    results = estimator.stream(itertools.islice(itertools.cycle(PICTURES), count + warm))
    for _ in itertools.islice(results, warm):
        pass
    begun = time.perf_counter()
    people = [len(result.poses) for result in results if result.poses is not None]
    assert people == [PEOPLE] * count, "the decoder saw other people than were drawn"
    return (time.perf_counter() - begun) / count


def openpose(folder: Path) -> dict[str, Callable[[], float]]:
    """Return one run of OpenPose's COCO network on each engine."""
    import onnx
    import onnxruntime

    network = create_model("openpose_coco")
    images = torch.rand(1, 3, *OPENPOSE_SIZE)
    path = folder / "openpose.onnx"
    torch.onnx.export(network, (images,), path, dynamo=True, input_names=["images"], external_data=False, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    request = compiled_model(onnx.load(path)).create_infer_request()

    def in_torch() -> object:
        with torch.inference_mode():
            return network(images)

    engines = {
        "torch": in_torch,
        "ONNX Runtime": lambda: session.run(None, {"images": images.numpy()}),
        "OpenVINO": lambda: request.infer({"images": images.numpy()}),
    }
    return {f"OpenPose, {name}": partial(clocked, run) for name, run in engines.items()}


def clocked(run: Callable[[], object]) -> float:
    begun = time.perf_counter()
    run()
    return time.perf_counter() - begun


def in_turns(turns: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of every round after the first, which warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for number in track(range(rounds + 1), "timing", transient=True):
        for name, turn in turns.items():
            spent = turn()
            if number:
                seconds[name].append(spent)
    return seconds


def judge(seconds: dict[str, list[float]]) -> tuple[list[tuple[str, str, str]], dict[str, Any]]:
    """Return rows of the ratios between turns of the same round, and the same for machines."""

    def ratio(slow: Iterator[float] | list[float], fast: list[float]) -> float:
        return statistics.median(a / b for a, b in zip(slow, fast, strict=True))

    whole = ratio(seconds["whole, bare engine"], seconds["whole, end to end"])
    pruned = ratio(seconds["pruned, bare engine"], seconds["pruned, end to end"])
    others = [times for name, times in seconds.items() if name.startswith("OpenPose")]
    best = min(others, key=statistics.median)
    times = ratio(best, seconds["pruned, end to end"])
    small = ratio(seconds["whole, bare engine"], seconds["limbnet-s, bare engine"])
    middle = ratio(seconds["whole, bare engine"], seconds["limbnet-m, bare engine"])
    rows = [
        ("end to end against the bare engine", f"{100 * whole:.1f} %", f"{100 * SHARE:.0f} %"),
        ("the same, pruned to a quarter", f"{100 * pruned:.1f} %", f"{100 * PRUNED_SHARE:.0f} %"),
        ("pruned, end to end, against OpenPose's network", f"{times:.1f} times", f"{TIMES_OPENPOSE:.0f} times"),
        ("limbnet-s at 256x320 against the whole network, both bare", f"{small:.1f} times", f"{TIMES_WHOLE:.0f} times"),
        ("limbnet-m at 384x512 against the same", f"{middle:.1f} times", f"{TIMES_MIDDLE:.0f} times"),
    ]
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return rows, {
        "share": whole,
        "pruned_share": pruned,
        "times_openpose": times,
        "times_whole": small,
        "times_middle": middle,
        "seconds": medians,
    }


def starts(path: Path, result: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return rows of what a fresh process needs for its first result, and for the help."""
    commands = {
        "cold start to the first result": (
            [sys.executable, "-c", FIRST_RESULT, str(path), str(PICTURES[0])],
            COLD_START,
        ),
        "limbnet --help": ([sys.executable, "-m", "limbnet", "--help"], HELP),
    }
    rows = []
    for name, (command, most) in commands.items():
        times = [clocked(partial(subprocess.run, command, check=True, capture_output=True)) for _ in range(5)]
        result[name] = statistics.median(times)
        rows.append((name, f"{result[name]:.2f} s", f"at most {most} s"))
    return rows


def memory(path: Path, count: int, result: dict[str, Any]) -> tuple[str, str, str]:
    """Return a row of how memory grows over many pictures after the first hundred."""
    process, seen = psutil.Process(), []
    engine = load_engine(path, engine="openvino", device="cpu")
    estimator = PoseEstimator(WithPeople(engine), input_size=SIZE, fit_mode="stretch")
    for answer in estimator.stream(itertools.islice(itertools.cycle(PICTURES), count)):
        if answer.index >= 100 and answer.index % 100 == 0:
            seen.append(process.memory_info().rss)
    result["memory_growth"] = max(seen) / seen[0]
    growth = f"{100 * (result['memory_growth'] - 1):.1f} % over {count:,} pictures"
    return "growth of memory after 100 pictures", growth, f"at most {100 * (GROWTH - 1):.0f} %"


if __name__ == "__main__":
    main()
