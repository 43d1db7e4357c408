"""HigherHRNet's refinement: a joint that a person lacks is put where the heatmap less the rounded distance of the tag
from the person's is largest.

That asks for the largest value of a whole map, for every person and missing joint. Here maps are cut into tiles: a
tile's highest value and its least and largest tag bound what it can hold, so that few tiles need to be looked into.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.multiresolution import TagFields

#: Side of a tile in pixels.
TILE = 8

#: So many tiles of the highest bounds are looked into before the rest is weighed up.
PROMISING = 16


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
    bounds = _bounds(fields, joint, tags)
    searches = np.arange(len(joint))[:, None]
    best, places = np.full(len(joint), -np.inf, np.float32), np.zeros(len(joint), np.intp)
    promising = np.argpartition(bounds, max(bounds.shape[1] - PROMISING, 0), axis=1)[:, -PROMISING:]
    for tiles in (promising[:, -1:], promising, None):
        if tiles is None:
            search, tile = np.nonzero(bounds >= best[:, None])
        else:
            search, rank = np.nonzero(bounds[searches, tiles] >= best[:, None])
            tile = tiles[search, rank]
        _look_into(fields, joint, tags, (search, tile), (best, places))
        bounds[search, tile] = -np.inf
    return places


def _bounds(fields: TagFields, joint: NDArray[np.intp], tags: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (N, T) what no pixel of each of T tiles can exceed."""
    chosen, which = np.unique(joint, return_inverse=True)
    highest = _highest(fields.heatmaps[chosen] if len(chosen) < len(fields.heatmaps) else fields.heatmaps)
    least, largest = _tag_range(fields, chosen)
    wanted = tags.T[:, :, None]
    beyond = np.maximum(np.maximum(least[:, which] - wanted, wanted - largest[:, which]), 0)
    distance = beyond[0] if len(beyond) == 1 else np.sqrt((beyond**2).sum(axis=0))
    # A hair less, so that rounding errors of the distance cannot lift a pixel above its bound.
    return np.asarray(highest[which] - np.rint(distance * np.float32(1 - 1e-5) - np.float32(1e-5)))


def _highest(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (K, T) the highest value of every tile of maps (K, H, W), row after row."""
    joints, height, width = maps.shape
    if height % TILE or width % TILE:
        return _highest(np.pad(maps, ((0, 0), (0, -height % TILE), (0, -width % TILE)), mode="edge"))
    tiles = maps.reshape(joints, height // TILE, TILE, width)
    rows = tiles[:, :, 0].copy()
    for row in range(1, TILE):  # NumPy's own reduction of a short axis is slow
        np.maximum(rows, tiles[:, :, row], out=rows)
    cells = rows.reshape(joints, -1, TILE)
    highest = cells[..., 0].copy()
    for column in range(1, TILE):
        np.maximum(highest, cells[..., column], out=highest)
    return highest


def _tag_range(fields: TagFields, chosen: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return (F, C, T) twice: the least and the largest tag of the cells that every tile is interpolated from."""
    tags = fields.tags[:, chosen] if len(chosen) < fields.tags.shape[1] else fields.tags
    spans = []
    for table in (fields.rows, fields.columns):
        first = np.arange(0, len(table.before), TILE)
        last = np.minimum(first + TILE - 1, len(table.before) - 1)
        spans.append((table.before[first], table.after[last]))
    ranges = []
    for extreme in (np.minimum, np.maximum):
        reduced = tags
        for axis, (first, last) in zip((-2, -1), spans, strict=True):
            reduced = _over_spans(reduced, first, last, axis, extreme)
        ranges.append(reduced.reshape(*tags.shape[:2], -1))
    return ranges[0], ranges[1]


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
    """Look into tiles (search, tile); keep in (best, places) of each search what is higher, or as high and earlier.

    The searches ascend.
    """
    (search, tile), (best, places) = where, found
    if not len(search):
        return
    _, height, width = fields.heatmaps.shape
    top, left = (corner * TILE for corner in np.divmod(tile, -(-width // TILE)))
    down, right = np.divmod(np.arange(TILE * TILE), TILE)
    rows = np.minimum(top[:, None] + down, height - 1)  # beyond the border its last row and column count again
    within = rows * width + np.minimum(left[:, None] + right, width - 1)
    heat = fields.heatmaps.reshape(-1).take(within + (joint[search] * (height * width))[:, None])
    high = np.flatnonzero(heat >= best[search][:, None])  # tags only lower a value
    search, place = search.take(high // TILE**2), within.take(high)
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
