"""Sensitivity: what each layer costs when it alone is INT8, so that one knows which to keep in float."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbnet.evaluation.coco import KeypointScores
from limbnet.export.executed import multiply_adds
from limbnet.export.quantise import quantise
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine

if TYPE_CHECKING:
    from onnx import ModelProto

#: Returns the scores of an engine on a dataset.
Score = Callable[[OnnxRuntimeEngine], KeypointScores]


@dataclass(frozen=True)
class LayerCost:
    """What one layer costs in INT8, all others in float.

    Attributes:
        layer: the convolution.
        heatmaps, pafs: mean absolute deviation of the maps, as a share of their range.
        multiply_adds: its share of the network's.
        ap_lost: AP of the float network minus AP with this layer in INT8; None when no dataset was given.
    """

    layer: str
    heatmaps: float
    pafs: float
    multiply_adds: float
    ap_lost: float | None = None

    @property
    def cost(self) -> float:
        """What layers are ranked by: the AP lost where it is known, else the larger deviation."""
        return max(self.heatmaps, self.pafs) if self.ap_lost is None else self.ap_lost

    def __str__(self) -> str:
        lost = "" if self.ap_lost is None else f"AP lost {self.ap_lost:+.4f}, "
        return (
            f"{self.layer}: {lost}mean deviation {self.heatmaps:.1e} (heatmaps), {self.pafs:.1e} (fields), "
            f"{100 * self.multiply_adds:.1f} % of the multiply-adds"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)


def sensitivity(
    graph: ModelProto,
    ranges: Mapping[str, float],
    info: ModelInfo,
    images: NDArray[np.uint8],
    *,
    score: Score | None = None,
    threads: int | None = None,
    done: Callable[[], None] | None = None,
) -> list[LayerCost]:
    """Quantise one layer at a time and rank the layers, the most expensive first.

    Args:
        graph: the float32 graph.
        ranges: of `calibrated_tensors`.
        info: the model's.
        images: (B, H, W, 3) uint8 RGB pictures that fill the input.
        score: evaluates an engine on a dataset, which takes as many evaluations as there are layers.
        threads: CPU threads.
        done: called after each layer.
    """

    def engine(model: ModelProto) -> OnnxRuntimeEngine:
        return OnnxRuntimeEngine(network_of(model, Path("sensitivity"), lambda: info), threads=threads)

    counts = multiply_adds(graph)
    reference = engine(graph)
    expected = [reference.run(image[None]) for image in images]
    best = None if score is None else score(reference).kpis()["AP_0.50:0.95_all"]
    spans = {kind: float(np.ptp([getattr(maps, kind) for maps in expected])) or 1.0 for kind in ("heatmaps", "pafs")}
    costs = []
    for layer in counts:
        single = engine(quantise(graph, ranges, [name for name in counts if name != layer]))
        far = {"heatmaps": 0.0, "pafs": 0.0}
        for image, maps in zip(images, expected, strict=True):
            found = single.run(image[None])
            for kind, span in spans.items():
                far[kind] += float(np.abs(getattr(found, kind) - getattr(maps, kind)).mean()) / span / len(images)
        lost = None
        if score is not None and best is not None:
            lost = best - score(single).kpis()["AP_0.50:0.95_all"]
        costs.append(LayerCost(layer, far["heatmaps"], far["pafs"], counts[layer] / sum(counts.values()), lost))
        if done:
            done()
    return sorted(costs, key=lambda cost: -cost.cost)
