"""Learning-rate schedules against the values of TAO's own tests and the manuals' defaults."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.specs.load import load_train_spec
from limbnet.specs.optimiser import (
    CosineSchedule,
    ExponentialDecay,
    MultiStepSchedule,
    PlannedEpochs,
    SoftstartAnnealing,
)
from limbnet.training.schedule import learning_rate

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("step", "expected"),
    [(1, 0.10471285), (200, 1.0), (400, 1.0), (600, 0.63095725), (800, 0.25118864), (999, 0.100461565)],
)
def test_softstart_annealing_equals_the_original(step: int, expected: float) -> None:
    schedule = SoftstartAnnealing(soft_start=0.05, annealing=0.5, base_learning_rate=1.0, min_learning_rate=0.1)
    assert learning_rate(schedule, step, 1000, 10) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("progress", "expected"), [(0, 8e-8), (0.05, 2e-5), (0.5, 2e-5), (0.75, 1.264911e-6), (1, 8e-8)]
)
def test_softstart_annealing_with_the_defaults(progress: float, expected: float) -> None:
    assert learning_rate(SoftstartAnnealing(), round(progress * 1000), 1000, 10) == pytest.approx(expected, rel=1e-6)


def test_softstart_annealing_without_soft_start_or_annealing() -> None:
    schedule = SoftstartAnnealing(soft_start=0.0, annealing=1.0, base_learning_rate=1.0, min_learning_rate=0.1)
    assert [learning_rate(schedule, step, 10, 1) for step in (0, 5, 10)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("staircase", "minimum", "expected"),
    [
        (False, 0.0, [0.1, 0.01, 0.0015848934, 0.0001]),
        (True, 0.0, [0.1, 0.01, 0.01, 0.0001]),
        (False, 5e-4, [0.1, 0.01, 0.0015848934, 0.0005]),
        (True, 5e-4, [0.1, 0.01, 0.01, 0.0005]),
    ],
)
def test_exponential_decay_equals_the_original(staircase: bool, minimum: float, expected: list[float]) -> None:
    schedule = ExponentialDecay(
        learning_rate=1.0, decay_epochs=1, decay_rate=0.1, staircase=staircase, min_learning_rate=minimum
    )
    rates = [learning_rate(schedule, step, 1000, 25) for step in (25, 50, 70, 100)]
    assert rates == pytest.approx(expected, rel=1e-6)


def test_cosine_rises_linearly_then_falls_to_the_minimum() -> None:
    schedule = CosineSchedule(learning_rate=1.0, warmup=0.1, min_learning_rate=0.2)
    rates = [learning_rate(schedule, step, 100, 10) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 + 0.8 * (step + 1) / 10 for step in range(10)])
    assert rates[10] == pytest.approx(1.0)
    assert rates[55] == pytest.approx(0.6)  # half way down
    assert rates[100] == pytest.approx(0.2)


def test_a_run_that_was_made_longer_and_shorter_on_the_way() -> None:
    plans = (PlannedEpochs(first_epoch=2, num_epoch=8), PlannedEpochs(first_epoch=5, num_epoch=6))
    planned = CosineSchedule(learning_rate=1.0, warmup=0.1, planned_epochs=plans)
    plain = CosineSchedule(learning_rate=1.0, warmup=0.1)
    for step, length in [(0, 70), (19, 70), (20, 80), (49, 80), (50, 60), (60, 60)]:
        assert learning_rate(planned, step, 70, 10) == learning_rate(plain, step, length, 10)
    assert learning_rate(planned, 69, 70, 10) == 0, "beyond the plan's end the minimum stays"
    with pytest.raises(ValueError, match="first epochs \\[5, 2\\], which must rise"):
        CosineSchedule(planned_epochs=plans[::-1])
    with pytest.raises(ValueError, match="plans 3 epochs and goes on to epoch 5"):
        CosineSchedule(planned_epochs=(PlannedEpochs(first_epoch=0, num_epoch=3), plans[1]))


@pytest.mark.parametrize(
    ("recipe", "log"),
    [
        ("limbnet_s", "limbnet-s-training"),
        ("limbnet_s_longer", "limbnet-s-longer-training"),
        ("limbnet_s_third", "limbnet-s-third-training"),
        ("limbnet_m", "limbnet-m-training"),
        ("limbnet_m_last", "limbnet-m-last-training"),
    ],
)
def test_the_recipes_of_the_shipped_models_give_the_learning_rates_of_their_logs(recipe: str, log: str) -> None:
    spec = load_train_spec(ROOT / "specs" / f"{recipe}.yaml")
    rows = list(csv.DictReader((ROOT / "docs" / f"{log}.csv").read_text().splitlines()))
    assert [int(row["epoch"]) for row in rows] == list(range(1, spec.num_epoch + 1))
    steps = int(rows[0]["step"])
    assert steps == spec.dataloader.dataset_config.samples_per_epoch // spec.dataloader.batch_size
    rates = [
        learning_rate(spec.optimizer.learning_rate_schedule, int(row["step"]) - 1, spec.num_epoch * steps, steps)
        for row in rows
    ]
    assert rates == [float(row["learning_rate"]) for row in rows]


def test_multi_step_warms_up_and_falls_when_an_epoch_begins() -> None:
    """Ten updates an epoch; the rate falls at epochs 3 and 5; four updates of warm-up from a tenth."""
    schedule = MultiStepSchedule(learning_rate=1.0, drop_epochs=(3, 5), factor=0.1, warmup_steps=4, warmup_ratio=0.1)
    rates = [learning_rate(schedule, step, 80, 10) for step in range(80)]
    assert rates[:5] == pytest.approx([0.1, 0.325, 0.55, 0.775, 1.0])
    assert rates[29] == 1.0
    assert rates[30] == rates[49] == pytest.approx(0.1)
    assert rates[50] == rates[79] == pytest.approx(0.01)
    with pytest.raises(ValueError, match="epochs must rise"):
        MultiStepSchedule(drop_epochs=(200, 170))


@given(
    step=st.integers(0, 500),
    soft_start=st.floats(0, 1),
    annealing=st.floats(0, 1),
    warmup=st.floats(0, 0.99),
)
def test_rates_stay_between_their_limits(step: int, soft_start: float, annealing: float, warmup: float) -> None:
    softstart = SoftstartAnnealing(soft_start=soft_start, annealing=annealing)
    assert 8e-8 * (1 - 1e-9) <= learning_rate(softstart, step, 500, 5) <= 2e-5 * (1 + 1e-9)
    rate = learning_rate(CosineSchedule(warmup=warmup), step, 500, 5)
    assert 0 <= rate <= 1e-3
    assert math.isfinite(rate)
