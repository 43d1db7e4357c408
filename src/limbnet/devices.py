"""Which device works: the best one when nothing was asked for, exactly the one that was asked for otherwise."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from limbnet.errors import DeviceError, UsageError

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


def choose_devices(
    device: str | None = None, gpus: int | None = None, gpu_index: Sequence[int] | None = None
) -> list[torch.device]:
    """Return one device for each process, and say which.

    Args:
        device: `cpu`, `mps`, `cuda` or `cuda:N`; None takes a GPU when there is one, and GPUs when `gpus` or
            `gpu_index` ask for them.
        gpus: number of processes, a GPU each; processes on the CPU with `device="cpu"`.
        gpu_index: the GPUs to use, as `nvidia-smi` counts them; as many as `gpus` when both are given.

    Raises:
        DeviceError: a device that was asked for is not there.
        UsageError: the three contradict each other.
    """
    devices = _chosen(device, gpus, gpu_index)
    log.info("Device: %s", ", ".join(describe(item) for item in dict.fromkeys(devices)))
    if len(devices) > 1:
        log.info("Processes: %d", len(devices))
    return devices


def choose_device(
    device: str | None = None,
    gpus: int | None = None,
    gpu_index: Sequence[int] | None = None,
    announce: bool = True,
) -> torch.device:
    """Return the one device of a command that works in one process; see `choose_devices`.

    Without `announce` nothing is logged: whoever takes the device will.

    Raises:
        UsageError: several were asked for.
    """
    if (gpus or 1) > 1 or len(gpu_index or ()) > 1:
        raise UsageError("Several GPUs were asked for, but this command works on one.", "Give --gpu_index one number.")
    return choose_devices(device, gpus, gpu_index)[0] if announce else _chosen(device, gpus, gpu_index)[0]


def _chosen(device: str | None, gpus: int | None, gpu_index: Sequence[int] | None) -> list[torch.device]:
    import torch

    if gpu_index is not None and (len(set(gpu_index)) != len(gpu_index) or not gpu_index):
        raise UsageError(f"--gpu_index {list(gpu_index)} names a GPU twice, or none.")
    if gpus is not None and gpu_index is not None and gpus != len(gpu_index):
        raise UsageError(f"--gpus {gpus} and --gpu_index {list(gpu_index)} disagree about the number of GPUs.")
    kind, _, number = (device or "").lower().partition(":")
    if device is None and gpus is None and gpu_index is None:
        kind = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    elif device is None:
        kind = "cuda"
    if kind not in ("cpu", "cuda", "mps") or (number and (kind != "cuda" or not number.isdecimal())):
        raise UsageError(f"There is no device '{device}'.", "Use cpu, cuda, cuda:N or mps.")
    if kind == "cuda":
        if number and (gpu_index not in (None, [int(number)]) or (gpus or 1) > 1):
            raise UsageError(f"--device {device} contradicts --gpus or --gpu_index.", "Give --gpu_index alone.")
        wanted = list(gpu_index) if gpu_index else [int(number)] if number else list(range(gpus or 1))
        return [torch.device("cuda", index) for index in _checked_gpus(wanted)]
    if gpu_index is not None:
        raise UsageError(f"--gpu_index was given with --device {kind}.", "Leave one of them out.")
    if kind == "mps":
        if not torch.backends.mps.is_available():
            raise DeviceError("--device mps was asked for, but this machine or this torch has no Metal device.")
        if (gpus or 1) > 1:
            raise UsageError("There is one mps device.", "Leave --gpus out.")
    return [torch.device(kind)] * (gpus or 1)


def _checked_gpus(wanted: list[int]) -> list[int]:
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda or torch.version.hip
        why = (
            "no working GPU or driver was found" if built else f"torch {torch.__version__} is built without GPU support"
        )
        raise DeviceError(f"A GPU was asked for, but {why}.", "Use --device cpu, or install a driver and torch for it.")
    count = torch.cuda.device_count()
    missing = [index for index in wanted if index >= count]
    if missing:
        raise DeviceError(
            f"GPU {', '.join(map(str, missing))} was asked for, but this machine has {count}, numbered from 0.",
            "Lower --gpus, or name others with --gpu_index.",
        )
    return wanted


def describe(device: torch.device) -> str:
    """Return a device's name for people: `cuda:0 (NVIDIA H200)`, `cpu (2 cores)`."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({available_cores()} cores)" if device.type == "cpu" else str(device)


def available_cores() -> int:
    """Return the CPU cores this process may use: its affinity, cut down to the quota of its control group."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _group_quota()
    return max(1, min(cores, int(quota + 0.5))) if quota else cores


def _group_quota(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Return the CPU time this process's control group grants per unit of time, None when it is not limited."""
    try:
        quota, period = (root / "cpu.max").read_text().split()[:2]
        return None if quota == "max" else float(quota) / float(period)
    except (OSError, ValueError):
        pass
    try:
        used = float((root / "cpu/cpu.cfs_quota_us").read_text())
        return used / float((root / "cpu/cpu.cfs_period_us").read_text()) if used > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None


def set_threads(threads: int | None = None, processes: int = 1) -> int:
    """Let torch use `threads` CPU threads and return their number; see `cpu_threads`."""
    import torch

    threads = cpu_threads(threads, processes)
    torch.set_num_threads(threads)
    return threads


def cpu_threads(threads: int | None = None, processes: int = 1) -> int:
    """Return how many CPU threads a network works with, the same on every runtime.

    None stands for OMP_NUM_THREADS when it is set, otherwise for this process's share of the available cores. The
    runtimes' own defaults count the machine's cores, which is far too many in a container that grants a few.
    """
    if threads is None and os.environ.get("OMP_NUM_THREADS", "").isdecimal():
        threads = int(os.environ["OMP_NUM_THREADS"])
    return max(1, threads or available_cores() // processes)
