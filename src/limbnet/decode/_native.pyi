"""The decoder's steps in C (`native/`); `limbnet.decode.compiled` says what goes in and what comes back.

`Array` stands for anything dense with the buffer protocol: float32, intp and, for `redundant`, bytes.
"""

from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any] | bytes | bytearray

def find_peaks(
    heatmaps: Array,
    smooth: Array,
    plain: Array,
    maps: int,
    height: int,
    width: int,
    stride: float,
    threshold: float,
    candidate: float,
    most_cells: int,
    most_peaks: int,
    reach: float,
    floor: float,
    /,
) -> tuple[bytearray, bytearray, bytearray]: ...
def score_limbs(
    scores: Array,
    pafs: Array,
    points: Array,
    counts: Array,
    starts: Array,
    ends: Array,
    steps: Array,
    cubic: Array,
    limbs: int,
    height: int,
    width: int,
    joints: int,
    most: int,
    samples: int,
    needed: int,
    threshold: float,
    /,
) -> None: ...
def match_limbs(limb_scores: Array, limbs: int, most: int, /) -> tuple[bytearray, bytearray]: ...
def assemble(
    pairs: Array,
    scores: Array,
    peak_scores: Array,
    starts: Array,
    ends: Array,
    redundant: Array,
    count: int,
    joints: int,
    most: int,
    limbs: int,
    min_joints: int,
    min_score: float,
    /,
) -> tuple[bytearray, bytearray]: ...
