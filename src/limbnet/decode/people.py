"""People: what decoding finds, still in the frame of the network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class People:
    """The P people found in one picture's maps.

    Attributes:
        keypoints: (P, K, 2) float32, x and y in pixels of the network's input, NaN where a joint was not found.
        joint_scores: (P, K) float32, 0 to 1, heatmap value at each joint, 0 where it was not found.
        scores: (P,) float32, 0 to 1, best person first.
        warnings: one sentence for each thing the user should know, such as a cap that was reached.
    """

    keypoints: NDArray[np.float32]
    joint_scores: NDArray[np.float32]
    scores: NDArray[np.float32]
    warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)
