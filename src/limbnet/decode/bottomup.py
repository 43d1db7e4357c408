"""From the maps of one picture to people: peaks, limb candidates, groups.

Two public steps. `find_candidates` reduces the maps to small tensors; an exported graph may do it in its stead.
`group_candidates` makes people of them on the host. `decode_maps` is the one after the other; having the maps,
it can also complete people from faint joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.assemble import assemble, match_limbs
from limbnet.decode.complete import complete_people
from limbnet.decode.limbs import score_limbs
from limbnet.decode.peaks import find_peaks
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: What stands for a joint that was not found: x, y and heatmap value.
MISSING = np.array([[np.nan, np.nan, 0]], np.float32)


@dataclass(frozen=True)
class Candidates:
    """Small tensors that hold all that grouping needs of one picture.

    Attributes:
        peaks: (K, M, 3) float32, x and y in pixels of the network's input and heatmap value; rows beyond a joint's
            number of peaks are 0. M is at most the settings' `max_peaks`.
        limb_scores: (L, M, M) float32, score of each start and end peak, 0 where they do not connect.
        found: (K,) number of peaks of each joint before the cap: if it exceeds the peaks, some were left out.
        warnings: what was wrong with the maps.
    """

    peaks: NDArray[np.float32]
    limb_scores: NDArray[np.float32]
    found: NDArray[np.intp]
    warnings: tuple[str, ...] = ()


def decode_maps(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    stride: int,
    settings: DecoderSettings | None = None,
) -> People:
    """Find the people in one picture's maps.

    Args:
        heatmaps: (K + 1, h, w) float32, one per joint and the background.
        pafs: (2 L, h, w) float32, x and y component of each limb.
        skeleton: joints and limbs.
        stride: network-input pixels a cell; cell c stands at stride c + (stride - 1) / 2.
        settings: thresholds; BodyPoseNet's when None.

    Returns:
        The people in the frame of the network's input. Cells that are not finite count as empty and are reported in
        the warnings, and so are joints with more peaks than the cap.

    Raises:
        ValueError: the maps do not fit the skeleton or one another.
    """
    settings = settings or DecoderSettings()
    people = group_candidates(find_candidates(heatmaps, pafs, skeleton, stride, settings), skeleton, settings)
    if settings.weak_heatmap_threshold is None:
        return people
    joints = _finite(heatmaps[: len(skeleton.joints)], "heatmaps", [])
    return complete_people(
        people, joints, _finite(pafs, "part affinity fields", []), skeleton, stride=stride, settings=settings
    )


def find_candidates(
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    stride: int,
    settings: DecoderSettings,
) -> Candidates:
    """Reduce maps (see `decode_maps`) to peaks and the scores of all limb candidates."""
    _check_shapes(heatmaps, pafs, skeleton)
    warnings: list[str] = []
    heatmaps = _finite(heatmaps[: len(skeleton.joints)], "heatmaps", warnings)
    pafs = _finite(pafs, "part affinity fields", warnings)
    peaks = find_peaks(heatmaps, stride, settings.heatmap_threshold, settings.max_peaks)
    scores = score_limbs(pafs, peaks.points, peaks.counts, skeleton, settings)
    return Candidates(peaks.refined, scores, peaks.found, tuple(warnings))


def group_candidates(candidates: Candidates, skeleton: Skeleton, settings: DecoderSettings) -> People:
    """Match limbs, assemble people and look up their joints."""
    peaks = candidates.peaks
    parts, scores = assemble(match_limbs(candidates.limb_scores), peaks[:, :, 2], skeleton, settings)
    joint_count, most, _ = peaks.shape
    table = np.concatenate([peaks.reshape(-1, 3), MISSING])
    joints = table.take(np.where(parts < 0, -1, parts + np.arange(joint_count) * most), axis=0)
    warnings = candidates.warnings + _cap_warning(candidates, skeleton, settings)
    return People(joints[:, :, :2], np.minimum(joints[:, :, 2], np.float32(1)), scores, warnings)


def _check_shapes(heatmaps: NDArray[np.float32], pafs: NDArray[np.float32], skeleton: Skeleton) -> None:
    """Raise a ValueError unless the maps fit the skeleton and one another."""
    h, w = heatmaps.shape[-2:]
    expected = (skeleton.heat_channels, h, w), (skeleton.paf_channels, h, w)
    if (heatmaps.shape, pafs.shape) != expected or not h * w:
        raise ValueError(
            f"expected heatmaps (K+1={skeleton.heat_channels}, h, w) and pafs (2L={skeleton.paf_channels}, h, w) for "
            f"the skeleton '{skeleton.name}', got {heatmaps.shape} and {pafs.shape}"
        )


def _finite(maps: NDArray[np.float32], name: str, warnings: list[str]) -> NDArray[np.float32]:
    """Return the maps with 0 in the place of NaN and infinities; add a warning if there were any."""
    finite = np.isfinite(maps)
    if finite.all():
        return np.ascontiguousarray(maps, dtype=np.float32)
    warnings.append(not_finite_warning(name, int(np.count_nonzero(~finite)), maps.size))
    return np.where(finite, maps, 0).astype(np.float32)


def not_finite_warning(name: str, count: int, of: int | None = None) -> str:
    """Return the warning about maps in which `count` values, of so many where that is known, are NaN or infinite."""
    number = f"{count}" if of is None else f"{count} of {of}"
    return (
        f"{number} values of the {name} are not finite and were taken as empty: the network or its precision is at "
        "fault."
    )


def _cap_warning(candidates: Candidates, skeleton: Skeleton, settings: DecoderSettings) -> tuple[str, ...]:
    """Return a warning if a joint had more peaks than are kept."""
    left_out = candidates.found - np.count_nonzero(candidates.peaks[:, :, 2], axis=1)
    if left_out.max(initial=0) <= 0:
        return ()
    joint = int(left_out.argmax())
    return (
        f"{int(left_out[joint])} weaker candidates for '{skeleton.joints[joint]}' were left out (max_peaks = "
        f"{settings.max_peaks}): people may be missing.",
    )
