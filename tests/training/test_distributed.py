"""Starting one process per device, and what happens when one of them fails."""

from __future__ import annotations

import os
import signal
import time

import pytest
import torch
import torch.distributed as dist

from limbnet.errors import DeviceError, TrainingError, UsageError
from limbnet.training.distributed import Place, choose_devices, launch

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


def test_choosing_cpu_processes() -> None:
    assert choose_devices("cpu") == [CPU]
    assert choose_devices("cpu", gpus=3) == [CPU] * 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="tests the messages of a machine without a GPU")
def test_gpus_that_are_missing_are_an_error() -> None:
    assert choose_devices() == [CPU]
    for asked in ({"device": "cuda"}, {"gpus": 1}, {"gpu_index": [0]}, {"device": "cuda:3"}):
        with pytest.raises(DeviceError, match="torch sees 0 GPUs"):
            choose_devices(**asked)


def test_contradictions_are_refused() -> None:
    with pytest.raises(UsageError, match="--gpus is 0"):
        choose_devices(gpus=0)
    with pytest.raises(UsageError, match="none twice"):
        choose_devices(gpus=2, gpu_index=[1, 1])
    with pytest.raises(UsageError, match="is one GPU"):
        choose_devices("cuda:0", gpus=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpus_are_found() -> None:
    assert choose_devices() == choose_devices(gpus=1) == [torch.device("cuda", 0)]
