"""One process per device: starting them, joining them, and passing on what went wrong in any of them.

Every process computes the gradient of its own part of the batch; DistributedDataParallel averages the gradients, so N
processes with batches of b do what one process does with a batch of N b (batch-norm statistics stay local).
"""

from __future__ import annotations

import datetime
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from multiprocessing.queues import SimpleQueue
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]  # public, but not in __all__
from torch.nn.parallel import DistributedDataParallel

from limbnet.console import set_up_logging
from limbnet.devices import set_threads
from limbnet.errors import LimbnetError, TrainingError

Result = TypeVar("Result")

#: While the first process validates, the others wait; a whole validation may take long.
PATIENCE = datetime.timedelta(hours=12)


@dataclass(frozen=True)
class Place:
    """Where one process of a run works.

    Attributes:
        device: what it computes on.
        rank: its number; the process of rank 0 writes files and speaks.
        world_size: number of processes.
    """

    device: torch.device
    rank: int = 0
    world_size: int = 1

    @property
    def speaks(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wrap(self, model: nn.Module) -> nn.Module:
        """Return the module to call in training: `model` itself when it is alone, else one that averages gradients."""
        if self.world_size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        with warnings.catch_warnings():  # the newer name of broadcast_buffers is unknown to torch 2.11
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor over all processes; every process must call it."""
        if self.world_size > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.world_size
        return values

    def wait_for_all(self) -> None:
        """Return when every process of the run has come here."""
        if self.world_size > 1:
            dist.barrier()


@dataclass(frozen=True)
class _Pipes:
    """How processes answer: what went wrong, what rank 0 returns, and from which level it prints."""

    reports: SimpleQueue[Exception]
    results: SimpleQueue[Any]
    log_level: str


def launch(work: Callable[..., Result], devices: Sequence[torch.device], *arguments: Any) -> Result:
    """Run `work(place, *arguments)` in one process per device and return what rank 0 returns.

    With one device it runs here; otherwise the processes are spawned, so `work` and the arguments must be importable
    and picklable. The first failure stops all of them and is raised here.
    """
    if len(devices) == 1:
        set_threads()
        return work(Place(devices[0]), *arguments)
    # The store takes a free port itself and keeps it, so nobody can take it in between.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    context = mp.get_context("spawn")
    level = logging.getLevelName(logging.getLogger("limbnet").getEffectiveLevel())
    pipes = _Pipes(context.SimpleQueue(), context.SimpleQueue(), level)
    places = [Place(device, rank, len(devices)) for rank, device in enumerate(devices)]
    processes = [
        context.Process(target=_work_at, args=(work, arguments, place, store.port, pipes), name=str(place.rank))
        for place in places
    ]
    try:
        for process in processes:
            process.start()
        _join(processes, pipes)
    finally:
        _stop(processes)
    outcome: Result = pipes.results.get()
    return outcome


def _join(processes: Sequence[BaseProcess], pipes: _Pipes) -> None:
    """Wait until every process has ended well; raise as soon as one has not."""
    running = list(processes)
    while running:
        ended = wait([process.sentinel for process in running])
        for process in [process for process in running if process.sentinel in ended]:
            process.join()  # the sentinel speaks a moment before the exit code is known
            running.remove(process)
        failed = {process.name: process.exitcode for process in processes if process.exitcode}
        if not failed:
            continue
        # A process that a signal ended comes first: the others may have failed for want of it.
        name, code = min(failed.items(), key=lambda item: item[1])
        if code > 0 and not pipes.reports.empty():
            raise pipes.reports.get()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        raise TrainingError(
            f"Training process {name} of {len(processes)} was ended {how}; the others have been stopped.",
            "If memory ran out, lower dataloader.batch_size. Repeat the command to go on from the last checkpoint.",
        )


def _stop(processes: Sequence[BaseProcess]) -> None:
    """End what still runs, gently first."""
    for process in processes:
        if process.is_alive():
            process.terminate()
    for process in processes:
        if process.pid is not None:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()


def _work_at(work: Callable[..., Any], arguments: tuple[Any, ...], place: Place, port: int, pipes: _Pipes) -> None:
    """Body of a spawned process: join the group, work, and report the outcome."""
    set_up_logging(pipes.log_level if place.speaks else "ERROR")
    _end_with_parent()
    try:
        _join_group(place, port)
        result = work(place, *arguments)
        place.wait_for_all()
        if place.speaks:
            pipes.results.put(result)
        dist.destroy_process_group()
    except LimbnetError as error:
        where = f"(in training process {place.rank} of {place.world_size})"
        _fail(pipes, type(error)(f"{error.what} {where}", error.todo))
    except Exception:  # a bug: its traceback must reach the parent, which raises it there
        _fail(pipes, RuntimeError(f"Training process {place.rank} of {place.world_size}:\n{traceback.format_exc()}"))


def _fail(pipes: _Pipes, error: Exception) -> None:
    """Report and leave at once: an orderly exit would wait for the other processes, which wait for this one."""
    pipes.reports.put(error)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _join_group(place: Place, port: int) -> None:
    if place.device.type == "cuda":
        torch.cuda.set_device(place.device)
    else:
        set_threads(processes=place.world_size)
        if sys.platform == "linux":
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=PATIENCE)
    backend = "nccl" if place.device.type == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=place.rank, world_size=place.world_size, timeout=PATIENCE)


def _end_with_parent() -> None:
    """Leave nothing behind when the parent is killed: two runs in one results folder would spoil each other."""
    parent = mp.parent_process()

    def follow() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
