"""Weighted momentum against its slow twin and the facts that TAO's own tests assert."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from limbnet.errors import SpecError
from limbnet.specs.optimiser import AdamW, OptimizerSpec, WeightedMomentum
from limbnet.training.optimiser import build_optimiser, layer_multipliers, set_learning_rate, stagewise_multiplier


class SmallNetwork(nn.Module):
    """A few layers under the names of BodyPoseNet."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.add_module("block_1a_conv_1", nn.Conv2d(3, 4, 3, padding=1, bias=False))
        self.add_module("block_1a_bn_1", nn.BatchNorm2d(4))
        for name in ("channel_reduction_conv", "stage1/conv1", "stage1/paf_branch/out", "stage2/conv1", "heatmap_out"):
            self.add_module(name, nn.Conv2d(4, 4, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        for layer in self.children():
            images = layer(images)
        return images


def train_steps(
    model: nn.Module, spec: OptimizerSpec, steps: int = 3, stagewise: bool = False
) -> list[dict[str, Tensor]]:
    """Run `steps` updates; return the gradients of each."""
    optimiser, gradients = build_optimiser(model, spec, stagewise), []
    for step in range(steps):
        set_learning_rate(optimiser, 1e-5 * (step + 1))
        optimiser.zero_grad()
        torch.manual_seed(step)
        model(torch.randn(2, 3, 6, 6)).square().sum().backward()
        gradients.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        optimiser.step()
    return gradients


@pytest.mark.parametrize("nesterov", [False, True])
def test_weighted_momentum_equals_its_definition(nesterov: bool) -> None:
    model, spec = SmallNetwork(), WeightedMomentum(use_nesterov=nesterov, grad_weights_dict={"block_1a_bn_1": 0.3})
    weights = {name: p.detach().double() for name, p in model.named_parameters()}
    velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    multipliers = layer_multipliers(model, spec, stagewise=True)
    assert len(set(multipliers.values())) == 5
    for step, gradients in enumerate(train_steps(model, spec, 5, stagewise=True)):
        rate = 1e-5 * (step + 1)
        for name, k in multipliers.items():
            gradient = k * gradients[name].double()
            velocity[name] = 0.9 * velocity[name] + gradient
            weights[name] = weights[name] - rate * (gradient + 0.9 * velocity[name] if nesterov else velocity[name])
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.detach(), weights[name].float(), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("spec", [WeightedMomentum(weight_default_value=0.0), AdamW(weight_default_value=0.0)])
def test_multiplier_zero_leaves_every_bit(spec: OptimizerSpec) -> None:
    model, before = SmallNetwork(), SmallNetwork().state_dict()
    train_steps(model, spec)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name


def test_alternating_multipliers_change_every_other_layer() -> None:
    model, before = SmallNetwork(), SmallNetwork().state_dict()
    names = [name for name, _ in model.named_parameters()]
    chosen = {name: 0.5 * (number % 2) for number, name in enumerate(names)}
    train_steps(model, WeightedMomentum(grad_weights_dict=chosen))
    changed = [not torch.equal(parameter, before[name]) for name, parameter in model.named_parameters()]
    assert changed == [number % 2 == 1 for number in range(len(names))]


def test_multipliers_of_one_equal_the_plain_optimiser() -> None:
    model, plain = SmallNetwork(), SmallNetwork()
    train_steps(model, WeightedMomentum())
    optimiser = torch.optim.SGD(plain.parameters(), lr=0.0, momentum=0.9)
    for step in range(3):
        optimiser.param_groups[0]["lr"] = 1e-5 * (step + 1)
        optimiser.zero_grad()
        torch.manual_seed(step)
        plain(torch.randn(2, 3, 6, 6)).square().sum().backward()
        optimiser.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(
    ("layer", "kernel", "bias"),
    [
        ("block_1a_conv_1", 1, 2),
        ("channel_reduction_conv", 1, 2),
        ("stage1/conv1", 1, 2),
        ("stage1/paf_branch/out", 1, 2),
        ("stage2/conv1", 4, 8),
        ("stage3/heat_branch/out", 4, 8),
        ("heatmap_out", 4, 8),
        ("paf_out", 4, 8),
    ],
)
def test_stagewise_rules(layer: str, kernel: float, bias: float) -> None:
    assert stagewise_multiplier(layer, "weight") == kernel
    assert stagewise_multiplier(layer, "bias") == bias


def test_own_entries_win_over_the_stagewise_rules() -> None:
    own = {"stage2/conv1": 3.0, "stage2/conv1/bias": 5.0, "heatmap_out.weight": 7.0, "block_1a_bn_1/gamma:0": 9.0}
    spec = WeightedMomentum(grad_weights_dict=own, weight_default_value=0.25)
    multipliers = layer_multipliers(SmallNetwork(), spec, stagewise=True)
    assert multipliers["stage2/conv1.weight"] == 3.0
    assert multipliers["stage2/conv1.bias"] == 5.0
    assert (multipliers["heatmap_out.weight"], multipliers["heatmap_out.bias"]) == (7.0, 8.0)
    assert (multipliers["block_1a_bn_1.weight"], multipliers["block_1a_bn_1.bias"]) == (9.0, 0.25)
    assert multipliers["stage1/conv1.bias"] == 2.0


def test_unknown_layers_are_all_named() -> None:
    spec = WeightedMomentum(grad_weights_dict={"stage2/conv9": 1.0, "heatmap_uot": 2.0})
    with pytest.raises(SpecError) as caught:
        layer_multipliers(SmallNetwork(), spec, stagewise=False)
    assert "stage2/conv9" in str(caught.value)
    assert "Did you mean 'heatmap_out'?" in str(caught.value)


def test_adamw_multiplies_the_learning_rate_and_decays_kernels_only() -> None:
    optimiser = build_optimiser(SmallNetwork(), AdamW(weight_decay=0.1), stagewise=True)
    set_learning_rate(optimiser, 1e-3)
    assert sorted({group["lr"] for group in optimiser.param_groups}) == pytest.approx([1e-3, 2e-3, 4e-3, 8e-3])
    for group in optimiser.param_groups:
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] == 0.1}
