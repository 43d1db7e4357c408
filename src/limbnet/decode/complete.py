"""Completing people: joints too faint to found anybody are given to people who lack them.

A network that is unsure draws many joints below the heatmap threshold. With a lower threshold they would found people
who are not there; but where somebody stands already, a faint peak at the end of a limb that points at it is most likely
his. Two thresholds, the weak following the strong, are what Canny 1986 calls hysteresis. BodyPoseNet does not do it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.limbs import Fields, as_complex, interleave
from limbnet.decode.peaks import POINTS, Peaks, find_peaks
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import Skeleton

#: The share of a limb's samples along which the field must point from start to end, however weakly.
SHARE = 0.6

#: The longest limb that is given, as a share of the longer side of the box around the person's joints. Without a limit
#: legs reach over to neighbours.
LONGEST = 0.6


def complete_people(
    people: People,
    heatmaps: NDArray[np.float32],
    pafs: NDArray[np.float32],
    skeleton: Skeleton,
    *,
    stride: int,
    settings: DecoderSettings,
) -> People:
    """Give people the joints they lack from peaks above the weak threshold that nobody holds.

    Limbs from a held joint to a free peak are rated by the peak's value plus the mean of the field's positive dot
    products along them; the best go first, a peak goes to one person, and what was given may lead to more. Nobody is
    founded, merged or loses a joint, and scores of people stay.

    Args:
        people: those found with the usual thresholds, in pixels of the network's input.
        heatmaps: (K, h, w) float32, finite, without the background.
        pafs: (2 L, h, w) float32, finite.
        skeleton: joints and limbs.
        stride: network-input pixels a cell.
        settings: `weak_heatmap_threshold` must be set.
    """
    assert settings.weak_heatmap_threshold is not None
    if not np.isnan(people.keypoints).any():
        return people
    peaks = find_peaks(heatmaps, stride, settings.weak_heatmap_threshold, settings.max_peaks)
    keypoints, values = people.keypoints.copy(), people.joint_scores.copy()
    free = _free(peaks, keypoints, stride)
    ways = _Ways(peaks.refined, interleave(pafs), skeleton, stride, settings.limb_samples)
    while True:
        offers = ways.offers(keypoints, free)
        if not len(offers.ratings):
            return People(keypoints, values, people.scores, people.warnings)
        for best in np.argsort(-offers.ratings, kind="stable").tolist():
            person, joint, peak = (int(of[best]) for of in (offers.people, offers.joints, offers.peaks))
            if free[joint, peak] and np.isnan(keypoints[person, joint, 0]):
                free[joint, peak] = False
                keypoints[person, joint] = peaks.refined[joint, peak, :2]
                values[person, joint] = min(peaks.refined[joint, peak, 2], 1)


def _free(peaks: Peaks, keypoints: NDArray[np.float32], stride: int) -> NDArray[np.bool_]:
    """Return (K, M) which peaks are there and further than half a cell from that joint of everybody."""
    there = np.arange(peaks.refined.shape[1]) < peaks.counts[:, None]
    apart = np.abs(peaks.refined[:, None, :, :2] - keypoints.transpose(1, 0, 2)[:, :, None]).max(axis=3)
    return np.asarray(there & ~(apart < stride / 2).any(axis=1))


class _Offers(NamedTuple):
    """N limbs that would add a joint to a person.

    Attributes:
        ratings: (N,) float32.
        people, joints, peaks: (N,) who would get it, which joint it is, and which of its peaks.
    """

    ratings: NDArray[np.float32]
    people: NDArray[np.intp]
    joints: NDArray[np.intp]
    peaks: NDArray[np.intp]


@dataclass(frozen=True)
class _Ways:
    """What leads from joints to peaks.

    Attributes:
        peaks: (K, M, 3) float32, x, y and value.
        fields: the part affinity fields.
        skeleton: joints and limbs.
        stride: network-input pixels a cell.
        samples: points read along a limb.
    """

    peaks: NDArray[np.float32]
    fields: Fields
    skeleton: Skeleton
    stride: int
    samples: int

    def offers(self, keypoints: NDArray[np.float32], free: NDArray[np.bool_]) -> _Offers:
        """Return the limbs from joints that a person has to free peaks of joints that the person lacks."""
        starts, ends = self.skeleton.limb_starts, self.skeleton.limb_ends
        held, lacked = np.concatenate([starts, ends]), np.concatenate([ends, starts])
        lacks = np.isnan(keypoints[:, :, 0])
        person, way = np.nonzero(~lacks[:, held] & lacks[:, lacked])
        which, peak = np.nonzero(free[lacked[way]])
        person, way = person[which], way[which]
        vector = self.peaks[lacked[way], peak, :2] - keypoints[person, held[way]]
        extent = (np.nanmax(keypoints, axis=1) - np.nanmin(keypoints, axis=1)).max(axis=1)
        near = np.flatnonzero(np.hypot(*vector.T) <= LONGEST * extent[person])
        near = near[np.argsort(way[near] % len(starts), kind="stable")]
        person, way, peak, vector = person[near], way[near], peak[near], vector[near].T
        joint = lacked[way]
        along = self._along(way % len(starts), keypoints[person, held[way]].T, vector)
        along *= np.where(way < len(starts), np.float32(1), np.float32(-1))  # fields point from start to end
        points_there = along > 0
        count = np.count_nonzero(points_there, axis=0)
        ratings = self.peaks[joint, peak, 2] + (along * points_there).sum(axis=0) / np.maximum(count, 1)
        fit = np.flatnonzero(count >= SHARE * self.samples)
        return _Offers(ratings[fit], person[fit], joint[fit], peak[fit])

    def _along(
        self, limb: NDArray[np.intp], origin: NDArray[np.float32], vector: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return (S, N) dot products of ascending limbs' fields with unit vectors, given (2, N) in input pixels."""
        eighths = np.float32(POINTS / self.stride)
        origin = (origin - (self.stride - 1) / 2) * eighths + (POINTS - 1) / 2
        steps = np.linspace(0, 1, self.samples, dtype=np.float32)
        starts, vectors = (as_complex(points.T) for points in (origin, vector * eighths))
        return self.fields.along(starts + self.fields.lifts.take(limb), vectors, steps)
