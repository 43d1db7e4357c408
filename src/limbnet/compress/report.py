"""What a compression leaves to read: tables of the candidates, and a chart of AP against latency."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from limbnet.compress.candidates import Budget, Candidate, pareto
from limbnet.errors import missing_package
from limbnet.files import whole_file, write_json, write_text

#: Headings of the Markdown table.
_HEADINGS = ("candidate", "threshold", "parameters", "multiply-adds", "file (MB)", "AP", "AP lost", "ms", "chosen")


def check_charts() -> None:
    """Raise a `DeviceError` when charts cannot be drawn: better now than after hours of training."""
    if find_spec("matplotlib") is None:
        raise missing_package("matplotlib", "The chart of a compression")


def write_report(
    folder: Path, candidates: Sequence[Candidate], budget: Budget, chosen: Candidate | None, engine: str
) -> None:
    """Write `candidates.csv`, `.json` and `.md`, and `pareto.png` and `.svg`."""
    rows = [one.to_dict() | {"chosen": one == chosen} for one in candidates]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(row | {"ap_interval": " ".join(map(str, row["ap_interval"]))} for row in rows)
    write_text(folder / "candidates.csv", text.getvalue())
    write_json(folder / "candidates.json", {"engine": engine, "budget": vars(budget), "candidates": rows})
    write_text(folder / "candidates.md", f"# Candidates on {engine}\n\n{markdown(candidates, chosen)}\n")
    _write_chart(folder, candidates, budget, chosen, engine)


def markdown(candidates: Sequence[Candidate], chosen: Candidate | None = None) -> str:
    """Return the table of the candidates; the difference in AP stands with its 95 % interval."""
    rows = [
        (
            one.name,
            f"{one.threshold:.4f}",
            f"{one.parameters:,}",
            f"{one.multiply_adds:,}",
            f"{one.size / 1e6:.2f}",
            f"{one.ap:.4f}",
            f"{0 - one.ap_difference:+.4f} [{0 - one.ap_interval[1]:+.4f}, {0 - one.ap_interval[0]:+.4f}]",
            "" if one.latency is None else f"{one.latency:.2f}",
            "yes" if one == chosen else "",
        )
        for one in candidates
    ]
    rule = ["---", *["---:"] * (len(_HEADINGS) - 2), "---"]
    return "\n".join("| " + " | ".join(row) + " |" for row in (_HEADINGS, rule, *rows))


def _write_chart(
    folder: Path, candidates: Sequence[Candidate], budget: Budget, chosen: Candidate | None, engine: str
) -> None:
    """Draw AP against latency: a mark for each candidate, the front that none beats, the budget, the choice."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    latency = {one.file: one.latency or 0.0 for one in candidates}
    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for precision, mark, colour in (("fp32", "o", "tab:blue"), ("int8", "s", "tab:orange")):
        points = [one for one in candidates if one.precision == precision]
        if points:
            axes.scatter([latency[one.file] for one in points], [one.ap for one in points],
                         marker=mark, color=colour, label=precision, zorder=3)  # fmt: skip
    front = pareto(candidates)
    axes.step([latency[one.file] for one in front], [one.ap for one in front], where="post", color="grey",
              linewidth=1, label="not beaten by any", zorder=2)  # fmt: skip
    for one in candidates:
        axes.annotate(
            f"{one.keep:.2g}", (latency[one.file], one.ap), textcoords="offset points", xytext=(5, 4), fontsize=8
        )
    if budget.latency is not None:
        axes.axvline(budget.latency, linestyle="--", color="tab:red", linewidth=1, label=f"budget {budget}")
    axes.axhline(candidates[0].ap - budget.max_ap_drop, linestyle=":", color="tab:red", linewidth=1,
                 label=f"AP may fall by {budget.max_ap_drop:g}")  # fmt: skip
    if chosen is not None:
        axes.scatter([latency[chosen.file]], [chosen.ap], s=160, facecolors="none", edgecolors="tab:green",
                     linewidths=2, label="chosen", zorder=4)  # fmt: skip
    axes.set(xscale="log", xlabel=f"milliseconds for one picture ({engine})", ylabel="AP",
             title="Candidates, marked with the share of multiply-adds kept")  # fmt: skip
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter("{x:g}")
    axes.grid(visible=True, which="both", alpha=0.3)
    axes.legend(fontsize=8)
    for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        # The salt makes the same chart the same bytes.
        with rc_context({"svg.hashsalt": "limbnet"}), whole_file(folder / f"pareto.{kind}") as partial:
            figure.savefig(partial, format=kind, **options)
