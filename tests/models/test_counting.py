"""Parameters and multiply-adds, against sums done by hand."""

from __future__ import annotations

import torch
from networks import make_model, model_spec
from torch import nn

from limbnet.models.bodyposenet import build_model
from limbnet.models.counting import count_cost, count_parameters
from limbnet.skeleton import BODY_18


def test_a_network_counted_by_hand():
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1),  # 12 x 16 outputs of 8 channels, 27 products each
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),  # 9 products each
        nn.ConvTranspose2d(8, 4, 2, stride=2),  # every input value meets 4 x 2 x 2 weights
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 5),
    )
    cost = count_cost(model, (24, 32))
    cells = 12 * 16
    assert cost.by_layer == {"0": cells * 8 * 27, "3": cells * 8 * 9, "4": cells * 8 * 16, "7": 20}
    assert cost.multiply_adds == sum(cost.by_layer.values())
    assert cost.parameters == (216 + 8) + 4 * 8 + 72 + (128 + 4) + 25


def test_bodyposenet_layer_by_layer(small):
    cost = count_cost(small, (40, 64))
    convs = small.conv_layers()
    assert list(cost.by_layer) == list(convs)  # heat before PAF would break the order of the graph
    cells = {1: 40 * 64, 2: 20 * 32, 4: 10 * 16, 8: 5 * 8}
    for name, conv in convs.items():
        stride = {"block_1": 1, "block_2": 2, "block_3": 4}.get(name[:7], 8)
        assert cost.by_layer[name] == conv.weight.numel() * cells[stride]
    assert cost.parameters == count_parameters(small)


def test_counting_leaves_the_network_alone_and_needs_no_memory():
    model = make_model(width=0.05, stages=2).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    count_cost(model, (8000, 8000))
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    with torch.device("meta"):
        whole = build_model(model_spec(), BODY_18)
    assert count_cost(whole, (256, 256)).parameters == 16_777_835
