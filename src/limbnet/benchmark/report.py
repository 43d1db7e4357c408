"""What a profile leaves to read: tables for people, and files of the same content for machines and documents."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from limbnet.benchmark.profile import Profile
from limbnet.benchmark.rows import STAGES, Row
from limbnet.files import write_json, write_text

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of the CSV: one line for each row and stage.
CSV_COLUMNS = (
    "model", "engine", "precision", "device", "provider", "threads", "height", "width", "batch", "output_stage",
    "stage", "p50_ms", "p95_ms", "p99_ms", "runs", "pictures_per_second", "AP", "AP_medium", "AP_large", "reason",
)  # fmt: skip


@dataclass(frozen=True)
class Table:
    """A table: its title, what its columns are called, its cells, and how many of the first columns hold words."""

    title: str
    columns: tuple[str, ...]
    cells: Sequence[tuple[str, ...]]
    words: int = 1

    def markdown(self) -> str:
        """Return the table as Markdown."""
        rule = ["---" if number < self.words else "---:" for number in range(len(self.columns))]
        lines = [self.columns, rule, *self.cells]
        return f"## {self.title}\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def tables(result: Profile) -> list[Table]:
    """Return the tables of a profile; those that would be empty are left out."""
    made = [_overview(result.ran), _stages(result.ran), _decoding(result), _failures(result)]
    return [table for table in made if table.cells]


def circumstances(result: Profile) -> list[str]:
    """Return lines that say what was measured, how, and on what."""
    here, settings = result.machine, result.settings
    versions = ", ".join(f"{name} {version}" for name, version in here["versions"].items())
    rounds = result.ran[0].stages["network"].runs
    where = dict.fromkeys(f"{row.provider} on {row.device}" + _threads(row.threads) for row in result.ran)
    busy = "" if here["load_average"] is None else f", load average {here['load_average']:.1f} at the start"
    return [
        f"Pictures: {result.pictures}, padded to the input. {rounds} rounds in turn over all rows, after a warm-up; "
        "milliseconds of one batch, medians in the overview.",
        "Pictures a second: of a stage alone, batch / p50; end to end, with the stages overlapped, from the first "
        "picture's file to the last one's people.",
        f"Network: {'; '.join(where)}. Its clock stops when the output is in main memory."
        + ("" if settings.threads is None else f" --threads {settings.threads} was given."),
        f"Machine: {here['processor']}, {here['cores']} cores{', ' + here['gpu'] if here['gpu'] else ''}{busy}; "
        f"{here['system']}.",
        f"Decoding on the host: {here['decoder']}.",
        f"Versions: {versions}.",
    ]


def _overview(rows: Sequence[Row]) -> Table:
    """A line for each row: what a choice costs and what it brings."""
    with_ap = any(row.ap for row in rows)
    columns = ("model", "engine", "precision", "input", "batch", "network ms", "end to end ms",
               "network /s", "end to end /s")  # fmt: skip
    cells = []
    for row in rows:
        accuracy = tuple(_ap(row.ap.get(name)) for name in ("all", "medium", "large")) if with_ap else ()
        cells.append((
            *_names(row), _ms(row.stages["network"].p50), _ms(row.stages["end to end"].p50),
            _rate(row.throughput("network")), _rate(row.throughput("end to end")), *accuracy,
        ))  # fmt: skip
    return Table("Overview", columns + (("AP", "AP-medium", "AP-large") if with_ap else ()), cells, words=4)


def _stages(rows: Sequence[Row]) -> Table:
    columns = ("model", "engine", "precision", "input", "batch", "stage", "p50 ms", "p95 ms", "p99 ms", "pictures/s")
    cells = []
    for row in rows:
        for stage in STAGES:
            spent = row.stages[stage]
            names = _names(row) if stage == STAGES[0] else ("",) * 5
            numbers = _ms(spent.p50), _ms(spent.p95), _ms(spent.p99), _rate(row.throughput(stage))
            cells.append((*names, stage, *numbers))
    return Table("Stages", columns, cells, words=6)


def _decoding(result: Profile) -> Table:
    cells = [
        (
            f"{one.skeleton}, stride {one.stride}", f"{one.size[0]}x{one.size[1]}", str(one.people), str(one.found),
            _ms(one.spent.p50), _ms(one.spent.p95), _ms(one.spent.p99),
        )
        for one in result.decoding
    ]  # fmt: skip
    columns = ("maps", "input", "people", "found", "p50 ms", "p95 ms", "p99 ms")
    return Table("Decoding on the host, maps drawn for a crowd", columns, cells, words=2)


def _failures(result: Profile) -> Table:
    """What could not run, sizes and batches of the same reason in one line."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in result.rows:
        if row.reason:
            found.setdefault((row.case.model, row.engine or row.case.engine or "", row.reason), []).append(row)
    cells = [
        (model, engine, *(", ".join(dict.fromkeys(said)) for said in _sizes_and_batches(rows)), reason)
        for (model, engine, reason), rows in found.items()
    ]
    return Table("Not measured", ("model", "engine", "input", "batch", "reason"), cells, words=5)


def _sizes_and_batches(rows: Sequence[Row]) -> tuple[list[str], list[str]]:
    return [row.case.size_text for row in rows], [str(row.case.batch) for row in rows]


def _names(row: Row) -> tuple[str, str, str, str, str]:
    stage = "" if row.case.output_stage is None else f" stage {row.case.output_stage}"
    return row.case.model, row.engine + stage, row.precision, row.case.size_text, str(row.case.batch)


def _threads(threads: int | None) -> str:
    return "" if threads is None else f" with {threads} thread{'' if threads == 1 else 's'}"


def _ms(value: float) -> str:
    return f"{value:.2f}"


def _rate(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def _ap(value: float | None) -> str:
    return "" if value is None else "none labelled" if value < 0 else f"{value:.3f}"


def print_profile(result: Profile, console: Console) -> None:
    """Print the tables and what they were measured on."""
    from rich.table import Table as RichTable

    for table in tables(result):
        shown = RichTable(title=table.title, title_justify="left")
        for number, name in enumerate(table.columns):
            right = number >= table.words
            shown.add_column(name, justify="right" if right else "left", overflow="fold", no_wrap=name == "model")
        for line in table.cells:
            shown.add_row(*line)
        console.print(shown)
    for sentence in circumstances(result):
        console.print(sentence, highlight=False, markup=False)


def write_profile(folder: Path, result: Profile) -> list[Path]:
    """Write `profile.json`, `profile.csv` and `profile.md`; return their paths."""
    paths = [folder / f"profile.{kind}" for kind in ("json", "csv", "md")]
    write_json(paths[0], result.to_dict())
    write_text(paths[1], _csv(result))
    parts = ["# Profile", "\n".join(f"- {line}" for line in circumstances(result))]
    write_text(paths[2], "\n\n".join(parts + [table.markdown() for table in tables(result)]) + "\n")
    return paths


def _csv(result: Profile) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for row in result.rows:
        case = row.case
        names = (case.model, row.engine or case.engine, row.precision, row.device, row.provider, row.threads,
                 *case.size, case.batch, case.output_stage)  # fmt: skip
        if row.reason:
            writer.writerow((*names, *[""] * 9, row.reason))
        accuracy = [row.ap.get(name) for name in ("all", "medium", "large")]
        for stage, spent in row.stages.items():
            numbers = (spent.p50, spent.p95, spent.p99, spent.runs, row.throughput(stage))
            writer.writerow((*names, stage, *numbers, *accuracy, ""))
    return text.getvalue()
