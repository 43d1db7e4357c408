"""Starting one process per device, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from limbnet.errors import TrainingError
from limbnet.training.distributed import Place, launch

CPU = torch.device("cpu")


def sum_of_ranks(place: Place, offset: float) -> tuple[int, float]:
    total = torch.tensor(offset + place.rank)
    if place.world_size > 1:
        dist.all_reduce(total)
    return place.rank, total.item()


def fail_at_one(place: Place, how: str) -> None:
    if place.rank == 1:
        if how == "error":
            raise TrainingError("the loss became NaN at step 3", "Lower the rate.")
        if how == "bug":
            raise ZeroDivisionError("a bug")
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(60)


def test_one_device_works_here() -> None:
    assert launch(sum_of_ranks, [CPU], 5.0) == (0, 5.0)


@pytest.mark.slow
def test_two_processes_meet_and_rank_zero_answers() -> None:
    assert launch(sum_of_ranks, [CPU, CPU], 5.0) == (0, 11.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("error", TrainingError, r"(?s)NaN at step 3 \(in training process 1 of 2\).*Lower the rate"),
        ("bug", RuntimeError, "(?s)Training process 1 of 2.*fail_at_one.*ZeroDivisionError: a bug"),
        ("kill", TrainingError, "(?s)process 1 of 2 was ended by SIGKILL.*from the last checkpoint"),
    ],
)
def test_a_crash_of_one_stops_all_with_its_message(how: str, error: type[Exception], message: str) -> None:
    begun = time.monotonic()
    with pytest.raises(error, match=message):
        launch(fail_at_one, [CPU, CPU], how)
    assert time.monotonic() - begun < 40, "the healthy process sleeps for 60 s and should have been stopped"
