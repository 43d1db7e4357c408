"""Weighted momentum and AdamW, both with a multiplier per layer.

BodyPoseNet multiplies a parameter's gradient by k before it enters the momentum:

    v <- m v + k g,    w <- w - lr v    (Nesterov: w <- w - lr (k g + m v))

As k never changes during a run and v is linear in g, that equals torch's momentum with the learning rate k lr, so
torch's fused kernels do the work. AdamW is invariant to gradient scale; there k multiplies the learning rate by intent.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from limbnet.errors import SpecError, nearest
from limbnet.specs.optimiser import OptimizerSpec, WeightedMomentum

#: Keras' names of a layer's parameters, as the keys of `grad_weights_dict` may spell them.
KERAS_NAMES: Mapping[str, str] = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}


def stagewise_multiplier(layer: str, kind: str) -> float:
    """Return a convolution's multiplier: 1 for backbone and first stage, 4 for what refines, twice that for biases.

    Args:
        layer: the layer's name, `stage2/conv1` for example.
        kind: `weight` or `bias`.
    """
    refines = "out" in layer if not layer.startswith("stage") else not layer.startswith("stage1")
    return (4.0 if refines else 1.0) * (2.0 if kind == "bias" else 1.0)


def layer_multipliers(model: nn.Module, spec: OptimizerSpec, stagewise: bool) -> dict[str, float]:
    """Return the multiplier of every parameter by its name in `model`.

    Convolutions follow the stage-wise rules when `stagewise` is set; all else has `weight_default_value`. The entries
    of `grad_weights_dict` win over both. Everything goes by layer name, so pruned models keep their multipliers.

    Args:
        model: a network whose parameters are called `<layer>.weight` and `<layer>.bias`.
        spec: the optimiser's section. Keys of its `grad_weights_dict` are layers (`stage1/conv1`) or single parameters
            (`stage1/conv1/kernel`, `stage1/conv1/bias`, `stage1/conv1.weight`).
        stagewise: whether the stage-wise rules hold.

    Raises:
        SpecError: entries of `grad_weights_dict` that name nothing in the network.
    """
    multipliers = {name: spec.weight_default_value for name, _ in model.named_parameters()}
    if stagewise:
        convolutions = {name for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)}
        for name in multipliers:
            layer, kind = name.rpartition(".")[::2]
            if layer in convolutions:
                multipliers[name] = stagewise_multiplier(layer, kind)
    unknown = []
    # Shorter keys first, so that a single parameter wins over its layer.
    for entry, multiplier in sorted((spec.grad_weights_dict or {}).items(), key=lambda item: len(item[0])):
        named = _parameters_named(entry, multipliers)
        if not named:
            unknown.append(entry)
        multipliers |= dict.fromkeys(named, multiplier)
    if unknown:
        layers = {name.rpartition(".")[0] for name in multipliers}
        lines = [f"no layer is called '{entry}'.{nearest(entry, layers)}" for entry in unknown]
        raise SpecError("optimizer.grad_weights_dict is wrong:\n  " + "\n  ".join(lines))
    return multipliers


def _parameters_named(entry: str, parameters: Mapping[str, float]) -> list[str]:
    """Return the parameters that a key of `grad_weights_dict` names: a single one, or all of a layer."""
    entry = entry.removesuffix(":0")
    layer, _, kind = entry.rpartition("/")
    exact = f"{layer}.{KERAS_NAMES[kind]}" if kind in KERAS_NAMES else entry
    if exact in parameters:
        return [exact]
    return [name for name in parameters if name.rpartition(".")[0] == entry]


def build_optimiser(model: nn.Module, spec: OptimizerSpec, stagewise: bool) -> torch.optim.Optimizer:
    """Build the spec's optimiser over the parameters of `model`, grouped by multiplier.

    Each group remembers its `multiplier`; `set_learning_rate` applies it. AdamW decays kernels only: decaying biases
    and batch-norm scales pulls activations towards zero without making the function simpler.
    """
    multipliers = layer_multipliers(model, spec, stagewise)
    decay = 0.0 if isinstance(spec, WeightedMomentum) else spec.weight_decay
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = {}
    for name, parameter in model.named_parameters():
        key = multipliers[name], decay if parameter.ndim > 1 else 0.0
        groups.setdefault(key, []).append((name, parameter))
    listed = [
        {"params": parameters, "multiplier": multiplier, "weight_decay": decays}
        for (multiplier, decays), parameters in groups.items()
    ]
    if isinstance(spec, WeightedMomentum):
        return torch.optim.SGD(listed, lr=0.0, momentum=spec.momentum, nesterov=spec.use_nesterov, fused=True)
    return torch.optim.AdamW(listed, lr=0.0, betas=spec.betas, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the learning rate of the next update, times its multiplier."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["multiplier"]
