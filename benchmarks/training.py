"""How fast a network trains from real pictures, and how much of a step is spent waiting for them.

Two regimes are measured in turns in one run: real data, read, augmented and labelled by worker processes; and the
oracle, ready batches from memory, which shows the limit. Each turn first uses up what the workers had prepared. A step
is everything the training loop does: loss, gradients, update, moving average. The promise for the full network is at
most 3 % of a step spent waiting, and 97 % of the oracle's speed.

Run: python benchmarks/training.py [--network full|tiny|both] [--oracle] [--steps N] [--device cuda] [--compile]
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from limbnet.data.loader import Batch, TrainingData
from limbnet.data.stream import PREFETCH
from limbnet.devices import choose_device, set_threads
from limbnet.skeleton import BODY_18, COCO_JOINTS
from limbnet.specs.load import load_train_spec
from limbnet.specs.train import TrainSpec
from limbnet.training.distributed import Place
from limbnet.training.feed import Feed
from limbnet.training.loop import Trainer
from limbnet.training.start import begin
from reporting import report

ROOT = Path(__file__).resolve().parent.parent
TURNS = 2


@dataclass
class Turn:
    """Steps of one regime: seconds of each, and seconds of all of them spent waiting for data."""

    seconds: list[float]
    waited: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("full", "tiny", "both"), default="both")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/coco-mini")
    parser.add_argument("--images", default="images/train")
    parser.add_argument("--annotations", default="annotations/person_keypoints_train.json")
    parser.add_argument("--oracle", action="store_true", help="ready batches from memory alone")
    parser.add_argument("--steps", type=int, help="measured steps a turn")
    parser.add_argument("--batch", type=int, help="pictures in a batch")
    parser.add_argument("--workers", type=int, help="loader processes")
    parser.add_argument("--device", help="cpu, cuda, ...")
    parser.add_argument("--compile", action="store_true", help="compile the network with torch.compile")
    arguments = parser.parse_args()
    torch_device = choose_device(arguments.device)
    set_threads()
    rows, figures = [], {}
    for name in ("full", "tiny") if arguments.network == "both" else (arguments.network,):
        figures[name] = figure = measure(name, arguments, torch_device)
        real = figure["real_images_per_second"]
        rows.append(
            (
                name,
                figure["batch"],
                "-" if real is None else f"{real:.2f}",
                f"{figure['oracle_images_per_second']:.2f}",
                "-" if real is None else f"{100 * real / figure['oracle_images_per_second']:.1f} %",
                "-" if real is None else f"{100 * figure['waiting_share']:.2f} %",
            )
        )
    columns = ("network", "batch", "images/s real", "images/s oracle", "real/oracle", "waiting for data")
    report("training", columns, rows, {"networks": figures, "device": str(torch_device), "compiled": arguments.compile})


def measure(name: str, arguments: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Train one network for some steps in each regime."""
    on_gpu = device.type == "cuda"
    steps = arguments.steps or (200 if on_gpu else {"full": 4, "tiny": 20}[name])
    spec = benchmark_spec(name, arguments, on_gpu)
    with tempfile.TemporaryDirectory() as folder:
        data = TrainingData(spec, BODY_18)
        place = Place(device)
        state, checkpoints = begin(spec, data, place, Path(folder))
        trainer = Trainer(spec, data, state, checkpoints, place=place)
        if arguments.compile:
            trainer.network = torch.compile(trainer.network)
        with closing(data.batches()) as stream:
            ready = [pinned(batch, on_gpu) for batch in itertools.islice(stream, 4)]
            run_turn(trainer, itertools.cycle(ready), 3 if on_gpu else 1)  # warm up
            turns: dict[str, list[Turn]] = {"real": [], "oracle": []}
            prepared = PREFETCH * data.workers
            for _ in range(TURNS):
                if not arguments.oracle:
                    for _ in range(prepared):  # what the workers did meanwhile would flatter the loader
                        next(stream)
                    turns["real"].append(run_turn(trainer, stream, steps))
                turns["oracle"].append(run_turn(trainer, itertools.cycle(ready), steps))
    speeds = {regime: images_per_second(data.batch_size, found) for regime, found in turns.items()}
    dims = spec.dataloader.image_config.image_dims
    waited = sum(turn.waited for turn in turns["real"])
    spent = sum(sum(turn.seconds) for turn in turns["real"])
    return {
        "batch": data.batch_size,
        "input": [dims.height, dims.width],
        "workers": data.workers,
        "precision": str(state.precision),
        "real_images_per_second": speeds["real"],
        "oracle_images_per_second": speeds["oracle"],
        "waiting_share": waited / spent if spent else None,
    }


def benchmark_spec(name: str, arguments: argparse.Namespace, on_gpu: bool) -> TrainSpec:
    """Return the shipped spec of a network over the pictures of the benchmark."""
    file = {"full": "bpnet_train_m1_coco.yaml", "tiny": "tiny_cpu.yaml"}[name]
    spec = load_train_spec(ROOT / "specs" / file)
    content = spec.model_dump(by_alias=True)
    part = {"images_root_dir_path": arguments.images, "annotation_root_dir_path": arguments.annotations}
    dataset = Path(tempfile.mkdtemp()) / "dataset.json"
    dataset.write_text(dataset_json(arguments.data, part))
    content["pretrained_weights"], content["validation_every_n_epoch"] = None, 0
    loader = content["dataloader"]
    loader["dataset_config"] = {"dataset_specs": {"coco": dataset}}
    loader["workers"] = arguments.workers
    loader["batch_size"] = arguments.batch or (loader["batch_size"] if on_gpu or name == "tiny" else 2)
    return TrainSpec.model_validate(content)


def dataset_json(root: Path, part: dict[str, str]) -> str:
    """Return a dataset spec."""
    import json

    content = {"root_directory_path": str(root.resolve()), "train_data": part, "test_data": part}
    return json.dumps(content | {"categories": [{"keypoints": COCO_JOINTS}]})


def run_turn(trainer: Trainer, batches: Iterator[Batch], steps: int) -> Turn:
    """Make some updates and time each; the device is idle at both ends of every measurement."""
    feed = Feed(batches, trainer.place.device)
    seconds = []
    begun = time.perf_counter()
    for _ in range(steps):
        losses = trainer._update(next(feed), 1e-6)
        feed.look_ahead()
        if trainer.place.device.type == "cpu":
            losses.total.item()
            seconds.append(time.perf_counter() - begun)
            begun = time.perf_counter()
    if not seconds:  # a GPU is timed as a whole: waiting for it after each step would slow it down
        torch.cuda.synchronize()
        seconds = [(time.perf_counter() - begun) / steps] * steps
    return Turn(seconds, feed.waited)


def images_per_second(batch: int, turns: list[Turn]) -> float | None:
    """Return the speed of a regime from the median step."""
    seconds = [second for turn in turns for second in turn.seconds]
    return round(batch / statistics.median(seconds), 3) if seconds else None


def pinned(batch: Batch, on_gpu: bool) -> Batch:
    """Return a batch that a GPU copies without a detour."""
    return Batch(*(tensor.pin_memory() for tensor in batch)) if on_gpu else batch


if __name__ == "__main__":
    main()
