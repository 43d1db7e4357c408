"""Limb candidates as ONNX operators: `limbnet.decode.limbs` for every pair of peaks that may be there."""

from __future__ import annotations

import numpy as np

from limbnet.decode.peaks import POINTS
from limbnet.decode.settings import DecoderSettings
from limbnet.export.operators import Value
from limbnet.skeleton import Skeleton


def add_limbs(pafs: Value, points: Value, there: Value, skeleton: Skeleton, settings: DecoderSettings) -> Value:
    """Score all pairs of peaks of all limbs; see `limbnet.decode.limbs.score_limbs`.

    Args:
        pafs: (B, 2 L, h, w), finite.
        points: (B, K, P, 2) column and row of peaks in eighths of a cell.
        there: (B, K, P) 1 for a peak, 0 for none.
        skeleton: joints and limbs.
        settings: thresholds.

    Returns:
        (B, L, P, P), 0 where a pair is not accepted.
    """
    op, most = pafs.op, there.shape().part(2, 3, 0)
    starts, ends = op.integers(*skeleton.limb_starts.tolist()), op.integers(*skeleton.limb_ends.tolist())
    start, end = points.take(starts, 1).unsqueeze(3), points.take(ends, 1).unsqueeze(2)
    vector = end - start  # (B, L, P, P, 2)
    samples = settings.limb_samples
    steps = np.arange(samples, dtype=np.float32) / np.float32(max(samples - 1, 1))
    step = op.constant(steps.reshape(-1, 1, 1, 1))
    origin = op("Expand", start, vector.shape())  # runtimes add arrays of one shape many times faster
    position = op("Round", origin.unsqueeze(2) + step * vector.unsqueeze(2))  # (B, L, S, P, P, 2)
    field = _sampled(pafs, position).reshape(-1, len(skeleton.limbs), 2, samples, most, most)
    unit = vector / (op("Sqrt", (vector * vector).sum(4, keep=True)) + 1e-6)
    along = (field * op("Transpose", unit, perm=[0, 1, 4, 2, 3]).unsqueeze(3)).sum(2)  # (B, L, S, P, P)
    qualifies = along > settings.paf_threshold
    total, number = op.where(qualifies, along, 0).sum(2), qualifies.cast("float32").sum(2)
    pair = there.take(starts, 1).unsqueeze(3) * there.take(ends, 1).unsqueeze(2) > 0
    accepted = (number >= float(settings.limb_samples_needed)) & pair
    return op.where(accepted, (total / number.largest(1)).largest(0), 0)


def _sampled(pafs: Value, position: Value) -> Value:
    """Return (B L, 2, 1, n): the fields, interpolated cubically, at points (B, L, ..., 2) in eighths of a cell.

    GridSample wants places from -1 to 1, the whole map's width or height: point p of W is at (2 p + 1) / W - 1.
    """
    op, shape = pafs.op, pafs.shape()
    height, width = shape.part(2, 3, 0), shape.part(3, 4, 0)
    fields = pafs.reshape(-1, 2, height, width)
    share = op.constant(1) / (op.concat(width, height) * POINTS).cast("float32")
    pairs = position.shape().part(3, 6, 0)
    grid = position * op("Expand", share * 2, pairs) + op("Expand", share - 1, pairs)
    places = grid.reshape(fields.shape().part(0, 1, 0), 1, -1, 2)
    return op("GridSample", fields, places, mode="bicubic", padding_mode="border", align_corners=0)
