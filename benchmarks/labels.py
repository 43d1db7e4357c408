"""How long the target maps of one sample take: heatmaps and part affinity fields of random people.

The promise is at most 1 ms for five people at 256x256. One core; every case is warmed up, cases take turns, medians.
Run: python benchmarks/labels.py
"""

from __future__ import annotations

import time

import numpy as np

from limbnet.data.targets import make_targets
from limbnet.skeleton import BODY_18
from reporting import report

CASES = [((256, 256), 1), ((256, 256), 5), ((256, 256), 20), ((288, 384), 5), ((368, 368), 5)]
STRIDE, ROUNDS, REPEATS = 8, 15, 20


def main() -> None:
    rng = np.random.default_rng(0)
    times: dict[int, list[float]] = {number: [] for number in range(len(CASES))}
    people = [random_people(rng, count, size) for size, count in CASES]
    for turn in range(ROUNDS + 1):
        for number, ((height, width), _) in enumerate(CASES):
            started = time.perf_counter()
            for _ in range(REPEATS):
                make_targets(
                    people[number], BODY_18, (height // STRIDE, width // STRIDE), STRIDE, sigma=7.0, paf_distance=1.0
                )
            if turn:  # the first turn warms up
                times[number].append((time.perf_counter() - started) / REPEATS * 1e3)
    medians = [float(np.median(times[number])) for number in range(len(CASES))]
    rows = [
        (f"{size[0]}x{size[1]}", count, f"{median:.2f}", f"{min(times[number]):.2f}")
        for number, ((size, count), median) in enumerate(zip(CASES, medians, strict=True))
    ]
    report("labels", ("input", "people", "median ms", "best ms"), rows, {"ms_256x256_5_people": round(medians[1], 3)})


def random_people(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Return (count, 18, 3) people whose joints lie around a centre, nine in ten labelled."""
    centres = rng.uniform((0, 0), size[::-1], (count, 1, 2))
    xy = centres + rng.normal(0, 45, (count, len(BODY_18.joints), 2))
    codes = np.where(rng.uniform(size=xy.shape[:2]) < 0.9, 0, 4)
    return np.concatenate([xy, codes[..., None]], axis=-1)


if __name__ == "__main__":
    main()
