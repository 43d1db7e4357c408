"""What a study costs beside the inference it measures: a row of Lite-HRNet with true boxes, picture by picture.

The clock of the whole loop (boxes, memory, drawn maps, the line that is written) against the summed times of the steps.
The examples come round until there are enough pictures. `over_inference` counts reading the file as inference, as the
study's FPS does; `over_inference_without_reading` does not. The last line is JSON.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from time import perf_counter

from limbnet.benchmark.machine import machine
from limbnet.benchmark.study_data import load_study_data
from limbnet.benchmark.study_log import RowLog
from limbnet.benchmark.study_rows import STEPS, check_rows, open_row
from limbnet.specs.study import StudyRow, StudySpec
from reporting import report


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=500, help="pictures to measure")
    parser.add_argument("--model", default="litehrnet_18_256x192", help="a top-down network of the zoo")
    args = parser.parse_args()
    row = StudyRow(row="r", model=args.model, boxes="ground_truth")
    spec = StudySpec(dataset=Path("specs/dataset_examples.json"), rows=(row,))
    data = load_study_data(spec)
    (plan,) = check_rows(spec, "cpu", allow_missing=False)
    with tempfile.TemporaryDirectory() as folder:
        log = RowLog(Path(folder) / "r.jsonl", plan.identity(data, machine()))
        opened = open_row(plan, data, Path(folder))
        opened.warm_up(data, data.places[0])
        with log.opened(opened.facts):
            begin = perf_counter()
            for number in range(args.pictures):
                repetition, place = divmod(number, len(data))
                log.add(repetition, opened.measure(data, data.places[place]))
            wall = perf_counter() - begin
    lines = log.lines.values()
    spent = {step: sum(line[step] for line in lines) for step in STEPS}
    whole = sum(spent.values())
    result = {
        "pictures": args.pictures,
        "people": sum(line["people"] for line in lines),
        "wall_s": wall,
        **{f"{step}_s": value for step, value in spent.items()},
        "over_inference_percent": 100 * (wall / whole - 1),
        "over_inference_without_reading_percent": 100 * (wall / (whole - spent["read"]) - 1),
    }
    rows = [(name, f"{value:.2f}") for name, value in result.items()]
    report("study_overhead", ("what", "value"), rows, result)


if __name__ == "__main__":
    main()
