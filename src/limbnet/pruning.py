"""Pruning: filters of small norm are removed, and every layer that read them shrinks with them.

The criterion and the counts are those of TAO, a minimum weight norm (Li et al. 2017, "Pruning filters for efficient
convnets"); the surgery follows torch-pruning's dependency graph (Fang et al. 2023). Outputs are never pruned.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import UsageError, missing_package, nearest

if TYPE_CHECKING:  # torch is imported where it is used: the command's help needs only the settings
    import torch
    from torch import nn

    from limbnet.models.bodyposenet import BodyPoseNet

Normalizer = Literal["max", "L2"]
Equalization = Literal["union", "intersection", "arithmetic_mean", "geometric_mean"]

NORMALIZERS: tuple[Normalizer, ...] = ("max", "L2")
EQUALIZATIONS: tuple[Equalization, ...] = ("union", "intersection", "arithmetic_mean", "geometric_mean")


@dataclass(frozen=True)
class PruneSettings:
    """What counts as a small filter, and how many filters stay at least.

    Attributes:
        threshold: filters whose normalised norm exceeds it stay; 0 removes nothing.
        normalizer: `max` divides norms by the largest of the layer; `L2` by the root of the sum of their squares, times
            the number of filters.
        equalization: how norms of layers that meet in a sum or product are combined.
        granularity: kept filters are rounded up to a multiple of it.
        min_filters: filters a layer keeps whatever their norm.
        excluded: names of layers that stay whole.
    """

    threshold: float = 0.1
    normalizer: Normalizer = "max"
    equalization: Equalization = "union"
    granularity: int = 8
    min_filters: int = 16
    excluded: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return {**vars(self), "excluded": list(self.excluded)}


def prune(model: BodyPoseNet, settings: PruneSettings) -> BodyPoseNet:
    """Return a smaller copy of the network; `model` is left as it was.

    Raises:
        UsageError: excluded layers that do not exist, or a threshold that no filter of any layer passes.
    """
    copy = rebuild(model, model.state_dict())
    kept = {name: filters for name, filters in choose_filters(copy, settings).items() if filters is not None}
    if kept:
        design = copy.design
        # Its levels share their layers: one tells what hangs together.
        copy.design = replace(design, image_pyramid_levels=1)
        _cut(copy, kept)
        copy.design = design
    return rebuild(copy, copy.state_dict())


def rebuild(model: BodyPoseNet, weights: Mapping[str, torch.Tensor]) -> BodyPoseNet:
    """Build a fresh network of the same architecture with copies of `weights`, in evaluation mode on the CPU.

    Building it from its description proves that the description in the saved file will fit its weights.
    """
    from limbnet.models.bodyposenet import build_from_architecture

    fresh = build_from_architecture(model.architecture, model.skeleton)
    fresh.load_state_dict({name: tensor.detach().cpu() for name, tensor in weights.items()})
    return fresh.eval()


def choose_filters(model: BodyPoseNet, settings: PruneSettings) -> dict[str, NDArray[np.intp] | None]:
    """Choose the filters that each convolution keeps: ascending indices by layer name, None where all stay."""
    convolutions = model.conv_layers()
    unknown = [f"'{name}'.{nearest(name, convolutions)}" for name in settings.excluded if name not in convolutions]
    if unknown:
        raise UsageError(
            "There are no layers to exclude called " + " ".join(unknown),
            f"The network's convolutions: {', '.join(convolutions)}.",
        )
    whole = {*settings.excluded, *model.output_layers}
    kept: dict[str, NDArray[np.intp] | None] = {}
    passed = False
    for unit in _units(convolutions, model.elementwise_groups):
        keep = None
        if settings.threshold > 0 and not whole & set(unit):
            norms = [normalised_norms(convolutions[name].weight, settings.normalizer) for name in unit]
            score = _combine(norms, settings.equalization)
            passed |= bool(np.any(score > settings.threshold))
            keep = filters_to_keep(score, settings)
        kept |= dict.fromkeys(unit, keep)
    if settings.threshold > 0 and not passed and any(keep is not None for keep in kept.values()):
        raise UsageError(
            f"The threshold {settings.threshold:g} removes every filter: no layer has one whose norm exceeds it.",
            "With the normalizer max norms lie between 0 and 1 (0.05 to 0.5 are usual); "
            "with L2 they lie around the root of the number of filters.",
        )
    return {name: None if keep is None or len(keep) == convolutions[name].out_channels else keep
            for name, keep in kept.items()}  # fmt: skip


def normalised_norms(kernel: torch.Tensor, normalizer: Normalizer) -> NDArray[np.float64]:
    """Return the L2 norm of each filter of a kernel (N, C, kh, kw), normalised; (N,). Biases do not count."""
    import torch

    norms = torch.linalg.vector_norm(kernel.detach().cpu().double().flatten(1), dim=1).numpy()
    if not norms.any():
        return np.zeros_like(norms)
    if normalizer == "max":
        return np.asarray(norms / norms.max())
    return np.asarray(norms / np.sqrt(np.sum(norms**2)) * len(norms))


def filters_to_keep(score: NDArray[np.float64], settings: PruneSettings) -> NDArray[np.intp]:
    """Return the ascending indices of the filters that stay, best scores first; of equal scores the first one stays."""
    total = len(score)
    count = max(int(np.sum(score > settings.threshold)), min(settings.min_filters, total))
    count = min(-(-count // settings.granularity) * settings.granularity, total)
    return np.sort(np.argsort(-score, kind="stable")[:count])


def _units(convolutions: Mapping[str, nn.Conv2d], elementwise: Sequence[tuple[str, ...]]) -> Iterator[tuple[str, ...]]:
    """Yield the sets of convolutions that must keep the same filters; most hold a single one."""
    together: dict[str, tuple[str, ...]] = {}
    for group in elementwise:
        merged = dict.fromkeys(name for member in group for name in together.get(member, (member,)))
        together |= dict.fromkeys(merged, tuple(merged))
    seen: set[str] = set()
    for name in convolutions:
        unit = together.get(name, (name,))
        if not seen & set(unit):
            yield unit
        seen |= set(unit)


def _combine(norms: Sequence[NDArray[np.float64]], equalization: Equalization) -> NDArray[np.float64]:
    stacked = np.stack(norms)
    match equalization:
        case "union":
            return np.asarray(stacked.max(axis=0))
        case "intersection":
            return np.asarray(stacked.min(axis=0))
        case "arithmetic_mean":
            return np.asarray(stacked.mean(axis=0))
        case "geometric_mean":
            return np.asarray(np.prod(stacked, axis=0) ** (1 / len(stacked)))


def _cut(model: BodyPoseNet, kept: Mapping[str, NDArray[np.intp]]) -> None:
    """Cut the network in place to the kept filters, through the dependency graph."""
    import torch

    try:
        import torch_pruning as tp
    except ImportError as error:
        raise missing_package("torch-pruning", "Pruning") from error
    side = 4 * model.stride
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=torch.zeros(1, 3, side, side))
    convolutions = model.conv_layers()
    original = {name: layer.out_channels for name, layer in convolutions.items()}
    for unit in _units(convolutions, model.elementwise_groups):
        if unit[0] not in kept:
            continue
        remove = np.setdiff1d(np.arange(original[unit[0]]), kept[unit[0]]).tolist()
        graph.get_pruning_group(convolutions[unit[0]], tp.prune_conv_out_channels, idxs=remove).prune()
    wrong = {
        name: layer.out_channels
        for name, layer in model.conv_layers().items()
        if layer.out_channels != len(kept.get(name, range(original[name])))
    }
    if wrong:
        raise RuntimeError(f"the dependency graph cut other filters than chosen: {wrong}")
