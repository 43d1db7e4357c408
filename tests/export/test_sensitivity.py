"""The sensitivity report ranks layers by what they really cost."""

from __future__ import annotations

import numpy as np
import pytest

from limbnet.export.executed import multiply_adds
from limbnet.export.sensitivity import sensitivity


@pytest.fixture(scope="module")
def costs(network, ranges, info, pictures):
    """Of a network whose ranges are right, but for one layer's that is forty times too wide."""
    wrong = dict(ranges) | {"stage1/conv2/relu": 40 * ranges["stage1/conv2/relu"]}
    return sensitivity(network.model, wrong, info, pictures[:2], threads=1)


def test_every_layer_is_ranked_once(network, model, costs) -> None:
    assert sorted(cost.layer for cost in costs) == sorted(model.conv_layers())
    assert [cost.cost for cost in costs] == sorted((cost.cost for cost in costs), reverse=True)
    assert sum(cost.multiply_adds for cost in costs) == pytest.approx(1.0)
    assert all(np.isfinite(cost.cost) and cost.cost > 0 for cost in costs)


def test_the_broken_layer_comes_first(network, costs) -> None:
    """`stage1/conv2` writes the tensor whose scale is wrong and `stage1/conv3` reads it."""
    assert {cost.layer for cost in costs[:2]} == {"stage1/conv2", "stage1/conv3"}
    assert costs[1].cost > 3 * costs[2].cost


def test_a_dataset_decides_by_ap(network, ranges, info, pictures) -> None:
    class Scores:
        def __init__(self, ap: float) -> None:
            self.ap = ap

        def kpis(self) -> dict[str, float]:
            return {"AP_0.50:0.95_all": self.ap}

    aps = iter([0.5, *(0.5 - 0.01 * number for number in range(100))])
    ranked = sensitivity(network.model, ranges, info, pictures[:1], score=lambda _: Scores(next(aps)), threads=1)
    assert [cost.layer for cost in ranked] == list(multiply_adds(network.model))[::-1]  # later layers lost more
    assert [cost.cost for cost in ranked] == pytest.approx([0.01 * n for n in range(len(ranked) - 1, -1, -1)])
