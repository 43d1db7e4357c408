"""What a study leaves to read: a table for people, and files of the same content for machines and documents."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbnet.benchmark.report import Table
from limbnet.benchmark.study import SPEED_ONLY, Outcome, Refused, Study, pareto_front
from limbnet.benchmark.study_rows import STEPS
from limbnet.evaluation.coco import METRICS
from limbnet.files import write_text

if TYPE_CHECKING:
    from rich.console import Console

#: Characters of a runtime's message in the table; the JSON lines have all of it.
MESSAGE_SHOWN = 240

#: Columns of the CSV, and how each is got.
CSV_COLUMNS: dict[str, Callable[[Outcome], Any]] = {
    "row": lambda one: one.row,
    "system": lambda one: one.label,
    "kind": lambda one: "top-down" if one.top_down else "bottom-up",
    "boxes": lambda one: one.boxes,
    "weights": lambda one: one.weights,
    "pictures": lambda one: one.pictures,
    "people": lambda one: one.people,
    "repetitions": lambda one: one.repetitions,
    "fps": lambda one: one.fps,
    "fps_slowest": lambda one: one.fps_range[0],
    "fps_fastest": lambda one: one.fps_range[1],
    "fps_inference": lambda one: one.fps_inference,
    "ms_per_person": lambda one: one.person_ms,
    **{f"{step}_ms": (lambda one, step=step: one.steps_ms[step]) for step in STEPS},  # type: ignore[misc]
    **{
        key: (lambda one, key=key: one.facts[key])  # type: ignore[misc]
        for key in ("engine", "precision", "device", "threads", "parameters", "multiply_adds")
    },
    "height": lambda one: one.facts["input_size"][0],
    "width": lambda one: one.facts["input_size"][1],
    "memory_bytes": lambda one: one.memory,
    **{name: (lambda one, name=name: one.ap.get(name)) for *_, name in METRICS},  # type: ignore[misc]
    "AP_low": lambda one: one.ap_interval and one.ap_interval[0],
    "AP_high": lambda one: one.ap_interval and one.ap_interval[1],
    "published_AP": lambda one: one.published_ap,
    "notes": lambda one: "; ".join(one.notes),
}


def tables(study: Study) -> list[Table]:
    """Return the tables: speed and cost of all rows, accuracy of those with weights, and what cannot run."""
    rows = study.outcomes
    made = [_speed(rows)]
    exact = [one for one in rows if one.ap]
    if exact:
        made.append(_accuracy(exact))
    if study.refused:
        made.append(_refusals(study.refused))
    return made


def _speed(rows: Sequence[Outcome]) -> Table:
    columns = ("row", "system", "AP", "FPS", "FPS, inference alone", "ms a person", *(f"{step} ms" for step in STEPS),
               "parameters", "GMAC", "memory MB", "published AP")  # fmt: skip
    cells = [
        (
            one.row, one.label, "speed only" if one.accuracy is None else _three(one.accuracy), _figure(one.fps),
            _figure(one.fps_inference), _or_dash(one.person_ms, _figure),
            *(_figure(one.steps_ms[step]) for step in STEPS), _or_dash(one.facts["parameters"], lambda n: f"{n:,}"),
            _or_dash(one.facts["multiply_adds"], lambda n: f"{n / 1e9:.2f}"),
            _or_dash(one.memory, lambda n: f"{n / 1e6:,.0f}"), _or_dash(one.published_ap, lambda ap: f"{ap:.1f}"),
        )
        for one in rows
    ]  # fmt: skip
    return Table("Speed", columns, cells, words=3)


def _accuracy(rows: Sequence[Outcome]) -> Table:
    names = ("AP", "95 % of draws", "AP50", "AP75", "AP-M", "AP-L", "AR", "AR50", "AR75", "AR-M", "AR-L")
    front = {one.row for one in pareto_front(rows)}
    cells = []
    for one in rows:
        ap, *others = one.ap.values()
        between = "" if one.ap_interval is None else "{:.3f} to {:.3f}".format(*one.ap_interval)
        values = (_three(ap), between, *map(_three, others))
        cells.append((one.row, one.label, one.boxes, *values, "yes" if one.row in front else ""))
    return Table("Accuracy", ("row", "system", "boxes", *names, "Pareto front"), cells, words=3)


def _refusals(rows: Sequence[Refused]) -> Table:
    cells = [
        (one.row, one.label, one.engine, one.precision, ", ".join(one.operators) or "none named", _sentence(one.reason))
        for one in rows
    ]
    return Table("Cannot run", ("row", "system", "engine", "precision", "operator", "what it says"), cells, words=6)


def _sentence(message: str) -> str:
    """Return a runtime's message in one line, cut off where it becomes long; bars would break the table."""
    line = " ".join(message.split()).replace("|", "/")
    return line if len(line) <= MESSAGE_SHOWN else line[: MESSAGE_SHOWN - 1] + "…"


def circumstances(study: Study) -> list[str]:
    """Return lines that say what was measured, how, and on what."""
    here = study.machine
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    where = dict.fromkeys(_where(one) for one in study.outcomes)
    lines = [
        f"{study.pictures} pictures, {study.repetitions} repetitions in turn over all rows, one picture at a time; "
        "medians of the repetitions.",
        "FPS: pictures over the summed time from the file to the people (read, prepare, network, decode), person "
        "detection excluded. Inference alone: without reading and decoding the file.",
        "ms a person: of inference, over the boxes of top-down and the labelled people of bottom-up systems.",
        "Memory: at the most while a picture is prepared and run, weights included. GMAC: 1e9 multiply-adds of one "
        "pass (of one person, top-down) at the input size that the row names.",
    ]
    if study.boxes_from:
        lines.append(f"Detected boxes: {study.boxes_from}.")
    speed_only = [one.row for one in study.outcomes if not one.ap]
    if speed_only:
        lines.append(
            f"Rows {', '.join(speed_only)}: {SPEED_ONLY}. They have no AP, and their decoding is timed on maps drawn "
            "from the ground truth."
        )
    if any(one.published_ap is not None for one in study.outcomes):
        lines.append("Published AP: the authors', in percent, with flip test; not of this run.")
    busy = "" if here["load_average"] is None else f", load average {here['load_average']:.1f} at the start"
    lines.append(f"Networks: {'; '.join(where)}.")
    lines.append(
        f"Machine: {here['processor']}, {here['cores']} cores{', ' + here['gpu'] if here['gpu'] else ''}{busy}; "
        f"{here['system']}. Versions: {versions}."
    )
    return lines


def _where(one: Outcome) -> str:
    threads = one.facts["threads"]
    count = "" if threads is None else f" with {threads} thread{'' if threads == 1 else 's'}"
    return f"{one.facts['engine']} {one.facts['precision']} on {one.facts['device']}{count}"


def _three(value: float) -> str:
    return "none labelled" if value < 0 else f"{value:.3f}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _or_dash(value: Any, show: Callable[[Any], str]) -> str:
    return "-" if value is None else show(value)


def _csv_refusal(one: Refused) -> list[str]:
    told = {"row": one.row, "system": one.label, "engine": one.engine, "precision": one.precision}
    told["notes"] = f"cannot run; operator: {', '.join(one.operators) or 'none named'}"
    return [told.get(column, "") for column in CSV_COLUMNS]


def print_study(study: Study, console: Console) -> None:
    """Print the tables and what they were measured on."""
    from rich.table import Table as RichTable

    for table in tables(study):
        shown = RichTable(title=table.title, title_justify="left")
        for number, name in enumerate(table.columns):
            shown.add_column(name, justify="right" if number >= table.words else "left", overflow="fold")
        for line in table.cells:
            shown.add_row(*line)
        console.print(shown)
    for sentence in circumstances(study):
        console.print(sentence, highlight=False, markup=False)


def write_study(folder: Path, study: Study) -> list[Path]:
    """Write `study.jsonl` (a line a row, refused ones last), `study.csv` and `study.md`; return their paths."""
    paths = [folder / f"study.{kind}" for kind in ("jsonl", "csv", "md")]
    content = study.to_dict()
    common = {key: content[key] for key in ("pictures", "repetitions", "boxes_from", "machine")}
    lines = [json.dumps(outcome | {"study": common}) for outcome in content["outcomes"]]
    lines += [json.dumps({"row": one["row"], "cannot_run": one, "study": common}) for one in content["refused"]]
    write_text(paths[0], "\n".join(lines) + "\n")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    writer.writerows([show(one) for show in CSV_COLUMNS.values()] for one in study.outcomes)
    writer.writerows(_csv_refusal(one) for one in study.refused)
    write_text(paths[1], text.getvalue())
    parts = ["# Study", "\n".join(f"- {line}" for line in circumstances(study))]
    notes = [f"- {one.row}: {'; '.join(one.notes)}" for one in study.outcomes if one.notes]
    parts += [table.markdown() for table in tables(study)]
    write_text(paths[2], "\n\n".join(parts + (["## Notes\n\n" + "\n".join(notes)] if notes else [])) + "\n")
    return paths
