"""What two decoders of the same maps disagree about."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import reference_decoder
from crowds import STRIDE, Crowd
from scipy.optimize import linear_sum_assignment

from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18

#: Joints may differ by this many pixels of the network's input.
TOLERANCE = 2.0


def disagreements(one: People, other: People, tolerance: float = TOLERANCE) -> list[str]:
    """List people and joints that only one of the two found, and joints that lie apart; [] when they agree."""
    apart = np.linalg.norm(one.keypoints[:, None].astype(float) - other.keypoints[None], axis=-1)  # (P, P', K)
    shared = np.nan_to_num(apart, nan=np.inf) <= tolerance
    mine, theirs = linear_sum_assignment(-shared.sum(axis=-1))
    pairs = [(i, j) for i, j in zip(mine.tolist(), theirs.tolist(), strict=True) if shared[i, j].any()]
    found = [f"person {i} of the first is not in the second" for i in set(range(len(one))) - {i for i, _ in pairs}]
    found += [f"person {j} of the second is not in the first" for j in set(range(len(other))) - {j for _, j in pairs}]
    for i, j in pairs:
        here, there = ~np.isnan(one.keypoints[i, :, 0]), ~np.isnan(other.keypoints[j, :, 0])
        found += [f"joint {k} of person {i}/{j} is only in the first" for k in np.flatnonzero(here & ~there)]
        found += [f"joint {k} of person {i}/{j} is only in the second" for k in np.flatnonzero(there & ~here)]
        found += [
            f"joint {k} of person {i}/{j} lies {apart[i, j, k]:.2f} px apart"
            for k in np.flatnonzero(here & there & ~shared[i, j])
        ]
    return found


def is_tie(crowd: Crowd, settings: DecoderSettings, margin: float = 1e-5) -> bool:
    """Tell whether a decision of the original procedure on the crowd's maps hangs on less than the margin.

    Then single precision may decide either way: a peak at the threshold, a sample at the threshold, or two candidates
    of one limb that share an end and score alike.
    """
    joints = len(BODY_18.joints)
    upsampled = reference_decoder.upsample(crowd.heatmaps[:joints], STRIDE)
    low, high = settings.heatmap_threshold - margin, settings.heatmap_threshold + margin
    peaks = [reference_decoder.find_peaks(one, low) for one in upsampled]
    if any(value < high for found in peaks for _, _, value in found):
        return True
    fields = reference_decoder.upsample(crowd.pafs, STRIDE).reshape(len(BODY_18.limbs), 2, *upsampled.shape[1:])
    lenient = replace(settings, paf_threshold=settings.paf_threshold - margin)
    strict = replace(settings, paf_threshold=settings.paf_threshold + margin)
    for field, (start, end) in zip(fields, BODY_18.limbs, strict=True):
        scores = np.zeros((len(peaks[start]), len(peaks[end])))
        for i, j in np.ndindex(scores.shape):
            score, count = reference_decoder.pair_score(field, peaks[start][i], peaks[end][j], lenient)
            if count != reference_decoder.pair_score(field, peaks[start][i], peaks[end][j], strict)[1]:
                return True
            scores[i, j] = score * (count >= settings.limb_samples_needed)
        for lines in (scores, scores.T):
            ordered = np.sort(lines, axis=1)
            if ((np.diff(ordered, axis=1) < margin) & (ordered[:, 1:] > 0)).any():
                return True
    return False
