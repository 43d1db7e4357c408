"""HigherHRNet's refinement: a joint that a person lacks is put where the heatmap less the rounded distance of the tag
from the person's is largest.

That asks for the largest value of a whole map, for every person and missing joint. Here maps are cut into tiles, and
these into quarters: the highest value and the least and largest tag bound what can be found there, so that few need to
be looked into.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.multiresolution import TagFields

#: Side of a quarter of a tile in pixels.
QUARTER = 4

#: So many tiles of the highest bounds are looked into before the rest is weighed up.
PROMISING = 32


def quarter_steps(
    heatmaps: NDArray[np.float32],
    joint: NDArray[np.intp],
    cells: NDArray[np.intp],
) -> NDArray[np.float64]:
    """Return (N, 2) a quarter of a pixel towards the larger neighbour in x and in y of cells (N, 2) of maps (K, H, W).

    Of equal neighbours it is the one to the left or above; beyond the border the cell itself stands for its neighbour.
    """
    _, height, width = heatmaps.shape
    flat = heatmaps.reshape(-1)
    x, y = cells.T
    row = (joint * height + y) * width
    column = joint * height * width + x
    left, right = flat.take(row + np.maximum(x - 1, 0)), flat.take(row + np.minimum(x + 1, width - 1))
    up, down = (
        flat.take(column + np.maximum(y - 1, 0) * width),
        flat.take(column + np.minimum(y + 1, height - 1) * width),
    )
    return np.stack([np.where(right > left, 0.25, -0.25), np.where(down > up, 0.25, -0.25)], 1)


def fill_missing(
    points: NDArray[np.float64], values: NDArray[np.float32], fields: TagFields, mean_tags: NDArray[np.float32]
) -> None:
    """Fill in the joints that people lack, in place.

    Args:
        points: (P, K, 2) NaN where a joint is missing.
        values: (P, K) heatmap values, 0 where a joint is missing.
        fields: heatmaps and tags.
        mean_tags: (P, F) of the joints that each person has.

    A joint stays missing if the heatmap is not positive where it would be put.
    """
    person, joint = np.nonzero(np.isnan(points[..., 0]))
    if not len(person):
        return
    places = best_places(fields, joint, mean_tags[person])
    _, height, width = fields.heatmaps.shape
    found = fields.heatmaps.reshape(-1).take(joint * height * width + places)
    good = found > 0
    person, joint, places = person[good], joint[good], places[good]
    cells = np.stack(np.divmod(places, width)[::-1], 1)
    points[person, joint] = cells + 0.5 + quarter_steps(fields.heatmaps, joint, cells)
    values[person, joint] = found[good]


def best_places(fields: TagFields, joint: NDArray[np.intp], tags: NDArray[np.float32]) -> NDArray[np.intp]:
    """Return (N,) where heatmap - round(|tag - the wanted tag|) of a joint is largest, the first of equal places.

    Args:
        fields: heatmaps (K, H, W) and tags (F, K, H, W).
        joint: (N,) joints, one for each search.
        tags: (N, F) wanted tags.
    """
    chosen, which = np.unique(joint, return_inverse=True)
    quarters = _Tiles.of(fields, chosen)
    tiles = quarters.by_four()
    bounds = tiles.bounds((which,), tags)
    best, places = np.full(len(joint), -np.inf, np.float32), np.zeros(len(joint), np.intp)
    firsts, firsts_of_quarters = (each.first_places(fields.heatmaps.shape[2]) for each in (tiles, quarters))
    promising = np.argpartition(bounds, max(bounds.shape[1] - PROMISING, 0), axis=1)[:, -PROMISING:]
    for looked_at in (bounds.argmax(axis=1)[:, None], promising, None):
        if looked_at is None:
            search, tile = np.nonzero(bounds >= best[:, None])
        else:
            search, rank = np.nonzero(np.take_along_axis(bounds, looked_at, 1) >= best[:, None])
            tile = looked_at[search, rank]
        good = _may_win(bounds[search, tile], firsts[tile], best[search], places[search])
        search, tile = search[good], tile[good]
        bounds[search, tile] = -np.inf  # looked into
        search, quarter = np.repeat(search, 4), tiles.quarters(tile).ravel()
        limits = quarters.bounds((which[search], quarter), tags[search])
        good = _may_win(limits, firsts_of_quarters[quarter], best[search], places[search])
        _look_into(fields, joint, tags, (search[good], quarter[good]), (best, places))
    return places


def _may_win(
    bounds: NDArray[np.float32], firsts: NDArray[np.intp], best: NDArray[np.float32], places: NDArray[np.intp]
) -> NDArray[np.bool_]:
    """Tell which tiles may hold a pixel above the best one, or as good and before it: in empty maps all are as good."""
    return np.asarray((bounds > best) | ((bounds == best) & (firsts < places)))


@dataclass(frozen=True)
class _Tiles:
    """What bounds the pixels of T tiles of C maps: highest heatmap value (C, T), least and largest tag (F, C, T)."""

    highest: NDArray[np.float32]
    least: NDArray[np.float32]
    largest: NDArray[np.float32]
    columns: int  # tiles in a row, even

    @classmethod
    def of(cls, fields: TagFields, chosen: NDArray[np.intp]) -> _Tiles:
        """Cut the maps of some joints into quarters of tiles."""
        every = len(chosen) == len(fields.heatmaps)
        heatmaps = fields.heatmaps if every else fields.heatmaps[chosen]
        tags = fields.tags if every else fields.tags[:, chosen]
        highest = _highest(heatmaps)
        least, largest = (_over_quarters(tags, fields, extreme) for extreme in (np.minimum, np.maximum))
        columns = highest.shape[2]
        highest, least, largest = (maps.reshape(*maps.shape[:-2], -1) for maps in (highest, least, largest))
        return cls(highest, least, largest, columns)

    def by_four(self) -> _Tiles:
        """Put four neighbours together."""

        def reduced(values: NDArray[np.float32], extreme: np.ufunc) -> NDArray[np.float32]:
            cells = values.reshape(*values.shape[:-1], -1, 2, self.columns // 2, 2)
            rows = extreme(cells[..., 0, :, :], cells[..., 1, :, :])
            return np.asarray(extreme(rows[..., 0], rows[..., 1]).reshape(*values.shape[:-1], -1))

        lowered = reduced(self.least, np.minimum)
        return _Tiles(reduced(self.highest, np.maximum), lowered, reduced(self.largest, np.maximum), self.columns // 2)

    def quarters(self, tile: NDArray[np.intp]) -> NDArray[np.intp]:
        """Return (M, 4) the tiles that M of these were put together from."""
        row, column = np.divmod(tile, self.columns)
        first = 2 * row * (2 * self.columns) + 2 * column
        return np.asarray(first[:, None] + np.array([0, 1, 2 * self.columns, 2 * self.columns + 1]))

    def first_places(self, width: int) -> NDArray[np.intp]:
        """Return (T,) where in maps (H, width), row after row, the first pixel of every tile lies."""
        side = (width + -width % (2 * QUARTER)) // self.columns
        row, column = np.divmod(np.arange(self.highest.shape[1]), self.columns)
        return np.asarray(side * (row * width + column))

    def bounds(self, index: tuple[NDArray[np.intp], ...], tags: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what no pixel of tiles can exceed.

        Args:
            index: maps (N,), for all their tiles, or maps (N,) and tiles (N,).
            tags: (N, F) wanted tags.
        """
        every: tuple[Any, ...] = (slice(None), *index)
        wanted = tags.T.reshape(*tags.T.shape, *(1,) * (2 - len(index)))
        below, above = self.least[every] - wanted, wanted - self.largest[every]
        beyond = np.maximum(np.maximum(below, above, out=below), 0, out=below)
        distance = beyond[0] if len(beyond) == 1 else np.sqrt((beyond**2).sum(axis=0))
        # A hair less, so that rounding errors of the distance cannot lift a pixel above its bound.
        return np.asarray(self.highest[index] - np.rint(distance * np.float32(1 - 1e-5) - np.float32(1e-5)))


def _highest(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (K, t, u) the highest value of every quarter of a tile of maps (K, H, W); t and u are even."""
    joints, height, width = maps.shape
    if height % (2 * QUARTER) or width % (2 * QUARTER):
        rest = (0, -height % (2 * QUARTER)), (0, -width % (2 * QUARTER))
        return _highest(np.pad(maps, ((0, 0), *rest), mode="edge"))
    tiles = maps.reshape(joints, height // QUARTER, QUARTER, width)
    rows = tiles[:, :, 0].copy()
    for row in range(1, QUARTER):  # NumPy's own reduction of a short axis is slow
        np.maximum(rows, tiles[:, :, row], out=rows)
    cells = rows.reshape(joints, height // QUARTER, -1, QUARTER)
    highest = cells[..., 0].copy()
    for column in range(1, QUARTER):
        np.maximum(highest, cells[..., column], out=highest)
    return highest


def _over_quarters(tags: NDArray[np.float32], fields: TagFields, extreme: np.ufunc) -> NDArray[np.float32]:
    """Return (F, C, t, u) an extreme of the tags (F, C, h, w) that every quarter of a tile is interpolated from."""
    for axis, table in ((-2, fields.rows), (-1, fields.columns)):
        pixels = len(table.before)
        first = np.arange(0, pixels + -pixels % (2 * QUARTER), QUARTER)
        spans = table.before[first.clip(max=pixels - 1)], table.after[(first + QUARTER - 1).clip(max=pixels - 1)]
        tags = _over_spans(tags, *spans, axis, extreme)
    return tags


def _over_spans(
    maps: NDArray[np.float32], first: NDArray[np.intp], last: NDArray[np.intp], axis: int, extreme: np.ufunc
) -> NDArray[np.float32]:
    """Reduce an axis to spans, from first to last with both ends."""
    reduced = maps.take(first, axis=axis)
    for step in range(1, int((last - first).max()) + 1):
        extreme(reduced, maps.take(np.minimum(first + step, last), axis=axis), out=reduced)
    return reduced


def _look_into(
    fields: TagFields,
    joint: NDArray[np.intp],
    tags: NDArray[np.float32],
    where: tuple[NDArray[np.intp], NDArray[np.intp]],
    found: tuple[NDArray[np.float32], NDArray[np.intp]],
) -> None:
    """Look into quarters (search, quarter); keep in (best, places) what is higher, or as high and earlier.

    The searches ascend; best and places are theirs.
    """
    (search, tile), (best, places) = where, found
    if not len(search):
        return
    _, height, width = fields.heatmaps.shape
    columns = width + -width % (2 * QUARTER)
    top, left = (corner * QUARTER for corner in np.divmod(tile, columns // QUARTER))
    down, right = np.divmod(np.arange(QUARTER * QUARTER), QUARTER)
    rows = np.minimum(top[:, None] + down, height - 1)  # beyond the border its last row and column count again
    within = rows * width + np.minimum(left[:, None] + right, width - 1)
    heat = fields.heatmaps.reshape(-1).take(within + (joint[search] * (height * width))[:, None])
    high = np.flatnonzero(heat >= best[search][:, None])  # tags only lower a value
    search, place = search.take(high // QUARTER**2), within.take(high)
    apart = fields.tags_at(joint.take(search), *np.divmod(place, width)) - tags.take(search, axis=0).T
    distance = np.abs(apart[0]) if len(apart) == 1 else np.sqrt((apart**2).sum(axis=0))
    values = heat.take(high) - np.rint(distance)
    starts = np.flatnonzero(np.diff(search, prepend=-1))
    if not len(starts):
        return
    highest = np.maximum.reduceat(values, starts)
    ends = np.diff(starts, append=len(search))
    first = np.minimum.reduceat(np.where(values == np.repeat(highest, ends), place, height * width), starts)
    search = search[starts]
    better = (highest > best[search]) | ((highest == best[search]) & (first < places[search]))
    best[search[better]], places[search[better]] = highest[better], first[better]
