"""What two decoders of the same maps disagree about."""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from limbnet.decode.people import People

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
