"""Charts of a profile: resolution against time and accuracy, refinement stages, people against decoding time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbnet.benchmark.profile import Profile
from limbnet.benchmark.rows import Row
from limbnet.errors import missing_package
from limbnet.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Of AP over all people, AP of medium and of large ones: line and mark.
AREAS = {"all": ("-", "o", "AP"), "medium": ("--", "s", "AP-medium"), "large": (":", "^", "AP-large")}


def can_draw() -> bool:
    """Tell whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def check_charts() -> None:
    """Raise a `DeviceError` when charts cannot be drawn: better now than after the measurement."""
    if not can_draw():
        raise missing_package("matplotlib", "Drawing charts")


def draw_charts(folder: Path, result: Profile) -> list[Path]:
    """Draw the charts that the profile holds points for, as PNG and SVG; return their paths."""
    paths: list[Path] = []
    with_ap = any(row.ap for row in result.ran)
    charts: list[tuple[str, int, Callable[[Any, Profile], None]]] = [
        ("resolution", 2 if with_ap else 1, _resolution),
    ]
    if len({row.case.output_stage for row in result.ran}) > 1:
        charts.append(("refinement", 2 if with_ap else 1, _refinement))
    if result.decoding:
        charts.append(("people", 1, _people))
    for name, panels, draw in charts:
        figure, axes = _figure(panels)
        draw(axes, result)
        paths += save(figure, folder / name)
    return paths


def save(figure: Figure, path: Path) -> list[Path]:
    """Write a figure as `<path>.png` and `<path>.svg`, each whole; the same figure gives the same bytes."""
    from matplotlib import rc_context

    paths = []
    for kind, options in (("png", {"dpi": 150}), ("svg", {"metadata": {"Date": None}})):
        target = path.with_name(f"{path.name}.{kind}")
        # The salt makes the names inside an SVG the same each time.
        with rc_context({"svg.hashsalt": "limbnet"}), whole_file(target) as partial:
            figure.savefig(partial, format=kind, **options)
        paths.append(target)
    return paths


def _figure(panels: int) -> tuple[Figure, Sequence[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7 * panels, 5), layout="constrained")
    FigureCanvasAgg(figure)  # no display is needed
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _resolution(axes: Sequence[Axes], result: Profile) -> None:
    """Left: input size against time, end to end and the network's part of it. Right: time against AP."""
    series = _grouped(result.ran, lambda row: row.series)
    sizes = sorted({row.case.size for row in result.ran}, key=_area)
    for number, (name, rows) in enumerate(series.items()):
        rows.sort(key=lambda row: _area(row.case.size))
        at = [_area(row.case.size) / 1e3 for row in rows]
        colour = f"C{number % 10}"
        total, network = (
            [row.stages[stage].p50 / row.case.batch for row in rows] for stage in ("end to end", "network")
        )
        late = [row.stages["end to end"].p95 / row.case.batch - middle for row, middle in zip(rows, total, strict=True)]
        axes[0].errorbar(at, total, ([0.0] * len(at), late), color=colour, marker="o", capsize=3, label=name)
        axes[0].plot(at, network, color=colour, linestyle=":", marker=".")
    axes[0].set_xticks([_area(size) / 1e3 for size in sizes], [f"{height}x{width}" for height, width in sizes])
    axes[0].set(xlabel="network input (height x width)", ylabel="milliseconds a picture",
                title="End to end: median, bars up to p95; dotted: the network alone")  # fmt: skip
    _finish(axes[0])
    if len(axes) > 1:
        _accuracy(axes[1], series, lambda row: row.case.size_text)


def _refinement(axes: Sequence[Axes], result: Profile) -> None:
    """Left: refinement stage against time. Right: time against AP."""
    staged = [row for row in result.ran if row.case.output_stage is not None]
    series = _grouped(
        staged, lambda row: f"{row.case.model} ({row.engine}), {row.case.size_text}, batch {row.case.batch}"
    )
    for name, rows in series.items():
        rows.sort(key=lambda row: row.case.output_stage or 0)
        at = [row.case.output_stage or 0 for row in rows]
        axes[0].plot(at, [row.stages["network"].p50 / row.case.batch for row in rows], marker="o", label=name)
    axes[0].set_xticks(sorted({row.case.output_stage or 0 for row in staged}))
    axes[0].set(
        xlabel="refinement stage whose maps are used", ylabel="milliseconds a picture", title="Network alone, median"
    )
    _finish(axes[0])
    if len(axes) > 1:
        _accuracy(axes[1], series, lambda row: f"stage {row.case.output_stage}")


def _accuracy(axes: Axes, series: dict[str, list[Row]], mark: Callable[[Row], str]) -> None:
    """Draw time end to end against AP, AP-medium and AP-large, points marked; of several batches the smallest."""
    smallest = min(row.case.batch for rows in series.values() for row in rows)
    for number, rows in enumerate(series.values()):
        for area, (line, point, _) in AREAS.items():
            known = [row for row in rows if row.ap.get(area, -1) >= 0 and row.case.batch == smallest]
            at = [row.stages["end to end"].p50 / row.case.batch for row in known]
            axes.plot(at, [row.ap[area] for row in known], color=f"C{number % 10}", linestyle=line, marker=point)
            if area == "all":
                for row, x in zip(known, at, strict=True):
                    axes.annotate(mark(row), (x, row.ap[area]), textcoords="offset points", xytext=(5, 5), fontsize=8)
    for line, point, name in AREAS.values():
        axes.plot([], [], color="grey", linestyle=line, marker=point, label=name)
    axes.set(xlabel="milliseconds a picture, end to end", ylabel="AP", title="What the time buys")
    _finish(axes)


def _people(axes: Sequence[Axes], result: Profile) -> None:
    """People against decoding time, a line for each kind of maps."""
    series = _grouped(result.decoding, lambda one: f"{one.skeleton}, stride {one.stride}, {one.size[0]}x{one.size[1]}")
    for name, times in series.items():
        times.sort(key=lambda one: one.people)
        at = [one.people for one in times]
        axes[0].plot(at, [one.spent.p50 for one in times], marker="o", label=name)
    axes[0].set_xticks(sorted({one.people for one in result.decoding}))
    axes[0].set(xlabel="people in the picture", ylabel="milliseconds", title="Decoding on the host, median")
    _finish(axes[0])


def _finish(axes: Axes) -> None:
    axes.margins(x=0.08)
    axes.set_ylim(bottom=0)
    axes.grid(visible=True, alpha=0.3)
    axes.legend(fontsize=8)


def _grouped(items: Sequence[Any], key: Callable[[Any], str]) -> dict[str, list[Any]]:
    groups: dict[str, list[Any]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
