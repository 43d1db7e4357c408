"""Time of decoding against BodyPoseNet's own post-processing, for crowds of 1 to 30 people at 288x384.

Two decoders see the same maps, one after the other, crowd by crowd, so that a busy machine slows both alike; medians
and their ratio are printed. Everything runs in one thread, and the times that are compared are that thread's: on an idle
machine they are what the clock shows, on a busy one they leave out the waiting. `--compare N` decodes N crowds with the
slow clear twin of the tests as well and reports every disagreement. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import decode_baseline
import numpy as np
from rich.progress import track

from limbnet.decode.bottomup import decode_maps, find_candidates, group_candidates
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "decode"))
import reference_decoder  # noqa: E402
from agreement import disagreements, is_tie  # noqa: E402
from crowds import STRIDE, random_crowd  # noqa: E402

PEOPLE = (1, 2, 5, 10, 20, 30)
SETTINGS = DecoderSettings()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crowds", type=int, default=6, help="crowds timed for each number of people")
    parser.add_argument("--rounds", type=int, default=8, help="times each crowd is decoded")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of the noise on the maps")
    parser.add_argument("--compare", type=int, default=0, metavar="N", help="crowds compared with the slow twin")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    table = [
        timings(people, args.crowds, args.rounds, args.noise) for people in track(PEOPLE, "timing", transient=True)
    ]
    print(f"{processor()}, NumPy {np.__version__}, OpenCV {cv2.__version__}, one thread, maps of 36x48, median ms")
    print(
        f"{'people':>6} {'baseline':>9} {'limbnet':>8} {'ratio':>6} {'candidates':>11} {'grouping':>9} {'by the clock':>13}"
    )
    for row in table:
        print(
            f"{row['people']:>6} {row['baseline_ms']:>9.1f} {row['limbnet_ms']:>8.3f} {row['ratio']:>6.0f}"
            f" {row['candidates_ms']:>11.3f} {row['grouping_ms']:>9.3f} {row['limbnet_clock_ms']:>13.3f}"
        )
    noise = {kind: noise_ms(kind) for kind in ("uniform", "normal")}
    print("maps full of noise: " + ", ".join(f"{kind} {value:.1f} ms" for kind, value in noise.items()))
    result: dict[str, Any] = {"benchmark": "decode", "rows": table, "noise_ms": noise}
    if args.compare:
        result["agreement"] = compare(args.compare, args.noise)
    print(json.dumps(result))


def timings(people: int, crowds: int, rounds: int, noise: float) -> dict[str, float]:
    """Medians in milliseconds over crowds of one size, the two decoders interleaved."""
    names = ("baseline", "limbnet", "candidates", "grouping")
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for seed in range(crowds):
        crowd = random_crowd(1000 * people + seed, people, noise=noise)
        maps = crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, SETTINGS
        candidates = find_candidates(*maps)
        steps: tuple[Callable[[], object], ...] = (
            lambda maps=maps: decode_baseline.decode(*maps),
            lambda maps=maps: decode_maps(*maps),
            lambda maps=maps: find_candidates(*maps),
            lambda candidates=candidates: group_candidates(candidates, BODY_18, SETTINGS),
        )
        for _ in range(rounds):
            for name, step in zip(names, steps, strict=True):
                spent[name].append(milliseconds(step))
    medians = {f"{name}_ms": float(np.median([own for own, _ in times])) for name, times in spent.items()}
    clock = float(np.median([clock for _, clock in spent["limbnet"]]))
    ratio = medians["baseline_ms"] / medians["limbnet_ms"]
    return {"people": people, **medians, "limbnet_clock_ms": clock, "ratio": ratio}


def milliseconds(step: Callable[[], object]) -> tuple[float, float]:
    """The thread's and the clock's time of a call, the second of two: caches are as warm as in a stream of pictures."""
    step()
    start, clock = time.thread_time(), time.perf_counter()
    step()
    return 1000 * (time.thread_time() - start), 1000 * (time.perf_counter() - clock)


def noise_ms(kind: str) -> float:
    """Median time for maps that hold nothing but noise."""
    rng = np.random.default_rng(0)
    if kind == "uniform":
        heatmaps, pafs = rng.random((19, 36, 48)), rng.uniform(-1, 1, (38, 36, 48))
    else:
        heatmaps, pafs = rng.standard_normal((19, 36, 48)), rng.standard_normal((38, 36, 48))
    maps = heatmaps.astype(np.float32), pafs.astype(np.float32), BODY_18, STRIDE
    return float(np.median([milliseconds(lambda: decode_maps(*maps))[0] for _ in range(15)]))


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
