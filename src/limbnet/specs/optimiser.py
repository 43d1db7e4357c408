"""Schema of the optimisers and learning-rate schedules that every train spec chooses from."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from limbnet.specs.base import Section, class_name, without_effect


class SoftstartAnnealing(Section):
    """Soft start, plateau, annealing, all on a logarithmic scale."""

    class_name: Literal["SoftstartAnnealingLearningRateSchedule"] = class_name("SoftstartAnnealingLearningRateSchedule")
    soft_start: float = Field(0.05, ge=0, le=1)
    annealing: float = Field(0.5, ge=0, le=1)
    base_learning_rate: float = Field(2e-5, gt=0)
    min_learning_rate: float = Field(8e-8, gt=0)
    last_step: int | None = without_effect(None, "the last step follows from the epochs and the records")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.min_learning_rate > self.base_learning_rate:
            yield "min_learning_rate", f"is above base_learning_rate {self.base_learning_rate:g}"


class ExponentialDecay(Section):
    """Exponential decay by epochs, continuous or in steps."""

    class_name: Literal["BpNetExponentialDecayLRSchedule"] = class_name("BpNetExponentialDecayLRSchedule")
    learning_rate: float = Field(gt=0)
    decay_epochs: float = Field(gt=0)
    decay_rate: float = Field(gt=0)
    staircase: bool = False
    min_learning_rate: float = Field(0.0, ge=0)


class PlannedEpochs(Section):
    """From epoch `first_epoch` (0 is the first) on, the rate is that of a run of `num_epoch` epochs."""

    first_epoch: int = Field(ge=0)
    num_epoch: int = Field(gt=0)


class CosineSchedule(Section):
    """limbnet's own: linear warm-up over a share of the steps, then half a cosine down to the minimum.

    `planned_epochs` repeats a run whose number of epochs was changed on the way. Before the first of them, and without
    any, the whole run's number counts.
    """

    class_name: Literal["CosineLearningRateSchedule"] = class_name("CosineLearningRateSchedule")
    learning_rate: float = Field(1e-3, gt=0)
    warmup: float = Field(0.02, ge=0, lt=1)
    min_learning_rate: float = Field(0.0, ge=0)
    planned_epochs: tuple[PlannedEpochs, ...] = ()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        epochs = [plan.first_epoch for plan in self.planned_epochs]
        if epochs != sorted(set(epochs)):
            yield "planned_epochs", f"has the first epochs {epochs}, which must rise"
        for plan, following in itertools.pairwise(self.planned_epochs):
            if plan.num_epoch < following.first_epoch:
                yield "planned_epochs", f"plans {plan.num_epoch} epochs and goes on to epoch {following.first_epoch}"


class MultiStepSchedule(Section):
    """limbnet's own: the rate is multiplied by `factor` when each of `drop_epochs` (0 is the first) begins.

    Over the first `warmup_steps` updates it rises in a straight line, beginning at the share `warmup_ratio`.
    """

    class_name: Literal["MultiStepLearningRateSchedule"] = class_name("MultiStepLearningRateSchedule")
    learning_rate: float = Field(1e-3, gt=0)
    drop_epochs: tuple[int, ...] = (170, 200)
    factor: float = Field(0.1, gt=0, le=1)
    warmup_steps: int = Field(0, ge=0)
    warmup_ratio: float = Field(0.001, ge=0, le=1)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if list(self.drop_epochs) != sorted(set(self.drop_epochs)):
            yield "drop_epochs", f"is {list(self.drop_epochs)}: epochs must rise"


Schedule = Annotated[
    SoftstartAnnealing | ExponentialDecay | CosineSchedule | MultiStepSchedule, Field(discriminator="class_name")
]


class WeightedMomentum(Section):
    """Momentum whose gradients are multiplied layer by layer."""

    class_name: Literal["WeightedMomentumOptimizer"] = class_name("WeightedMomentumOptimizer")
    learning_rate_schedule: Schedule = SoftstartAnnealing()
    grad_weights_dict: dict[str, float] | None = None
    weight_default_value: float = 1.0
    momentum: float = Field(0.9, ge=0, lt=1)
    use_nesterov: bool = False


class AdamW(Section):
    """limbnet's own: AdamW, with the same layer multipliers on the learning rate."""

    class_name: Literal["AdamWOptimizer"] = class_name("AdamWOptimizer")
    learning_rate_schedule: Schedule = CosineSchedule()
    grad_weights_dict: dict[str, float] | None = None
    weight_default_value: float = 1.0
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = Field(1e-4, ge=0)


OptimizerSpec = Annotated[WeightedMomentum | AdamW, Field(discriminator="class_name")]


def planning_mistakes(optimiser: WeightedMomentum | AdamW, num_epoch: int) -> Iterator[tuple[str, str]]:
    """Yield (key, what is wrong) for a schedule whose plans end with another number of epochs than the run has."""
    schedule = optimiser.learning_rate_schedule
    if isinstance(schedule, CosineSchedule) and schedule.planned_epochs:
        last = schedule.planned_epochs[-1].num_epoch
        if last != num_epoch:
            yield (
                "optimizer.learning_rate_schedule.planned_epochs",
                f"plans {last} epochs in the end, but num_epoch is {num_epoch}; leave it out for another length",
            )
