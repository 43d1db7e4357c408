"""Ranges that quantisation-aware training found: they travel in the checkpoint, bound to its very weights."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from limbnet.errors import ModelFileError
from limbnet.export.calibrate import input_range
from limbnet.export.graph import model_hash
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.info import ModelInfo

log = logging.getLogger(__name__)

#: The entry of `ModelInfo.extra`.
ENTRY = "int8_ranges"


def to_store(model: BodyPoseNet, info: ModelInfo, ranges: Mapping[str, float]) -> dict[str, Any]:
    """Return the entry for `ModelInfo.extra` that keeps the ranges of a network's tensors."""
    return {ENTRY: {"model_hash": model_hash(model, info), "ranges": dict(ranges)}}


def stored_ranges(info: ModelInfo, network_hash: str) -> dict[str, float] | None:
    """Return the ranges by tensor that a checkpoint holds, None when it holds none for these weights.

    Weights that were changed since (pruned, stored as float16) need other ranges; that is said.
    """
    stored = info.extra.get(ENTRY)
    if stored is not None and stored["model_hash"] != network_hash:
        log.warning("The INT8 ranges in the model file belong to other weights: they are not used.")
        return None
    return stored and {name: float(limit) for name, limit in stored["ranges"].items()}


def trained_ranges(stored: Mapping[str, float], tensors: Sequence[str], info: ModelInfo) -> dict[str, float]:
    """Return the ranges of `calibrated_tensors`. The first is the input, whose name depends on the file's layout.

    Raises:
        ModelFileError: some are not stored.
    """
    first, *others = tensors
    missing = [name for name in others if name not in stored]
    if missing:
        raise ModelFileError(
            f"The INT8 ranges in the model file lack {len(missing)} tensors ({', '.join(missing[:3])}, ...).",
            "Another version of limbnet found them: calibrate with --force_ptq.",
        )
    return {first: input_range(info), **{name: stored[name] for name in others}}
