"""Time of decoding against BodyPoseNet's own post-processing, for crowds of 1 to 30 people at 288x384.

All decoders see the same maps, in short bursts one after the other, crowd by crowd, so that a busy machine slows all
alike; medians and the ratio of the baseline's to limbnet's are printed. `numpy` is limbnet where its C part could not
be built. `cold` is the first call of a burst, when another decoder has driven code and data out of the caches; the
others are warm. Everything runs in one thread, and the times that are compared are that thread's: on an idle machine
they are what the clock shows, on a busy one they leave out the waiting. `--compare N` decodes N crowds with the slow
clear twin of the tests as well and reports every disagreement. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rich.progress import track

import decode_baseline
from limbnet.decode import compiled
from limbnet.decode.bottomup import decode_maps, find_candidates, group_candidates
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "decode"))
import reference_decoder
from agreement import disagreements, is_tie
from crowds import STRIDE, random_crowd

PEOPLE = (1, 2, 5, 10, 20, 30)
SETTINGS = DecoderSettings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crowds", type=int, default=6, help="crowds timed for each number of people")
    parser.add_argument("--rounds", type=int, default=5, help="bursts for each crowd")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of the noise on the maps")
    parser.add_argument("--compare", type=int, default=0, metavar="N", help="crowds compared with the slow twin")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    table = [
        timings(people, args.crowds, args.rounds, args.noise) for people in track(PEOPLE, "timing", transient=True)
    ]
    print(f"{processor()}, NumPy {np.__version__}, OpenCV {cv2.__version__}, one thread, maps of 36x48, median ms")
    print(f"limbnet decodes by: {compiled.described()}")
    columns = ("baseline", "numpy", "limbnet", "cold", "candidates", "grouping", "clock")
    print("people  ratio " + "".join(f"{column:>11}" for column in columns))
    for row in table:
        print(f"{row['people']:>6} {row['ratio']:>6.0f} " + "".join(f"{row[f'{name}_ms']:>11.3f}" for name in columns))
    noise = {kind: noise_ms(kind) for kind in ("uniform", "normal")}
    print("maps full of noise: " + ", ".join(f"{kind} {value:.1f} ms" for kind, value in noise.items()))
    result: dict[str, Any] = {"benchmark": "decode", "rows": table, "noise_ms": noise}
    if args.compare:
        result["agreement"] = compare(args.compare, args.noise)
    print(json.dumps(result))


def timings(people: int, crowds: int, rounds: int, noise: float) -> dict[str, float]:
    """Medians in milliseconds over crowds of one size, the two decoders interleaved."""
    spent: dict[str, list[float]] = defaultdict(list)
    for seed in range(crowds):
        crowd = random_crowd(1000 * people + seed, people, noise=noise)
        maps = crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, SETTINGS
        candidates = find_candidates(*maps)
        for _ in range(rounds):
            own, _ = burst(lambda maps=maps: decode_baseline.decode(*maps), 2)
            spent["baseline"] += own[1:]
            with numpy_only():
                spent["numpy"] += burst(lambda maps=maps: decode_maps(*maps), 6)[0][3:]
            own, clock = burst(lambda maps=maps: decode_maps(*maps), 8)
            spent["cold"].append(own[0])
            spent["limbnet"] += own[3:]
            spent["clock"] += clock[3:]
            spent["candidates"] += burst(lambda maps=maps: find_candidates(*maps), 6)[0][3:]
            spent["grouping"] += burst(lambda one=candidates: group_candidates(one, BODY_18, SETTINGS), 6)[0][3:]
    medians = {f"{name}_ms": float(np.median(times)) for name, times in spent.items()}
    return {"people": people, "ratio": medians["baseline_ms"] / medians["limbnet_ms"], **medians}


@contextmanager
def numpy_only() -> Iterator[None]:
    """Decode without the C part."""
    before, compiled.in_use = compiled.in_use, False
    try:
        yield
    finally:
        compiled.in_use = before


def burst(step: Callable[[], object], calls: int) -> tuple[list[float], list[float]]:
    """Call a step several times; return the thread's and the clock's milliseconds of each call."""
    own, clock = [], []
    for _ in range(calls):
        before = time.thread_time(), time.perf_counter()
        step()
        own.append(1000 * (time.thread_time() - before[0]))
        clock.append(1000 * (time.perf_counter() - before[1]))
    return own, clock


def noise_ms(kind: str) -> float:
    """Median time for maps that hold nothing but noise."""
    rng = np.random.default_rng(0)
    if kind == "uniform":
        heatmaps, pafs = rng.random((19, 36, 48)), rng.uniform(-1, 1, (38, 36, 48))
    else:
        heatmaps, pafs = rng.standard_normal((19, 36, 48)), rng.standard_normal((38, 36, 48))
    maps = heatmaps.astype(np.float32), pafs.astype(np.float32), BODY_18, STRIDE
    return float(np.median(burst(lambda: decode_maps(*maps), 15)[0]))


def compare(crowds: int, noise: float) -> dict[str, Any]:
    """Decode crowds of 1 to 30 people with limbnet and with the slow twin; print and count what differs."""
    different = ties = people = 0
    errors: tuple[list[float], list[float]] = ([], [])
    for seed in track(range(crowds), "comparing", transient=True):
        crowd = random_crowd(seed, 1 + seed % 30, noise=noise)
        maps = crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, SETTINGS
        found = decode_maps(*maps), reference_decoder.decode(*maps)
        people += len(found[1])
        for one, distances in zip(found, errors, strict=True):
            apart = np.nan_to_num(np.linalg.norm(one.keypoints[:, None] - crowd.joints[None], axis=-1), nan=np.inf)
            nearest = apart.min(axis=1)
            distances.extend(nearest[np.isfinite(nearest)].tolist())
        if problems := disagreements(*found):
            tie = is_tie(crowd, SETTINGS)
            different, ties = different + (not tie), ties + tie
            print(f"crowd {seed}{' (a tie)' if tie else ''}: {'; '.join(problems)}")
    mine, theirs = (float(np.mean(distances)) for distances in errors)
    print(f"{crowds} crowds, {people} people, noise {noise}: {different} differ, {ties} more hang on a tie")
    print(f"mean distance to the nearest true joint: limbnet {mine:.3f} px, original procedure {theirs:.3f} px")
    return {"crowds": crowds, "people": people, "noise": noise, "different": different, "ties": ties,
            "error_px": mine, "error_px_original": theirs}  # fmt: skip


def processor() -> str:
    """The processor's name and number of cores."""
    names = [line.split(":", 1)[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} ({os.cpu_count()} cores)"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


if __name__ == "__main__":
    main()
