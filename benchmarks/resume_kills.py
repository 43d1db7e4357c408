"""Kill a training run again and again; started again it must end bit for bit where an unbroken run ends.

Half of the kills come at random moments, the others while a checkpoint is being written (the script watches for the
partial file). Rounds are trained to their end until enough kills have been made; after each the model, the last
checkpoint, the best one and `metrics.csv` are compared with those of the unbroken run, byte by byte.

Run: python benchmarks/resume_kills.py [--kills 20] [--seed 0]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from reporting import report

ROOT = Path(__file__).resolve().parent.parent
EPOCHS = 12
COMPARED = ("bpnet_model.tlt", f"model.epoch-{EPOCHS}.tlt", "model.best.tlt", "metrics.csv")

SPEC = {
    "num_epoch": EPOCHS,
    "checkpoint_n_epoch": 1,
    "validation_every_n_epoch": 4,
    "max_ckpt_to_keep": 3,
    "ema_decay": 0.99,
    "dataloader": {
        "batch_size": 4,
        "workers": 1,
        "image_config": {"image_dims": {"height": 64, "width": 64}},
        "dataset_config": {"dataset_specs": {"examples": str(ROOT / "specs/dataset_examples.json")}},
    },
    "model": {"backbone_attributes": {"width": 0.25}, "stages": 2, "width": 0.5},
    "optimizer": {
        "__class_name__": "AdamWOptimizer",
        "learning_rate_schedule": {"__class_name__": "CosineLearningRateSchedule"},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    chance = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as folder:
        spec = Path(folder) / "spec.json"
        spec.write_text(json.dumps(SPEC))
        begun = time.monotonic()
        assert start(spec, Path(folder) / "unbroken").wait() == 0, "the unbroken run failed"
        whole = time.monotonic() - begun
        wanted = outcome(Path(folder) / "unbroken")
        rows: list[tuple[object, ...]] = []
        moments: Counter[str] = Counter()
        equal, rounds = True, 0
        while moments.total() < arguments.kills:
            rounds += 1
            results = Path(folder) / f"round{rounds}"
            kills = broken_run(spec, results, whole, chance, arguments.kills - moments.total())
            moments.update(kills)
            same = [name for name in COMPARED if outcome(results).get(name) == wanted[name]]
            equal = equal and len(same) == len(COMPARED)
            rows.append((rounds, len(kills), kills.count("writing a checkpoint"), f"{len(same)} of {len(COMPARED)}"))
    result = {"kills": moments.total(), "moments": dict(moments), "rounds": rounds, "bit_identical": equal}
    report("resume_kills", ("round", "kills", "while writing a checkpoint", "files equal"), rows, result)
    sys.exit(0 if equal else 1)


def broken_run(spec: Path, results: Path, whole: float, chance: random.Random, most: int) -> list[str]:
    """Train to the end in spite of at most `most` kills; return what each interrupted."""
    kills: list[str] = []
    while True:
        process = start(spec, results)
        if len(kills) < most and len(kills) < EPOCHS:
            while_writing = len(kills) % 2 == 1
            kill = kill_while_writing(process, results) if while_writing else kill_at(process, results, whole, chance)
            if kill:
                kills.append(kill)
                continue
        assert process.wait() == 0, "a repeated run failed"
        return kills


def start(spec: Path, results: Path) -> subprocess.Popen[bytes]:
    """Start `limbnet train` in a process group of its own, so that its loader processes can be killed with it."""
    code = "import sys; from limbnet.cli import main; sys.exit(main(sys.argv[1:]))"
    words = ["train", "-e", str(spec), "-r", str(results), "--device", "cpu", "-l", "ERROR"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=ROOT, env=environment, start_new_session=True)


def kill_at(process: subprocess.Popen[bytes], results: Path, whole: float, chance: random.Random) -> str | None:
    """Kill at a random moment; None when the run was over before."""
    try:
        process.wait(timeout=chance.uniform(0.05, 0.9) * whole)
    except subprocess.TimeoutExpired:
        return kill(process, results)
    return None


def kill_while_writing(process: subprocess.Popen[bytes], results: Path) -> str | None:
    """Kill as soon as a checkpoint begins to be written; None when the run was over before."""
    stale = partial_files(results)
    while process.poll() is None:
        if partial_files(results) - stale:
            return kill(process, results)
        time.sleep(0.0005)
    return None


def kill(process: subprocess.Popen[bytes], results: Path) -> str:
    """Kill the run and its loader processes, and tell from what it leaves behind what it was at."""
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if partial_files(results):
        return "writing a checkpoint"
    return "training" if list(results.glob("model.epoch-*")) else "starting"


def partial_files(results: Path) -> set[Path]:
    return set(results.glob(".model.*.partial"))


def outcome(results: Path) -> dict[str, bytes]:
    return {name: (results / name).read_bytes() for name in COMPARED if (results / name).exists()}


if __name__ == "__main__":
    main()
