"""The moving average of the weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limbnet.training.ema import MovingAverage


def constant_network(value: float) -> nn.Module:
    model = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)
    return model


def test_average_by_hand() -> None:
    model = constant_network(0.0)
    average = MovingAverage(model, decay=0.15)
    expected = 0.0
    for update in range(4):
        with torch.no_grad():
            for tensor in model.state_dict().values():
                tensor.fill_(update + 1)
        average.update(model)
        decay = [1 / 10, 0.15, 0.15, 0.15][update]  # (1 + n) / (10 + n) until it passes the decay that was asked for
        expected = decay * expected + (1 - decay) * (update + 1)
    for name, tensor in average.weights.items():
        wanted = 4 if name.endswith("num_batches_tracked") else expected
        assert tensor.float().reshape(-1).tolist() == pytest.approx([wanted])
