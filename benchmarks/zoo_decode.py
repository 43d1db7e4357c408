"""Time of the decoders of published systems: joints of 100 crops, tags, offsets and parts of 30 people.

Maps are rendered from random crowds, with noise. Each decoder and its slow clear twin of the tests see the same maps,
one after the other, so that a busy machine slows both alike; `ratio` is the twin's time over the decoder's. Everything
runs in one thread, and times are that thread's: on an idle machine they are what the clock shows. `target` is the time
the decoder should stay below on two cores. The last line is JSON.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from limbnet.decode.dekr import decode_offsets
from limbnet.decode.multiresolution import TagView, aggregate
from limbnet.decode.offsets import offset_view
from limbnet.decode.openpose import decode_parts
from limbnet.decode.tags import TagSettings, decode_tags, grouping_order
from limbnet.decode.topdown import decode_crops
from limbnet.skeleton import COCO_17, OPENPOSE_18
from reporting import report

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "decode"))
import dekr_twin
import tag_twin
import topdown_twin
from crowds import random_crowd, render
from tag_crowds import offset_network_output, tag_network_output

SIZE = (512, 512)
PARTS_SIZE = (368, 656)


@dataclass(frozen=True)
class Case:
    """A decoder, its slow twin if it is quick enough to wait for, and the milliseconds to stay below."""

    name: str
    fast: Callable[[], object]
    slow: Callable[[], object] | None
    target: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--people", type=int, default=30, help="people in the picture")
    parser.add_argument("--boxes", type=int, default=100, help="crops of the top-down decoders")
    parser.add_argument("--rounds", type=int, default=9, help="calls that are timed")
    parser.add_argument("--noise", type=float, default=0.01, help="standard deviation of the noise on the maps")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    rows, result = [], []
    for case in cases(args.people, args.boxes, args.noise):
        timed = measure(case, args.rounds)
        result.append({"decoder": case.name, "target_ms": case.target, **timed})
        shown = (f"{timed['ms']:.2f}", f"{timed['clock_ms']:.2f}", case.target or "-")
        rows.append((case.name, *shown, f"{timed['ratio']:.0f}" if timed["ratio"] else "-"))
    what = {"people": args.people, "boxes": args.boxes, "noise": args.noise, "rows": result}
    report("zoo_decode", ("decoder", "ms", "clock ms", "target ms", "ratio"), rows, what)


def cases(people: int, boxes: int, noise: float) -> list[Case]:
    """Render the maps and bind the decoders to them."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:64, :48]
    centres = rng.uniform((4, 4), (43, 59), (boxes * 17, 2))
    squares = (x - centres[:, 0, None, None]) ** 2 + (y - centres[:, 1, None, None]) ** 2
    crops = (np.exp(-squares / 8) + rng.normal(0, noise, squares.shape)).astype(np.float32).reshape(boxes, 17, 64, 48)
    flat = crops.reshape(-1, 64, 48)
    rng = np.random.default_rng(0)  # the same crowd, however many crops there were
    _, coarse, fine = tag_network_output(rng, people, size=SIZE, noise=noise)
    order, views = grouping_order(COCO_17.joints), [TagView(1.0, [(coarse, fine)])]
    fields = aggregate(views, SIZE, COCO_17.flip_index)
    tags = np.stack([tag_twin.resized(fields.tags[0], SIZE)])
    _, heatmaps, offsets = offset_network_output(rng, people, size=SIZE, noise=noise)
    crowd = random_crowd(1, people, map_size=(46, 82))
    parts = render(crowd.joints, OPENPOSE_18, (46, 82))
    parts = tuple((maps + rng.normal(0, noise, maps.shape)).astype(np.float32) for maps in parts)

    def offsets_slowly() -> object:
        return dekr_twin.decoded([(1.0, heatmaps, dekr_twin.posed(offsets))])

    return [
        Case(
            f"quarter offset, {boxes} boxes",
            lambda: decode_crops(crops, "quarter"),
            lambda: [topdown_twin.quarter(one) for one in flat],
            None,
        ),
        Case(
            f"DARK, {boxes} boxes",
            lambda: decode_crops(crops, "dark"),
            lambda: [topdown_twin.dark(one) for one in flat],
            10,
        ),
        Case(
            "HigherHRNet: aggregation",
            lambda: aggregate(views, SIZE, COCO_17.flip_index),
            lambda: tag_twin.aggregated([(1.0, [(coarse, fine)])], SIZE, COCO_17.flip_index),
            None,
        ),
        Case(
            "HigherHRNet: peaks, grouping, adjust",
            lambda: decode_tags(fields, order, TagSettings(refine=False)),
            None,
            None,
        ),
        Case(
            "HigherHRNet: the same and refine",
            lambda: decode_tags(fields, order),
            lambda: tag_twin.decoded(fields.heatmaps, tags, order.tolist()),
            20,
        ),
        Case(
            "DEKR",
            lambda: decode_offsets([offset_view(1.0, (heatmaps, offsets), None, COCO_17.flip_index)]),
            offsets_slowly,
            10,
        ),
        Case("OpenPose", lambda: decode_parts(*parts, OPENPOSE_18, PARTS_SIZE), None, None),
    ]


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Return medians of the thread's and the clock's milliseconds, and the twin's time over the decoder's."""
    case.fast()
    own, clock, slow = [], [], []
    for number in range(rounds):
        before = time.thread_time(), time.perf_counter()
        case.fast()
        own.append(1000 * (time.thread_time() - before[0]))
        clock.append(1000 * (time.perf_counter() - before[1]))
        if case.slow is not None and number % 4 == 0:
            start = time.thread_time()
            case.slow()
            slow.append(1000 * (time.thread_time() - start))
    ms = float(np.median(own))
    ratio = float(np.median(slow)) / ms if slow else None
    return {"ms": ms, "clock_ms": float(np.median(clock)), "ratio": ratio}


if __name__ == "__main__":
    main()
