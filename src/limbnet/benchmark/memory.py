"""How much memory a network takes while it runs: of the GPU, or of this process."""

from __future__ import annotations

import ctypes
import gc
import re
import sys
from pathlib import Path

import psutil

#: Linux: writing 5 here makes the peak of resident memory start anew.
CLEAR_REFS, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


class MemoryMeter:
    """Measures the peak of memory from a start on.

    On a GPU it is what torch has allocated there. On a CPU it is the resident memory of this process beyond what it had
    when the meter was made, before the network was opened; None where the system does not tell the peak (it does on
    Linux), or for GPUs that torch does not run.

    Args:
        device: torch's name of a device.
        torch_runs: torch itself runs the network.
    """

    def __init__(self, device: str, torch_runs: bool = True) -> None:
        self.device = device
        self.torch_runs = torch_runs
        self._before = _resident_after_clearing() if device == "cpu" else 0

    def start(self) -> None:
        """Forget the peak so far."""
        if self.device == "cpu":
            if CLEAR_REFS.exists():
                CLEAR_REFS.write_text("5")
        elif self._on_gpu():
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int | None:
        """Return the bytes of the peak since `start`."""
        if self.device == "cpu":
            peak = _peak_resident()
            return None if peak is None else max(peak - self._before, 0)
        if self._on_gpu():
            import torch

            return int(torch.cuda.max_memory_allocated(self.device))
        return None

    def _on_gpu(self) -> bool:
        return self.torch_runs and self.device.startswith("cuda")


def _peak_resident() -> int | None:
    if not CLEAR_REFS.exists():
        return None
    found = re.search(r"VmHWM:\s+(\d+) kB", STATUS.read_text())
    return None if found is None else int(found.group(1)) * 1024


def give_memory_back() -> None:
    """Give back to the system what networks that are gone have left in the allocator."""
    gc.collect()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc; other C libraries have none
        if trim is not None:
            trim(0)


def _resident_after_clearing() -> int:
    """Return the resident memory after giving back what earlier networks left in the allocator."""
    give_memory_back()
    return int(psutil.Process().memory_info().rss)
