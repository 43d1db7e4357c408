"""Training targets: the heatmaps and part affinity fields that the network should return for the labelled people.

Heatmaps follow Cao et al., "OpenPose" (arXiv 1812.08008), equations 6 and 7, with a maximum over people; part affinity
fields follow equation 8 with the mean over people who share a cell. Both stand at the centres of the map's cells,
s c + (s - 1) / 2 for stride s, in the frame of `limbnet.geometry`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.skeleton import Skeleton

#: The largest visibility code of a joint that has a label worth learning: visible 0, annotatable 1, occluded 2.
LAST_USED_CODE = 2

#: Smaller heatmap values are nothing (26 pixels from the joint at sigma 7).
HEAT_CUT = 0.001


def make_targets(
    joints: NDArray[np.float64],
    skeleton: Skeleton,
    map_size: tuple[int, int],
    stride: int,
    *,
    sigma: float,
    paf_distance: float,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw the target maps of one sample.

    Args:
        joints: (P, K, 3) x and y in pixels of the network's input, and the visibility code; codes 0, 1 and 2 are used.
            Joints outside the input still draw the part of their Gaussian that reaches into it.
        skeleton: its K joints and L limbs.
        map_size: (h, w) of the maps.
        stride: pixels of the input per map cell.
        sigma: of the Gaussians, in pixels of the input.
        paf_distance: half the width of a limb's field, in map cells.

    Returns:
        heatmaps (K + 1, h, w) float32, 0 to 1, the last one the background, and pafs (2 L, h, w) float32, -1 to 1, the
        x and y components of limb l in channels 2 l and 2 l + 1.
    """
    grid = _Grid.of(map_size, stride)
    used = joints[..., 2] <= LAST_USED_CODE
    present = used.any(axis=1)
    joints, used = joints[present], used[present]
    return _heatmaps(joints, used, grid, sigma), _part_affinity_fields(joints, used, skeleton, grid, paf_distance)


@dataclass(frozen=True)
class _Grid:
    """Where a map's cells stand: (h,) rows and (w,) columns in pixels of the input."""

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    stride: int

    @classmethod
    def of(cls, map_size: tuple[int, int], stride: int) -> _Grid:
        rows, columns = (np.arange(side, dtype=np.float64) * stride + (stride - 1) / 2 for side in map_size)
        return cls(rows, columns, stride)


def _heatmaps(joints: NDArray[np.float64], used: NDArray[np.bool_], grid: _Grid, sigma: float) -> NDArray[np.float32]:
    """Draw (K + 1, h, w) heatmaps: a Gaussian is the product of one over the columns and one over the rows."""
    people, count = used.shape
    heat = np.zeros((count + 1, len(grid.rows), len(grid.columns)))
    across = np.exp(-((grid.columns - joints[..., :1]) ** 2) / (2 * sigma**2))  # (P, K, w)
    down = np.exp(-((grid.rows - joints[..., 1:2]) ** 2) / (2 * sigma**2))  # (P, K, h)
    down[~used] = 0
    person_heat = np.empty_like(heat[:-1])
    for person in range(people):
        np.multiply(down[person, :, :, None], across[person, :, None, :], out=person_heat)
        np.maximum(heat[:-1], person_heat, out=heat[:-1])
    heat[:-1][heat[:-1] < HEAT_CUT] = 0
    heat[-1] = np.clip(1 - heat[:-1].max(axis=0), 0, 1)
    return heat.astype(np.float32)


def _part_affinity_fields(
    joints: NDArray[np.float64],
    used: NDArray[np.bool_],
    skeleton: Skeleton,
    grid: _Grid,
    paf_distance: float,
) -> NDArray[np.float32]:
    """Draw (2 L, h, w) fields: within a band around each limb the limb's unit vector, averaged over overlapping people.

    A limb needs two used joints at different places. Its band ends where the rectangle around the joints, grown by the
    band's half width, ends; cell ranges are rounded half to even and exclude their end.
    """
    h, w, stride = len(grid.rows), len(grid.columns), grid.stride
    both = used[:, skeleton.limb_starts] & used[:, skeleton.limb_ends]  # (P, L)
    start = joints[:, skeleton.limb_starts, :2]
    end = joints[:, skeleton.limb_ends, :2]
    length = np.hypot(end[..., 0] - start[..., 0], end[..., 1] - start[..., 1])
    person, limb = np.nonzero(both & (length > 0))  # N limbs that are drawn, of all people
    pafs = np.zeros((len(skeleton.limbs), 2, h, w), np.float32)
    if not len(limb):
        return pafs.reshape(-1, h, w)
    start, end, length = start[person, limb], end[person, limb], length[person, limb]
    reach = stride * paf_distance
    first = np.rint((np.minimum(start, end) - reach) / stride)  # (N, 2) cells, x then y
    last = np.rint((np.maximum(start, end) + reach) / stride)
    in_columns = (np.arange(w) >= first[:, :1]) & (np.arange(w) < last[:, :1])  # (N, w)
    in_rows = (np.arange(h) >= first[:, 1:]) & (np.arange(h) < last[:, 1:])  # (N, h)
    drawn = in_columns.any(axis=1) & in_rows.any(axis=1)
    person, limb, start, end, length = person[drawn], limb[drawn], start[drawn], end[drawn], length[drawn]
    in_columns, in_rows = in_columns[drawn], in_rows[drawn]

    # The distance from a cell to the limb's line is the cross product with its direction over its length, and the cross
    # product is a difference of a term of the row and a term of the column.
    direction = end - start
    down = (start[:, 1:] - grid.rows) * direction[:, :1]  # (N, h)
    across = (start[:, :1] - grid.columns) * direction[:, 1:]  # (N, w)
    inside = np.abs(down[:, :, None] - across[:, None, :]) / length[:, None, None] <= reach
    inside &= in_rows[:, :, None]
    inside &= in_columns[:, None, :]
    unit = direction / length[:, None]

    for number in np.unique(limb):
        here = inside[limb == number].reshape(-1, h * w).astype(np.float64)
        total = unit[limb == number].T @ here  # (2, h w)
        pafs[number] = (total / np.maximum(here.sum(axis=0), 1)).reshape(2, h, w)
    return pafs.reshape(-1, h, w)
