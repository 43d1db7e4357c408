"""Time of decoding inside a graph against the host's decoder, for crowds of 1 to 30 people at 288x384.

The graph is the decoding part alone: maps go in as they would come out of the network. `trimmed` is what the engines
run on a CPU, `static` the file as it stands, for a GPU. `grouping` is what is left for the host after either. One
thread; crowd by crowd in turn, so that a busy machine slows all alike; medians of the clock. Every answer is compared
with the host's. The last line is JSON.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import cv2
import numpy as np
from rich.progress import track

from limbnet.decode.bottomup import decode_maps
from limbnet.decode.settings import DecoderSettings
from limbnet.models.info import ModelInfo
from limbnet.skeleton import BODY_18
from reporting import report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "decode"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "export"))
from agreement import disagreements
from crowds import STRIDE, random_crowd
from decoding import Decoder

PEOPLE = (1, 2, 5, 10, 20, 30)
RUNTIMES = ("onnxruntime", "openvino")
Result = TypeVar("Result")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--crowds", type=int, default=8, help="crowds for each number of people")
    parser.add_argument("--rounds", type=int, default=3, help="times that each is decoded")
    parser.add_argument("--max_peaks", type=int, default=64, help="peaks kept for each joint")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    info = ModelInfo(BODY_18, decoder=DecoderSettings(max_peaks=args.max_peaks))
    decoders = {
        f"{runtime} {kind}": Decoder(info, runtime, trimmed=kind == "trimmed")
        for runtime in RUNTIMES
        for kind in ("trimmed", "static")
    }
    rows = [measure(people, decoders, info, args) for people in track(PEOPLE, "timing", transient=True)]
    columns = list(rows[0])
    report("graph_decode", columns, [list(row.values()) for row in rows], {"max_peaks": args.max_peaks, "rows": rows})


def measure(people: int, decoders: dict[str, Decoder], info: ModelInfo, args: argparse.Namespace) -> dict[str, Any]:
    """Return the median milliseconds of everything, and the share of answers that are the host's."""
    spent: dict[str, list[float]] = defaultdict(list)
    same = []
    for round_number in range(args.rounds + 1):
        for seed in range(args.crowds):
            crowd = random_crowd(seed, people, noise=0.01)
            maps = crowd.heatmaps, crowd.pafs
            took, expected = timed(decode_maps, *maps, BODY_18, STRIDE, info.decoder)
            times = {"host": took}
            for name, decoder in decoders.items():
                times[name], tables = timed(decoder.tables, *(one[None] for one in maps))
                times["grouping"], found = timed(tables.people, 0, info, info.decoder)
                same.append(not disagreements(expected, found, 0.05))
            if round_number:  # the first one warms up
                for name, took in times.items():
                    spent[name].append(took)
    medians = {f"{name} ms": round(float(np.median(values)), 3) for name, values in spent.items()}
    return {"people": people, **medians, "same people": float(np.mean(same))}


def timed(run: Callable[..., Result], *arguments: Any) -> tuple[float, Result]:
    """Return the milliseconds that a call took, and its result."""
    begin = time.perf_counter()
    result = run(*arguments)
    return 1000 * (time.perf_counter() - begin), result


if __name__ == "__main__":
    main()
