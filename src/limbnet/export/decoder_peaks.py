"""Peak finding as ONNX operators: `limbnet.decode.peaks`, step by step, for a fixed number of peaks.

The host looks only at the cells that can hold a peak, and so does the graph: TopK finds the best C of every map, and
two small matrices take the 5x5 cells around each to the 10x10 points of the smoothed surface.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from limbnet.decode import peaks as host
from limbnet.decode.peaks import POINTS
from limbnet.decode.settings import DecoderSettings
from limbnet.export.operators import Value
from limbnet.runtime.trimming import CELLS, CELLS_FOUND, PEAKS, PEAKS_FOUND

#: Cells across, and in all, that the surface on one cell depends on.
AROUND = 5
CELLS_AROUND = AROUND * AROUND

#: Behind every point in raster order.
NOWHERE = 3e38


@dataclass(frozen=True)
class MapSize:
    """Height and width of maps, lists of one size."""

    height: Value
    width: Value


@dataclass(frozen=True)
class GraphPeaks:
    """Peaks of N heatmaps, at most P for each, in raster order and those that are there first.

    Attributes:
        place: (N, P, 2) x and y in pixels of the network's input.
        points: (N, P, 2) column and row of the same peaks before refinement, whole eighths of a cell, as floats.
        value: (N, P) unsmoothed heatmap value, 0 where there is no peak.
        found: (N, 1) peaks before the cap, with the cells that were left out, as floats.
        most: P, a list of one size.
    """

    place: Value
    points: Value
    value: Value
    found: Value
    most: Value


@dataclass(frozen=True)
class _Cells:
    """The C candidate cells of each of N maps.

    Attributes:
        row, column: (N, C), 0 where a map has fewer candidates.
        there: (N, C) whether there is one.
        around: (N, 25 C) the 5x5 cells around each.
        unseen: (N, 1) candidates that are left out, as floats.
    """

    row: Value
    column: Value
    there: Value
    around: Value
    unseen: Value


def add_peaks(heatmaps: Value, size: MapSize, stride: int, settings: DecoderSettings) -> GraphPeaks:
    """Find the peaks of finite heatmaps (N, 1, h, w)."""
    op = heatmaps.op
    cells = _candidate_cells(heatmaps, size, settings)
    summits = _summits(cells, size, settings.heatmap_threshold)
    number = op.rename((summits > 0).cast("float32").sum(1, keep=True), PEAKS_FOUND)
    most = op.named_constant(PEAKS, [settings.max_peaks], "int64")
    value, place = summits.top(most)
    place, value = _raster_order(cells, place, value, size.width, most)
    slot, cell, point = _locate(cells, place)
    at = (cell + _refined(cells, slot, cell, point, size)) * float(stride) + (stride - 1) / 2
    return GraphPeaks(at, cell * POINTS + point, value, number + cells.unseen, most)


def _candidate_cells(heatmaps: Value, size: MapSize, settings: DecoderSettings) -> _Cells:
    """Choose the highest cells that come near the maximum of their neighbours, and cut out what is around them."""
    op, height, width = heatmaps.op, size.height, size.width
    most = max(host.CANDIDATES_PER_PEAK * settings.max_peaks, host.CANDIDATES_AT_LEAST)
    largest = op("MaxPool", heatmaps, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    candidate = heatmaps >= largest.largest(settings.heatmap_threshold) * host.CANDIDATE
    ranked = op.where(candidate, heatmaps, 0).reshape(-1, height * width)
    number = op.rename((ranked > 0).cast("float32").sum(1, keep=True), CELLS_FOUND)
    ranked = op("Pad", ranked, op.integers(0, 0, 0, most), op.constant(0))  # small maps too have C places
    value, place = ranked.top(op.named_constant(CELLS, [most], "int64"))
    there = value > 0
    place = op.where(there, place, 0)
    row = place // width
    column = place - row * width
    padded = op("Pad", heatmaps, op.integers(0, 0, 2, 2, 0, 0, 2, 2), mode="edge").reshape(0, -1)
    steps = np.arange(AROUND)
    offsets = op.integers(*np.repeat(steps, AROUND).tolist()) * (width + 4) + op.integers(
        *np.tile(steps, AROUND).tolist()
    )
    corner = (row * (width + 4) + column).unsqueeze(2)
    around = padded.pick((corner + offsets).reshape(0, -1), 1)
    return _Cells(row, column, there, around, (number - float(most)).largest(0))


def _summits(cells: _Cells, size: MapSize, threshold: float) -> Value:
    """Return (N, 64 C): the unsmoothed value of every point of every cell that is a peak, 0 for the others."""
    op = cells.around.op
    around = cells.around.reshape(-1, AROUND, AROUND)
    tables = np.stack([host.axis_matrix(kind, smooth=True) for kind in range(4)])
    down = op.constant(tables).take(_border_kind(cells.row, size.height), 0)
    across = op.constant(tables.transpose(0, 2, 1)).take(_border_kind(cells.column, size.width), 0)
    surface = down @ around @ across  # (N C, 10, 10)

    def moved(rows: int, columns: int) -> Value:
        first = op.integers(1 + rows, 1 + columns)
        return op("Slice", surface, first, op.integers(9 + rows, 9 + columns), op.integers(1, 2))

    inner = moved(0, 0)
    before = moved(-1, -1).largest(moved(-1, 0), moved(-1, 1), moved(0, -1))
    behind = moved(1, 1).largest(moved(1, 0), moved(1, -1), moved(0, 1))
    summit = (inner > before) & (inner >= behind)  # of equal neighbours the first is the peak
    fine = host.axis_matrix(0, smooth=False)[1:-1]
    value = cells.around.reshape(-1, CELLS_AROUND) @ op.constant(np.kron(fine, fine).T)
    value = op.where(summit.reshape(-1, POINTS * POINTS) & (value > threshold), value, 0)
    value = op.where(cells.there.reshape(-1, 1), value, 0)
    return value.reshape(cells.there.shape().part(0, 1, 0), -1)


def _border_kind(index: Value, size: Value) -> Value:
    """Return (N C,): 1 in the first row (or column), 2 in the last, 3 if there is but one, 0 inside."""
    kind = index.equals(0).cast("int64") + index.equals(size - 1).cast("int64") * 2
    return kind.reshape(-1)


def _locate(cells: _Cells, place: Value) -> tuple[Value, Value, Value]:
    """Return the number of the cell (N, P) of places in `_summits`' result, and as floats (N, P, 2) its column and row,
    and column and row of the point in it.
    """
    op = place.op
    slot = place // (POINTS * POINTS)
    point = place - slot * (POINTS * POINTS)
    down = point // POINTS
    across = point - down * POINTS
    pairs = (cells.column.pick(slot, 1), cells.row.pick(slot, 1)), (across, down)
    cell, inside = (op.concat(*(one.unsqueeze(2) for one in pair), axis=2).cast("float32") for pair in pairs)
    return slot, cell, inside


def _raster_order(cells: _Cells, place: Value, value: Value, width: Value, most: Value) -> tuple[Value, Value]:
    """Sort peaks, the best first, as they stand in the map; missing ones come last."""
    op = place.op
    _, cell, inside = _locate(cells, place)
    weights = op.concat(op.integers(1), width * POINTS).cast("float32")
    raster = ((cell * POINTS + inside) * weights).sum(2)
    _, order = op.where(value > 0, raster, NOWHERE).top(most, smallest=True)
    return place.pick(order, 1), value.pick(order, 1)


def _refined(cells: _Cells, slot: Value, cell: Value, point: Value, size: MapSize) -> Value:
    """Return (N, P, 2) offsets in cells from each cell's centre to its peak: the parabola in the logarithm."""
    op = slot.op
    centre = CELLS_AROUND // 2
    cross = op.integers(centre, centre - 1, centre - AROUND, centre + 1, centre + AROUND)
    near = cells.around.pick((slot.unsqueeze(2) * CELLS_AROUND + cross).reshape(0, -1), 1)
    log = op("Log", near.largest(host.FLOOR)).reshape(0, -1, 5)
    middle, before, behind = log.part(0, 1, 2), log.part(1, 3, 2), log.part(3, 5, 2)
    back, forth = before - middle, behind - middle
    first = cell.equals(0)
    last = cell.equals(op.concat(size.width, size.height).cast("float32") - 1)
    border = first | last
    other = op.integers(1, 0)  # the other axis
    curvature = op.where(border, (back + forth).take(other, 2), back + forth)
    one_sided = op.where(first, forth - curvature * 0.5, curvature * 0.5 - back)
    slope = op.where(border, one_sided, (forth - back) * 0.5)
    corner = border & (border.cast("int64").take(other, 2) > 0)
    trusted = (curvature < -0.05) & ~(first & last) & ~corner
    coarse = (point - (POINTS - 1) / 2) / POINTS
    shift = op.where(trusted, -(slope / op.where(trusted, curvature, -1)) - coarse, 0)
    length = op("Sqrt", (shift * shift).sum(2, keep=True))
    return coarse + shift * (op.constant(host.REACH) / length.largest(host.REACH))
