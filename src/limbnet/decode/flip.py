"""The flip test: what a network says about the mirrored picture, brought back into the frame of the picture itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unmirror(maps: NDArray[np.float32], channels: NDArray[np.intp], shift: int = 0) -> NDArray[np.float32]:
    """Return maps (..., C, h, w) of a mirrored picture as maps of the picture.

    Args:
        maps: what the network said about the mirrored picture.
        channels: (C,) channel that stands in the place of each one, for example the skeleton's `flip_index`.
        shift: cells by which the maps are moved to the right, the first columns staying as they are. HRNet's crops and
            maps are half a cell apart, so its mirrored maps stand one cell too far left (Sun et al. 2019); unbiased
            crops need no shift.
    """
    back = maps[..., channels, :, ::-1].copy()
    if shift:
        back[..., shift:] = back[..., :-shift].copy()
    return back


def flip_average(
    plain: NDArray[np.float32], mirrored: NDArray[np.float32], channels: NDArray[np.intp], shift: int = 0
) -> NDArray[np.float32]:
    """Return the mean of maps and of those of the mirrored picture; see `unmirror`."""
    back = unmirror(mirrored, channels, shift)
    back += plain
    back *= np.float32(0.5)
    return back
