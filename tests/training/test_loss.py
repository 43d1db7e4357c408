"""The loss against explicit loops and hand-derived values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from limbnet.models.bodyposenet import build_model
from limbnet.skeleton import BODY_18
from limbnet.specs.train import FocalLossParams, ModelSpec
from limbnet.training.loss import PoseLoss, Regularisation, build_loss, map_loss

from .conftest import MakeSpec


def looped_loss(predicted: Tensor, label: Tensor, mask: Tensor, focal: FocalLossParams) -> float:
    """The definition, cell by cell in double precision."""
    total = 0.0
    for index in np.ndindex(*predicted.shape):
        batch, _, row, column = index
        p, g = float(predicted[index]), float(label[index])
        difference = (p - g) * float(mask[batch, 0, row, column])
        if focal.use_focal_loss:
            q = p - focal.alpha if g > focal.bkg_thresh else 1 - p - focal.beta
            difference *= abs(1 - q) ** focal.gamma
        total += difference**2
    return total / 2


@pytest.mark.parametrize("focal", [FocalLossParams(), FocalLossParams(use_focal_loss=True, gamma=1.7)])
@pytest.mark.parametrize("channels", [1, 19, 38])
def test_map_loss_equals_the_definition(channels: int, focal: FocalLossParams) -> None:
    torch.manual_seed(channels)
    predicted, label = torch.randn(2, channels, 5, 4), torch.randn(2, channels, 5, 4)
    mask = torch.rand(2, 1, 5, 4)
    assert map_loss(predicted, label, mask, focal).item() == pytest.approx(
        looped_loss(predicted, label, mask, focal), rel=1e-5
    )


def test_total_by_hand() -> None:
    # Every heatmap cell is off by 1 and every field cell by 2, on one cell of two pictures under masks 1 and 0.5:
    # heatmaps per stage 1/2 (3 * 1 + 3 * 0.25) = 1.875, fields 1/2 (2 * 4 + 2 * 4 * 0.25) = 5, halved by the batch.
    mask = torch.tensor([1.0, 0.5]).reshape(2, 1, 1, 1)
    heatmaps, pafs = [torch.ones(2, 3, 1, 1)] * 2, [torch.full((2, 2, 1, 1), 2.0)] * 2
    losses = PoseLoss(FocalLossParams())(heatmaps, pafs, torch.zeros(2, 3, 1, 1), torch.zeros(2, 2, 1, 1), mask)
    assert losses.total.item() == pytest.approx(2 * (1.875 + 5) / 2)
    named = {name: value.item() for name, value in losses.named().items()}
    assert named["cmap_loss_stage1"] == named["cmap_loss_stage2"] == pytest.approx(0.9375)
    assert named["paf_loss_stage2"] == pytest.approx(2.5)
    assert named["regularisation"] == 0


def test_masks_may_weigh_every_map() -> None:
    torch.manual_seed(0)
    heatmaps, pafs = torch.randn(2, 3, 4, 4), torch.randn(2, 2, 4, 4)
    labels, mask = (torch.zeros_like(heatmaps), torch.zeros_like(pafs)), torch.rand(2, 5, 4, 4)
    losses = PoseLoss(FocalLossParams())([heatmaps], [pafs], *labels, mask)
    both = torch.cat([heatmaps, pafs], dim=1)
    assert losses.total.item() == pytest.approx(((both * mask) ** 2).sum().item() / 4, rel=1e-5)


def test_masked_cells_have_no_gradient() -> None:
    predicted = torch.randn(1, 2, 2, 2, requires_grad=True)
    mask = torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]])
    map_loss(predicted, torch.zeros(1, 2, 2, 2), mask, FocalLossParams()).backward()
    assert predicted.grad is not None
    assert torch.equal(predicted.grad[0, :, 0, 0], predicted.detach()[0, :, 0, 0])
    assert predicted.grad[..., 1].abs().sum() == 0


@pytest.mark.parametrize(("kind", "expected"), [("l1", 0.1 * 6 + 0.5 * 4), ("l2", 0.1 * 14 + 0.5 * 16)])
def test_regularisation_by_hand(kind: str, expected: float) -> None:
    kernel, bias = torch.tensor([1.0, -2.0, 3.0]), torch.tensor([-4.0])
    spec = ModelSpec(regularization_type=kind, kernel_regularization_factor=0.1, bias_regularization_factor=0.5)
    assert Regularisation([kernel], [bias], spec)().item() == pytest.approx(expected)


def test_l1_l2_uses_the_factor_for_both() -> None:
    spec = ModelSpec(regularization_type="l1_l2", kernel_regularization_factor=0.1)
    assert Regularisation([torch.tensor([1.0, -2.0])], [], spec)().item() == pytest.approx(0.1 * 3 + 0.1 * 5)


@pytest.mark.parametrize(
    ("model", "load_graph", "factor"),
    [
        ({}, False, 5e-4),
        ({}, True, 0.0),
        ({"kernel_regularization_factor": 0.25}, True, 0.25),
        ({"regularization_type": "l1"}, True, 5e-4),
        ({"kernel_regularization_factor": 0.0}, False, 0.0),
    ],
)
def test_regularisation_of_a_whole_network(
    model: dict[str, Any], load_graph: bool, factor: float, make_spec: MakeSpec
) -> None:
    retrained = {"load_graph": True, "pretrained_weights": "pruned.tlt"} if load_graph else {}
    spec = make_spec(model=model, **retrained)
    network = build_model(spec.model, BODY_18)
    loss = build_loss(spec, network)
    maps = [torch.zeros(1, 1, 1, 1)]
    total = loss(maps, maps, maps[0], maps[0], torch.ones(1, 1, 1, 1)).total
    kernels = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    assert total.item() == pytest.approx(factor * sum(kernel.abs().sum().item() for kernel in kernels), rel=1e-5)


def test_helnet_is_regularised_behind_its_backbone_only(make_spec: MakeSpec) -> None:
    helnet = {"architecture": "helnet", "nlayers": 6, "mtype": "s8_3rdblock"}
    spec = make_spec(model={"backbone_attributes": helnet, "bias_regularization_factor": 1.0})
    network = build_model(spec.model, BODY_18)
    penalty = build_loss(spec, network).regularisation
    assert penalty is not None
    penalised = {id(weight) for _, group in penalty.terms for weight in group}
    for name, parameter in network.named_parameters():
        assert (id(parameter) in penalised) == (
            name.partition(".")[0] not in network.backbone_layers and "bn" not in name
        )
