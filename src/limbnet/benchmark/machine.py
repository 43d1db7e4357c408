"""The machine that figures belong to: processor, cores, versions, and how busy it was."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from limbnet import __version__
from limbnet.decode import compiled
from limbnet.devices import available_cores

#: Packages whose versions decide most figures; those that are not installed are left out.
PACKAGES = (
    "numpy", "opencv-python-headless", "pillow", "torch", "onnxruntime", "onnxruntime-gpu", "openvino",
    "tensorrt", "tensorrt-rtx-cu12",
)  # fmt: skip


def machine() -> dict[str, Any]:
    """Return processor, GPU, cores this process may use, load average of the last minute, decoder, and versions."""
    return {
        "processor": processor(),
        "gpu": _gpu(),
        "cores": available_cores(),
        "load_average": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "system": platform.platform(),
        "decoder": compiled.described(),
        "versions": {"limbnet": __version__, "python": platform.python_version(), **_versions()},
    }


def processor() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else None


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
