"""Charts of a study: accuracy against frames per second, top-down, bottom-up, and all with the Pareto front marked.

Rows without weights have a speed and no accuracy: they stand in a strip of their own beside the chart. Where no row has
weights there is nothing to set the speed against, and it is drawn as bars.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limbnet.benchmark.charts import save
from limbnet.benchmark.study import SPEED_ONLY, Outcome, Study, pareto_front

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

#: Marks by kind of row.
DETECTED, SYNTHETIC, TRUE, BOTTOM_UP, OWN = "o", "D", "^", "s", "*"
KINDS = {
    DETECTED: "top-down, detected boxes",
    SYNTHETIC: "top-down, about as many made-up boxes",
    TRUE: "top-down, true boxes",
    BOTTOM_UP: "bottom-up",
    OWN: "limbnet",
}

FPS_LABEL = "frames per second (one picture at a time, person detection excluded)"


def draw_study(folder: Path, study: Study) -> list[Path]:
    """Draw the charts that there are rows for, as PNG and SVG; return their paths."""
    charts: list[tuple[str, str, list[Outcome]]] = [
        ("top-down", "Top-down systems", [one for one in study.outcomes if one.top_down]),
        ("bottom-up", "Bottom-up systems", [one for one in study.outcomes if not one.top_down]),
        ("all", "All systems", study.outcomes),
    ]
    paths: list[Path] = []
    for name, title, rows in charts:
        if not rows:
            continue
        where = f"{title}: {study.pictures} pictures on {study.machine['processor']}" + (
            f", {study.machine['gpu']}" if study.machine["gpu"] else ""
        )
        draw = _scatter if any(one.ap for one in rows) else _bars
        paths += save(draw(rows, where, front=name == "all"), folder / name)
    return paths


def _colours(rows: Sequence[Outcome]) -> dict[str, str]:
    """Give each system a colour; rows of one system differ by their mark and their letter."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    systems = list(dict.fromkeys(_system(one) for one in rows))
    palette = colormaps["tab10" if len(systems) <= 10 else "tab20"]
    return {system: to_hex(palette(number % palette.N)) for number, system in enumerate(systems)}


def _system(one: Outcome) -> str:
    return one.label.partition(",")[0]


def _mark(one: Outcome) -> str:
    if one.top_down:
        return {"detected": DETECTED, "synthetic": SYNTHETIC}.get(one.boxes, TRUE)
    return OWN if one.own else BOTTOM_UP


def _scatter(rows: Sequence[Outcome], title: str, front: bool) -> Figure:
    """AP to the right, frames per second upwards; rows without AP in a strip on the left."""
    exact, blind = [one for one in rows if one.ap], [one for one in rows if not one.ap]
    figure = _figure(12, 7)
    widths = [1, 4, 2.4] if blind else [4, 2.4]
    panels = list(figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0])
    names, chart = panels[-1], panels[-2]
    colours = _colours(rows)
    chart.set_yscale("log")
    for one in exact:
        assert one.accuracy is not None
        low, high = one.ap_interval or (one.accuracy, one.accuracy)
        reach = [[max(one.accuracy - low, 0)], [max(high - one.accuracy, 0)]]
        colour = colours[_system(one)]
        chart.errorbar(one.accuracy, one.fps, xerr=reach, color=colour, marker=_mark(one), markersize=8, alpha=0.9)
        chart.annotate(one.row, (one.accuracy, one.fps), textcoords="offset points", xytext=(6, 5), fontsize=9)
    if front:
        best = pareto_front(exact)
        at, up = [one.accuracy or 0.0 for one in best], [one.fps for one in best]
        # At an AP between two rows the next exact one is what there is.
        chart.step(at, up, where="pre", color="black", linestyle="--", linewidth=1.2, zorder=0, label="Pareto front")
        chart.scatter(at, up, s=190, facecolors="none", edgecolors="black", linewidths=1.2, label="on the front")
        chart.legend(fontsize=9)
    chart.set(xlabel="AP (COCO, bars: 95 % of bootstrap draws)", title=title)
    chart.grid(visible=True, which="both", alpha=0.25)
    _plain_numbers(chart.yaxis)
    if blind:
        strip = panels[0]
        strip.sharey(chart)
        strip.set_yscale("log")
        _plain_numbers(strip.yaxis)
        chart.tick_params(labelleft=False)
        for number, one in enumerate(blind):
            strip.plot(number % 3, one.fps, color=colours[_system(one)], marker=_mark(one), markersize=7)
            strip.annotate(one.row, (number % 3, one.fps), textcoords="offset points", xytext=(6, 3), fontsize=9)
        strip.set(xlim=(-0.5, 3), xticks=[], title="initial weights:\nspeed only")
        strip.grid(visible=True, which="both", axis="y", alpha=0.25)
        strip.set_facecolor("0.95")
    panels[0].set_ylabel(FPS_LABEL)
    _name(names, rows, colours)
    return figure


def _name(axes: Axes, rows: Sequence[Outcome], colours: dict[str, str]) -> None:
    """List the rows and the marks in a panel of its own."""
    from matplotlib.lines import Line2D

    axes.axis("off")
    handles = [
        Line2D(
            [], [], color=colours[_system(one)], marker=_mark(one), linestyle="", label=f"{one.row}  {_described(one)}"
        )
        for one in rows
    ]
    marks = dict.fromkeys(_mark(one) for one in rows)
    handles += [Line2D([], [], color="grey", marker=mark, linestyle="", label=KINDS[mark]) for mark in marks]
    axes.legend(handles=handles, loc="center left", fontsize=8, frameon=False)


def _bars(rows: Sequence[Outcome], title: str, front: bool) -> Figure:
    """Speed alone: a bar for each row, and a mark for its speed without reading the file."""
    figure = _figure(12, 1.6 + 0.32 * len(rows))
    axes = figure.subplots()
    colours = _colours(rows)
    least = min(one.fps for one in rows)
    places = list(range(len(rows)))
    axes.set_xscale("log")
    axes.set_xlim(least / 2, max(one.fps_inference for one in rows) * 2)
    axes.barh(places, [one.fps for one in rows], color=[colours[_system(one)] for one in rows], alpha=0.85)
    axes.plot([one.fps_inference for one in rows], places, color="black", marker="|", linestyle="", markersize=11,
              label="without reading the file")  # fmt: skip
    for place, one in zip(places, rows, strict=True):
        axes.annotate(f"{one.fps:.3g}", (least / 2, place), textcoords="offset points", xytext=(4, -3), fontsize=8,
                      color="white" if one.fps > 0.8 * least else "black", fontweight="bold")  # fmt: skip
    axes.set_yticks(places, [f"{one.row}  {_described(one)}" for one in rows], fontsize=9)
    axes.invert_yaxis()
    no_front = "; no accuracy, so no Pareto front" if front else ""
    axes.set_xlabel(FPS_LABEL)
    axes.set_title(f"{title}\n{SPEED_ONLY}{no_front}", loc="left", fontsize=11)
    axes.grid(visible=True, which="both", axis="x", alpha=0.25)
    axes.legend(fontsize=9, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)
    _plain_numbers(axes.xaxis)
    return figure


def _plain_numbers(axis: Axis) -> None:
    """Write 1, 2, 5, 10 on a logarithmic axis, not powers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _described(one: Outcome) -> str:
    return one.label.replace("detected boxes", "made-up boxes") if one.boxes == "synthetic" else one.label


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)  # no display is needed
    return figure
