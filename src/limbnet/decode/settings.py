"""Settings of the decoder: how maps become people. They travel inside checkpoints and exported files."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class DecoderSettings:
    """Thresholds of peak finding and grouping; the defaults are BodyPoseNet's.

    Attributes:
        heatmap_threshold: a peak's unsmoothed heatmap value must exceed it.
        paf_threshold: a sample's dot product with the limb's direction must exceed it to qualify.
        limb_samples: points sampled along a candidate limb, both ends included.
        limb_samples_needed: qualifying samples that accept a candidate.
        min_joints: joints a person must have.
        min_score: total score over joints a person must reach.
        weak_heatmap_threshold: with one, peaks above it that nobody holds are given to people who lack that joint
            (see `limbnet.decode.complete`); None, as in BodyPoseNet, leaves them.
        max_peaks: M, peaks kept per joint, best first; a picture that has more is reported.
    """

    heatmap_threshold: float = 0.1
    paf_threshold: float = 0.05
    limb_samples: int = 10
    limb_samples_needed: int = 9
    min_joints: int = 4
    min_score: float = 0.4
    weak_heatmap_threshold: float | None = None
    max_peaks: int = 64

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> DecoderSettings:
        """Rebuild settings from `to_dict`; keys of newer versions are ignored."""
        known = cls.__dataclass_fields__
        return cls(**{key: value for key, value in content.items() if key in known})
