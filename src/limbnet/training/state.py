"""Everything that changes during training, taken out for a checkpoint and put back: a resumed run misses nothing."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor, nn

from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.training.ema import MovingAverage
from limbnet.training.fake_quantise import FakeQuantised
from limbnet.training.precision import Precision


@dataclass
class TrainingState:
    """The network and all that its training has gathered.

    Attributes:
        model: the network with the weights of the last update.
        optimiser: holds the momentum of every parameter.
        precision: holds the loss scale of float16 training.
        average: the moving average of the weights, None when the spec asks for none.
        quantised: computes the network with the roundings of its INT8 export, None in ordinary training.
        epoch: passes over the data done so far.
        start_epoch: the epoch that fine-tuning went on from, 0 otherwise.
        history: a row of `metrics.csv` for each epoch of this run.
        best: `{"epoch": ..., "AP": ...}` of the best validation so far, {} before the first.
    """

    model: nn.Module
    optimiser: torch.optim.Optimizer
    precision: Precision
    average: MovingAverage | None
    quantised: FakeQuantised | None = None
    epoch: int = 0
    start_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, float] = field(default_factory=dict)

    @property
    def network(self) -> nn.Module:
        """What is computed in training."""
        return self.quantised or self.model

    def capture(self) -> dict[str, Any]:
        """Return nested values for a checkpoint; without a moving average the weights themselves are left out."""
        return {
            "epoch": self.epoch,
            "start_epoch": self.start_epoch,
            "history": self.history,
            "best": self.best,
            "optimiser": self._slots(),
            "precision": self.precision.state(),
            "average_updates": self.average.updates if self.average else None,
            "weights": dict(self.model.state_dict()) if self.average else None,
            "ranges": self.quantised.followed() if self.quantised else None,
            "random": torch.get_rng_state(),
        }

    def restore(self, saved: dict[str, Any], weights: dict[str, Tensor]) -> None:
        """Take over what `capture` returned.

        Args:
            saved: the captured values.
            weights: those the checkpoint shows to the world: the average where there is one.
        """
        self.epoch, self.start_epoch = saved["epoch"], saved["start_epoch"]
        self.history, self.best = list(saved["history"]), dict(saved["best"])
        self.model.load_state_dict(saved["weights"] or weights)
        if self.average:
            averaged = {name: tensor.to(self.average.weights[name].device).clone() for name, tensor in weights.items()}
            self.average.weights = averaged
            self.average.updates = saved["average_updates"] or 0
        self._restore_slots(saved["optimiser"])
        self.precision.restore(saved["precision"])
        if self.quantised and saved.get("ranges"):
            self.quantised.follow_on(saved["ranges"])
        torch.set_rng_state(saved["random"])

    def shown_model(self) -> nn.Module:
        """Return a copy of the network as it is saved, validated and deployed: averaged where there is an average."""
        model = copy.deepcopy(self.model)
        if self.average:
            model.load_state_dict(self.average.weights)
        return model

    def shown_network(self) -> nn.Module:
        """Return a copy of what is computed, with the weights of `shown_model`."""
        model = self.shown_model()
        return self.quantised.around(cast(BodyPoseNet, model)) if self.quantised else model

    def _slots(self) -> dict[str, dict[str, Tensor]]:
        """Return the optimiser's tensors by parameter name, in an order that does not depend on how they came about."""
        return {
            name: dict(sorted(self.optimiser.state[parameter].items()))
            for name, parameter in self.model.named_parameters()
            if parameter in self.optimiser.state
        }

    def _restore_slots(self, saved: dict[str, dict[str, Tensor]]) -> None:
        """Put the optimiser's tensors back, in the memory layout of their parameters, as fused kernels need them."""
        for name, parameter in self.model.named_parameters():
            slots: dict[str, Tensor] = {}
            for slot, value in saved.get(name, {}).items():
                like = parameter if value.shape == parameter.shape else value
                slots[slot] = torch.empty_like(like, device=parameter.device).copy_(value)
            if slots:
                self.optimiser.state[parameter] = slots
