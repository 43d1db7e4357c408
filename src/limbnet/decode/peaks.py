"""Peaks of heatmaps: where a joint may be, as the original procedure finds them, without upsampling whole maps.

The original procedure upsamples every map bicubically by eight, smooths it with a 5x5 kernel and takes the pixels that
equal the maximum of their 3x3 neighbourhood. Only a cell that comes near the maximum of its own neighbours can hold
such a pixel. So the upsampled and smoothed surface is computed for those cells alone: both steps are linear along each
axis, and one matrix takes 5 cells around a candidate to the 10 points of its own area and the ring around it.

A whole point is an eighth of a cell. It is refined by the parabola through the logarithms of three cells along each
axis, which is exact for the Gaussians that the network is trained on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from limbnet.decode import compiled

#: Points of the surface across one cell.
POINTS = 8

#: Points of a patch across: those of the cell and a ring around them.
PATCH = POINTS + 2

#: Edges of the five bins whose normal probabilities' square roots are the smoothing along one axis (BodyPoseNet's 5x5
#: kernel is the outer product with itself).
KERNEL_EDGES = (-3.7, -2.22, -0.74, 0.74, 2.22, 3.7)

#: A cell is looked at if it has this share of the largest of its 3x3 neighbourhood, and of the threshold. Of 9632 peaks
#: in random crowds none lay in a cell below 0.75; with noise of 0.035 on the maps 2 % did, all of them noise.
CANDIDATE = 0.7

#: Cells looked at per joint, as a multiple of the peaks kept and at least: what bounds the time that a map full of
#: noise takes. A true peak makes two or three.
CANDIDATES_PER_PEAK = 3
CANDIDATES_AT_LEAST = 192

#: From a point of a patch to its diagonal neighbours, the two before it first.
DIAGONALS = np.array([[-PATCH - 1], [-PATCH + 1], [PATCH - 1], [PATCH + 1]])

#: Refinement moves a peak by this many cells at most: beyond, the neighbours belong to another person's joint.
REACH = 0.23

#: Values below this are raised to it before a logarithm is taken; labels are cut off at the same value.
FLOOR = 1e-3


@dataclass(frozen=True)
class Peaks:
    """The peaks of K heatmaps, at most M for each joint; rows beyond a joint's own number are 0.

    Attributes:
        refined: (K, M, 3) float32, x and y in pixels of the network's input, and the unsmoothed value.
        points: (K, M, 2) float32, column and row of the same peaks before refinement, whole eighths of a cell.
        counts: (K,) number of peaks kept for each joint.
        found: (K,) the same before the cap, with the cells that were left out because there were too many.
    """

    refined: NDArray[np.float32]
    points: NDArray[np.float32]
    counts: NDArray[np.intp]
    found: NDArray[np.intp]


def find_peaks(heatmaps: NDArray[np.float32], stride: int, threshold: float, max_peaks: int) -> Peaks:
    """Find the peaks of K heatmaps, or of the heatmaps of several pictures, one after the other.

    Args:
        heatmaps: (K, h, w) float32, finite, without the background.
        stride: network-input pixels a cell.
        threshold: a peak's unsmoothed value must exceed it; not negative.
        max_peaks: peaks kept per joint, the best ones.
    """
    most = max(CANDIDATES_PER_PEAK * max_peaks, CANDIDATES_AT_LEAST)
    if compiled.in_use:
        return _lay_out(*_compiled_peaks(heatmaps, stride, threshold, max_peaks, most))
    _, h, w = heatmaps.shape
    padded = _pad(heatmaps)
    cells, unseen = _candidate_cells(heatmaps, padded, threshold, most)
    line, column = np.divmod(cells, w)
    joint, row = np.divmod(line, h)
    cell = np.stack([column, row])
    around = _surroundings(padded, (line + 4 * joint) * (w + 4) + column)
    kind = np.stack([_border_kinds(w).take(column), _border_kinds(h).take(row)])
    which, point = _summits(_surface(around, kind))
    around, kind = around.take(which, axis=1), kind.take(which, axis=1)
    joint, cell = joint.take(which), cell.take(which, axis=1)
    inside = np.stack([point % PATCH, point // PATCH]) - 1
    peaks = np.empty((5, len(which)), np.float32)
    peaks[:2] = (cell + _refine(around, inside, kind)) * stride + (stride - 1) / 2
    peaks[2] = np.einsum("np,pn->n", _patch_matrix(0, 0, False).take(point, axis=0), around)
    peaks[3:] = cell * POINTS + inside
    above = np.flatnonzero(peaks[2] > threshold)
    raster = ((joint * h * POINTS).take(above) + peaks[4].take(above)) * (w * POINTS) + peaks[3].take(above)
    order = above.take(np.argsort(raster))
    return _capped(joint.take(order), peaks.take(order, axis=1).T, max_peaks, unseen)


def _compiled_peaks(
    heatmaps: NDArray[np.float32], stride: int, threshold: float, max_peaks: int, most: int
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Return what `_lay_out` takes."""
    maps, h, w = heatmaps.shape
    floats, counts, found = compiled.native.find_peaks(
        np.ascontiguousarray(heatmaps, np.float32),
        _axis_matrices(),
        _axis_matrix(0, False),
        *(maps, h, w, stride, threshold, CANDIDATE, most, max_peaks, REACH, FLOOR),
    )
    peaks = np.frombuffer(floats, np.float32).reshape(-1, 5)
    return peaks, np.frombuffer(counts, np.intp), np.frombuffer(found, np.intp)


def _pad(heatmaps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (K, h + 4, w + 4) with the edge of every map repeated twice around it."""
    joints, h, w = heatmaps.shape
    padded = np.empty((joints, h + 4, w + 4), np.float32)
    padded[:, 2:-2, 2:-2] = heatmaps
    padded[:, 2:-2, :2], padded[:, 2:-2, -2:] = heatmaps[:, :, :1], heatmaps[:, :, -1:]
    padded[:, :2], padded[:, -2:] = padded[:, 2:3], padded[:, -3:-2]
    return padded


def _candidate_cells(
    heatmaps: NDArray[np.float32], padded: NDArray[np.float32], threshold: float, most: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the cells of the maps where peaks may lie, the highest `most` per joint, and how many are left out."""
    joints, height, width = heatmaps.shape
    largest = _largest_around(padded.ravel(), padded.shape[2]).reshape(padded.shape)[:, 2:-2, 2:-2]
    least = np.maximum(largest, np.float32(threshold))
    least *= np.float32(CANDIDATE)
    cells = np.flatnonzero(heatmaps >= least)
    if len(cells) <= most:
        return cells, np.zeros(joints, np.intp)
    joint = cells // (height * width)
    unseen = np.maximum(np.bincount(joint, minlength=joints) - most, 0)
    if unseen.any():
        order, rank = _best_first(joint, heatmaps.take(cells))
        cells = cells.take(order.compress(rank < most))
    return cells, unseen


def _largest_around(flat: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    """Return the largest value of the 3x3 neighbourhood in rows of `width`; right everywhere but on the frame."""
    three, largest = np.empty_like(flat), np.empty_like(flat)
    three[0] = three[-1] = largest[:width] = largest[-width:] = 0
    np.maximum(flat[:-2], flat[2:], out=three[1:-1])
    np.maximum(three, flat, out=three)
    np.maximum(three[: -2 * width], three[2 * width :], out=largest[width:-width])
    return np.maximum(largest, three, out=largest)


def _surroundings(padded: NDArray[np.float32], corners: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return (25, N) the 5x5 cells of the padded maps whose upper left ones are given."""
    steps = np.arange(5)
    return np.asarray(padded.take((steps[:, None] * padded.shape[2] + steps).reshape(-1, 1) + corners))


@lru_cache(maxsize=32)
def _border_kinds(size: int) -> NDArray[np.intp]:
    """Return (size,) 1 for the first row (or column) of a map, 2 for the last, 3 if there is but one, 0 inside."""
    index = np.arange(size)
    return np.asarray((index == 0) + 2 * (index == size - 1))


def _surface(around: NDArray[np.float32], kind: NDArray[np.intp]) -> NDArray[np.float32]:
    """Return (100, N) the smoothed surface, 10x10 points on each cell and the ring around it.

    Args:
        around: (25, N) the 5x5 cells around each.
        kind: (2, N) what `_border_kinds` says of its column and its row.
    """
    matrix, cells = _axis_matrix(0, True), around.shape[1]
    rows = np.matmul(matrix, around.reshape(5, 5 * cells)).reshape(PATCH, 5, cells)
    surface: NDArray[np.float32] = np.matmul(matrix, rows).reshape(PATCH * PATCH, cells)
    both = kind[0] + 4 * kind[1]
    border = np.flatnonzero(both)
    for special in np.flatnonzero(np.bincount(both[border])).tolist():
        these = border[both[border] == special]
        surface[:, these] = _patch_matrix(special // 4, special % 4, True) @ around.take(these, axis=1)
    return surface


def _summits(surface: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return cell and point, 0 to 99, of the peaks of patches (100, N) that lie in the cells themselves.

    A peak is no smaller than its eight neighbours; of equal ones the first is the peak. Few points pass four of them;
    those alone are compared with the other four.
    """
    cells = surface.shape[1]
    patch = surface.reshape(PATCH, PATCH, cells)
    inner = patch[1:-1, 1:-1]
    highest = inner > patch[:-2, 1:-1]
    highest &= inner > patch[1:-1, :-2]
    highest &= inner >= patch[1:-1, 2:]
    highest &= inner >= patch[2:, 1:-1]
    place, cell = np.divmod(np.flatnonzero(highest), cells)
    point = (place // POINTS + 1) * PATCH + place % POINTS + 1
    value = surface[point, cell]
    corners = surface[point + DIAGONALS, cell]
    before, after = np.maximum(corners[0], corners[1]), np.maximum(corners[2], corners[3])
    top = np.flatnonzero((before < value) & (after <= value))
    return cell.take(top), point.take(top)


def _refine(around: NDArray[np.float32], inside: NDArray[np.intp], kind: NDArray[np.intp]) -> NDArray[np.float64]:
    """Return (2, N) offsets x, y in cells from the cell's centre to the peak, given points (2, N) in the cell, 0 to 7.

    The summit of the parabola in the logarithm, no further than REACH from the point. At the border of the map one
    neighbour is missing; there the curvature of the other axis stands in, because the labels' Gaussians are round.
    """
    log = np.log(np.maximum(around[[12, 11, 13, 7, 17]], FLOOR))
    back, forth = log[[1, 3]] - log[0], log[[2, 4]] - log[0]
    between = kind == 0
    curvature = back + forth
    curvature = np.where(between, curvature, curvature[::-1])
    one_sided = np.where(kind == 1, forth - curvature / 2, curvature / 2 - back)
    slope = np.where(between, (forth - back) / 2, one_sided)
    trusted = (curvature < -0.05) & (kind < 3) & (between | between[::-1])
    coarse = (inside - (POINTS - 1) / 2) / POINTS
    shift = np.where(trusted, -slope / np.where(trusted, curvature, -1.0) - coarse, 0.0)
    return np.asarray(coarse + shift * (REACH / np.maximum(np.sqrt(np.square(shift).sum(axis=0)), REACH)))


def _capped(joint: NDArray[np.intp], peaks: NDArray[np.float32], most: int, unseen: NDArray[np.intp]) -> Peaks:
    """Keep of N peaks (see `_lay_out`), whose joints ascend, the best `most` of each joint."""
    counts = np.bincount(joint, minlength=len(unseen))
    found = counts + unseen
    if counts.max(initial=0) > most:
        order, rank = _best_first(joint, peaks[:, 2])
        peaks, counts = peaks.take(order.compress(rank < most), axis=0), np.minimum(counts, most)
    return _lay_out(peaks, counts, found)


def _lay_out(peaks: NDArray[np.float32], counts: NDArray[np.intp], found: NDArray[np.intp]) -> Peaks:
    """Lay out peaks (N, 5) - x, y, value, column, row - of the first joint, the second and so on, one row a joint."""
    table = np.zeros((len(counts), int(counts.max(initial=0)), 5), np.float32)
    table[np.arange(table.shape[1]) < counts[:, None]] = peaks
    return Peaks(table[:, :, :3], table[:, :, 3:], counts, found)


def _best_first(joint: NDArray[np.intp], values: NDArray[np.float32]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the order that sorts positive values by joint and falling value, and the rank within its joint of each."""
    order = descending(values)
    order = order[np.argsort(joint[order].astype(np.uint16), kind="stable")]
    joint = joint[order]
    return order, np.arange(len(joint)) - np.searchsorted(joint, joint)


def descending(values: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return the order (N,) of falling positive values, equal ones as they stand.

    The bits of positive floats rise with their values, so that one integer holds value and place; NumPy sorts integers
    many times faster than it sorts floats stably.
    """
    keys = (-np.ascontiguousarray(values).view(np.int32).astype(np.int64) << 32) | np.arange(len(values))
    keys.sort()
    return keys & 0xFFFFFFFF


@lru_cache(maxsize=32)
def _patch_matrix(row_kind: int, column_kind: int, smooth: bool) -> NDArray[np.float32]:
    """Return (100, 25): from the 5x5 cells around a cell to the 10x10 points of its patch, smoothed or not."""
    return np.kron(_axis_matrix(row_kind, smooth), _axis_matrix(column_kind, smooth))


@lru_cache(maxsize=1)
def _axis_matrices() -> NDArray[np.float32]:
    """Return (4, 10, 5) the smoothing matrices of all kinds of cells."""
    return np.stack([_axis_matrix(kind, True) for kind in range(4)])


@lru_cache(maxsize=8)
def _axis_matrix(kind: int, smooth: bool) -> NDArray[np.float32]:
    return axis_matrix(kind, smooth=smooth).astype(np.float32)


def axis_matrix(kind: int, *, smooth: bool) -> NDArray[np.float64]:
    """Return (10, 5): from 5 cells in a row to the 10 points of the middle one's patch, smoothed or not.

    `kind` is what `_border_kinds` says of the middle cell: smoothing sees zeros beyond the map, as in the original
    procedure.
    """
    kernel = np.sqrt(np.diff([math.erf(edge / math.sqrt(2)) for edge in KERNEL_EDGES]))
    kernel /= kernel.sum()
    reach = len(kernel) // 2
    points = np.arange(-1 - reach, POINTS + 1 + reach)
    distance = np.abs((points[:, None] - (POINTS - 1) / 2) / POINTS - np.arange(-2, 3))
    fine = cubic(distance)
    if not smooth:
        return fine[reach:-reach]
    fine[(kind in (1, 3)) * (points < 0) | (kind in (2, 3)) * (points >= POINTS)] = 0
    return np.stack([kernel @ fine[n : n + len(kernel)] for n in range(PATCH)])


def cubic(distance: NDArray[np.float64], a: float = -0.75) -> NDArray[np.float64]:
    """Return the weight of a sample at a distance in cubic convolution (Keys 1981) with OpenCV's parameter."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = (((distance - 5) * distance + 8) * distance - 4) * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
