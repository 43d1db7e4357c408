"""Schema of the optimisers and learning-rate schedules that every train spec chooses from."""

from __future__ import annotations

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


class CosineSchedule(Section):
    """limbnet's own: linear warm-up over a share of the steps, then half a cosine down to the minimum."""

    class_name: Literal["CosineLearningRateSchedule"] = class_name("CosineLearningRateSchedule")
    learning_rate: float = Field(1e-3, gt=0)
    warmup: float = Field(0.02, ge=0, lt=1)
    min_learning_rate: float = Field(0.0, ge=0)


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
