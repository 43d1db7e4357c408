"""From the share of multiply-adds that shall stay to the pruning threshold that leaves it."""

from __future__ import annotations

from dataclasses import replace

import torch

from limbnet.errors import UsageError
from limbnet.models.bodyposenet import BodyPoseNet, build_from_architecture
from limbnet.models.counting import Cost, count_cost
from limbnet.pruning import PruneSettings, choose_filters

#: Halvings of the interval that holds the threshold.
_HALVINGS = 24


def planned_cost(model: BodyPoseNet, settings: PruneSettings, size: tuple[int, int]) -> Cost:
    """Return what a network would cost after pruning, without pruning it.

    Raises:
        UsageError: as `choose_filters` does.
    """
    kept = choose_filters(model, settings)
    architecture = model.architecture
    architecture["channels"] |= {name: len(filters) for name, filters in kept.items() if filters is not None}
    with torch.device("meta"):  # only shapes count
        smaller = build_from_architecture(architecture, model.skeleton)
    return count_cost(smaller, size)


def threshold_for(
    model: BodyPoseNet, keep: float, settings: PruneSettings, size: tuple[int, int]
) -> tuple[float, Cost]:
    """Return the smallest threshold that leaves at most `keep` of the multiply-adds, and what is left.

    Where the least filters and the excluded layers alone cost more, the threshold that removes most is returned.

    Args:
        model: the network to prune.
        keep: share of its multiply-adds, 0 to 1.
        settings: everything but the threshold.
        size: (height, width) of the input.
    """
    unpruned = planned_cost(model, replace(settings, threshold=0.0), size)  # also refuses wrong settings
    wanted = keep * unpruned.multiply_adds

    def cost(threshold: float) -> Cost | None:
        """What is left, None where nothing would be."""
        try:
            return planned_cost(model, replace(settings, threshold=threshold), size)
        except UsageError:
            return None

    low, high = 0.0, 1.0
    most = (low, unpruned)
    while (found := cost(high)) is not None and found.multiply_adds > wanted:  # norms by L2 may exceed 1
        low, most, high = high, (high, found), 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        found = cost(middle)
        if found is not None and found.multiply_adds > wanted:
            low, most = middle, (middle, found)
        else:
            high = middle
    enough = cost(high)
    return (high, enough) if enough is not None else most
