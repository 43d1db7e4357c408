"""Learning-rate schedules: pure functions of the step, so that a resumed run needs to remember nothing about them."""

from __future__ import annotations

import math

from limbnet.specs.optimiser import CosineSchedule, ExponentialDecay, MultiStepSchedule, Schedule, SoftstartAnnealing


def learning_rate(schedule: Schedule, step: int, last_step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of the update number `step`, the first being 0.

    Args:
        schedule: one of the spec's schedules.
        step: 0 to `last_step`.
        last_step: number of updates of the whole run.
        steps_per_epoch: number of updates in one pass over the data.
    """
    match schedule:
        case SoftstartAnnealing():
            return _softstart_annealing(schedule, step / last_step)
        case ExponentialDecay():
            return _exponential_decay(schedule, step / (schedule.decay_epochs * steps_per_epoch))
        case CosineSchedule():
            for plan in schedule.planned_epochs:
                if step >= plan.first_epoch * steps_per_epoch:
                    last_step = plan.num_epoch * steps_per_epoch
            return _cosine(schedule, min(step, last_step), last_step)
        case MultiStepSchedule():
            return _multi_step(schedule, step, step // steps_per_epoch)


def _softstart_annealing(schedule: SoftstartAnnealing, progress: float) -> float:
    """Rise, stay, fall, as straight lines on a logarithmic scale: lr = min^(1-t) base^t."""
    t = 1.0
    if progress < schedule.soft_start:
        t = progress / schedule.soft_start
    if progress > schedule.annealing:  # where both hold, annealing wins
        t = (1 - progress) / (1 - schedule.annealing)
    low, high = math.log(schedule.min_learning_rate), math.log(schedule.base_learning_rate)
    return math.exp(low + t * (high - low))


def _exponential_decay(schedule: ExponentialDecay, periods: float) -> float:
    """Decay by `decay_rate` per period, continuously or at each period's end."""
    exponent = math.floor(periods) if schedule.staircase else periods
    return max(schedule.min_learning_rate, schedule.learning_rate * schedule.decay_rate**exponent)


def _cosine(schedule: CosineSchedule, step: int, last_step: int) -> float:
    """Rise linearly from one part to the whole, then fall along half a cosine."""
    warmup = math.ceil(schedule.warmup * last_step)
    if step < warmup:
        t = (step + 1) / warmup
    else:
        t = 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, last_step - warmup)))
    return schedule.min_learning_rate + t * (schedule.learning_rate - schedule.min_learning_rate)


def _multi_step(schedule: MultiStepSchedule, step: int, epoch: int) -> float:
    """Fall in steps at the beginning of epochs; the warm-up multiplies what the steps give."""
    rate = schedule.learning_rate * schedule.factor ** sum(epoch >= drop for drop in schedule.drop_epochs)
    if step >= schedule.warmup_steps:
        return rate
    return rate * (schedule.warmup_ratio + (1 - schedule.warmup_ratio) * step / schedule.warmup_steps)
