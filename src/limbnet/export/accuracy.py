"""What an exported file costs in AP, measured on the file itself, and the limit that it must keep."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from limbnet.console import progress
from limbnet.errors import ModelFileError
from limbnet.evaluation.bootstrap import bootstrap_difference
from limbnet.evaluation.coco import KeypointScores
from limbnet.evaluation.dataset import TestData, evaluate_dataset, load_test_data
from limbnet.runtime.engine import Engine
from limbnet.runtime.predictor import PoseEstimator
from limbnet.skeleton import Skeleton
from limbnet.specs.dataset import DatasetSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class AccuracyLimit:
    """A dataset to measure on, and the largest loss of AP that is accepted (None: measure and accept)."""

    dataset: DatasetSpec
    max_ap_drop: float | None = None

    def scorer(self, skeleton: Skeleton, size: tuple[int, int]) -> Callable[[Engine], KeypointScores]:
        """Return a function that scores an engine on the dataset with padded pictures of one (height, width)."""
        return partial(strict_scores, data=load_test_data(self.dataset, skeleton), size=size)

    def check(self, reference: Engine, engine: Engine, size: tuple[int, int]) -> dict[str, Any]:
        """Evaluate torch and the exported file in strict mode and return both APs and their paired difference.

        Raises:
            ModelFileError: the file loses more than `max_ap_drop`.
        """
        score = self.scorer(reference.info.skeleton, size)
        before, after = score(reference), score(engine)
        interval = bootstrap_difference(before, after)
        result = {
            "torch": before.kpis(),
            "file": after.kpis(),
            "engine": engine.name,
            "difference": interval.value,
            "interval": [interval.low, interval.high],
        }
        log.info("AP of the file minus AP of torch: %s", interval)
        if self.max_ap_drop is not None and -interval.value > self.max_ap_drop:
            raise ModelFileError(
                f"The exported file loses {-interval.value:.4f} AP, more than --max_ap_drop {self.max_ap_drop}: "
                "it was not written.",
                "Calibrate with more pictures or another --calibration method into a new --cal_cache_file, or keep the "
                "layers in float that --sensitivity ranks first (--float_layers).",
            )
        return result


def strict_scores(engine: Engine, data: TestData, size: tuple[int, int]) -> KeypointScores:
    """Return the scores of an engine with padded pictures of one size."""
    estimator = PoseEstimator(engine, input_size=size, fit_mode="pad_image_input", scales=(1.0,))
    with progress() as bars:
        task = bars.add_task(f"evaluate {engine.name}", total=len(data.images))
        return evaluate_dataset(estimator, data, lambda *_: bars.advance(task)).scores
