"""Losses of published networks: by hand, and against a twin in loops."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from limbnet.training.zoo.losses import heatmap_loss, joint_loss, offset_loss, tag_losses


def test_joint_loss_by_hand() -> None:
    """Two joints of four cells: errors 1 everywhere, the second joint not labelled: 1/2 (4 x 1 + 4 x 0) / 8."""
    predicted, label = torch.ones(1, 2, 2, 2), torch.zeros(1, 2, 2, 2)
    assert float(joint_loss(predicted, label, torch.tensor([[1.0, 0.0]]))) == pytest.approx(0.25)
    assert float(joint_loss(predicted, label, torch.tensor([[1.0, 1.0]]))) == pytest.approx(0.5)


def test_heatmap_loss_does_not_square_its_weights() -> None:
    predicted, label = torch.full((1, 2, 2, 2), 3.0), torch.ones(1, 2, 2, 2)
    assert float(heatmap_loss(predicted, label, torch.full((1, 1, 2, 2), 0.1))) == pytest.approx(0.4)
    assert float(heatmap_loss(predicted, label, torch.ones(1, 2, 2, 2))) == pytest.approx(4)


def tags_by_hand() -> tuple[Tensor, Tensor]:
    """One picture, two joints in 2x2 maps; person 1 has the tags 1 and 3, person 2 the tag 5, person 3 none."""
    tags = torch.tensor([[[[1.0, 9], [9, 5]], [[9, 3], [9, 9]]]])
    cells = torch.tensor([[[0, 4 + 1], [3, -1], [-1, -1]]])
    return tags, cells


def test_tag_losses_by_hand() -> None:
    """Means 2 and 5: pull = ((1 + 1) / 2 + 0) / 2; push = 1/2 (2 exp(-9)) / 2."""
    push, pull = tag_losses(*tags_by_hand())
    assert float(pull) == pytest.approx(0.5)
    assert float(push) == pytest.approx(0.5 * math.exp(-9))


def test_one_person_is_not_pushed_and_nobody_costs_nothing() -> None:
    tags, cells = tags_by_hand()
    push, pull = tag_losses(tags, cells[:, :1])
    assert (float(push), float(pull)) == (0, 1)
    push, pull = tag_losses(tags, cells[:, 2:])
    assert (float(push), float(pull)) == (0, 0)
    push, pull = tag_losses(tags, cells[:, :0])
    assert (float(push), float(pull)) == (0, 0)


def slow_tag_losses(tags: Tensor, cells: Tensor) -> tuple[float, float]:
    pushes, pulls = [], []
    for picture, people in zip(tags.flatten(1), cells, strict=True):
        read = [[float(picture[place]) for place in person if place >= 0] for person in people]
        read = [person for person in read if person]
        means = [sum(person) / len(person) for person in read]
        pull = sum(sum((t - m) ** 2 for t in p) / len(p) for p, m in zip(read, means, strict=True))
        pulls.append(pull / len(read) if read else 0.0)
        push = sum(math.exp(-((a - b) ** 2)) for i, a in enumerate(means) for j, b in enumerate(means) if i != j)
        pushes.append(0.5 * push / (len(means) * (len(means) - 1)) if len(means) > 1 else 0.0)
    return sum(pushes) / len(pushes), sum(pulls) / len(pulls)


@pytest.mark.parametrize("seed", range(5))
def test_tag_losses_equal_the_twin_in_loops(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    tags = torch.randn(3, 4, 5, 6, generator=random)
    cells = torch.randint(-60, 4 * 30, (3, 5, 4), generator=random).clamp(min=-1)
    push, pull = tag_losses(tags, cells)
    expected = slow_tag_losses(tags, cells)
    assert (float(push), float(pull)) == pytest.approx(expected, rel=1e-5)


def test_tags_that_are_not_read_have_no_gradient() -> None:
    tags, cells = tags_by_hand()
    tags.requires_grad_()
    push, pull = tag_losses(tags, cells)
    (push + pull).backward()
    touched = tags.grad != 0
    assert touched.flatten().nonzero().flatten().tolist() == [0, 3, 5]


def test_offset_loss_by_hand() -> None:
    """Errors 2 and 0.01 at weights 0.5 and 0.25, a third without weight: over the two that count."""
    predicted = torch.tensor([2.0, 0.01, 7.0]).view(1, 3, 1, 1)
    weights = torch.tensor([0.5, 0.25, 0.0]).view(1, 3, 1, 1)
    expected = (0.5 * (2 - 1 / 18) + 0.25 * 0.5 * 0.01**2 * 9) / 2
    assert float(offset_loss(predicted, torch.zeros(1, 3, 1, 1), weights)) == pytest.approx(expected)
    assert float(offset_loss(predicted, torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 1, 1))) == 0


def test_losses_are_float32_whatever_the_network_computes_in() -> None:
    half = torch.full((1, 1, 2, 2), 0.1, dtype=torch.bfloat16)
    label = torch.zeros(1, 1, 2, 2)
    assert joint_loss(half, label, torch.ones(1, 1)).dtype == torch.float32
    assert heatmap_loss(half, label, label + 1).dtype == torch.float32
    assert offset_loss(half, label, label + 1).dtype == torch.float32
    assert tag_losses(half, torch.zeros(1, 1, 1, dtype=torch.int64))[1].dtype == torch.float32
