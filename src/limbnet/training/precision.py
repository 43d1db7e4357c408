"""Mixed precision: convolutions in half precision, weights, loss and update in float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from limbnet.errors import DeviceError


class Precision:
    """How the network computes on a device, and how gradients survive it.

    Args:
        device: where training runs.
        mixed: the spec's `mixed_precision`; None means on GPUs whose matrix units gain from it, off elsewhere.

    Attributes:
        dtype: bfloat16 where the device has it, else float16, else None for plain float32.

    Raises:
        DeviceError: mixed precision was asked for on a device that has none.
    """

    def __init__(self, device: torch.device, mixed: bool | None = None) -> None:
        self.device = device
        self.dtype = _half_type(device) if mixed is not False else None
        if mixed is None and (device.type != "cuda" or torch.cuda.get_device_capability(device) < (7, 0)):
            self.dtype = None
        if mixed and self.dtype is None:
            raise DeviceError(
                f"mixed_precision is on in the spec, but '{device}' has none.", "Set it to null or false."
            )
        # Gradients below float16's range would vanish; bfloat16 has float32's range.
        self.scaler = torch.amp.GradScaler(device.type) if self.dtype == torch.float16 else None

    def __str__(self) -> str:
        return "float32" if self.dtype is None else f"{str(self.dtype).removeprefix('torch.')} and float32"

    def forward(self) -> AbstractContextManager[Any]:
        """Return the context in which the network computes its maps."""
        return torch.autocast(self.device.type, self.dtype) if self.dtype else nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of `loss`."""
        (self.scaler.scale(loss) if self.scaler else loss).backward()  # type: ignore[no-untyped-call]

    def step(self, optimiser: torch.optim.Optimizer) -> None:
        """Update the weights; with float16 an update whose gradients overflowed is left out."""
        if self.scaler is None:
            optimiser.step()
            return
        self.scaler.step(optimiser)
        self.scaler.update()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run must know."""
        return self.scaler.state_dict() if self.scaler else {}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over what `state` returned."""
        if self.scaler and state:
            self.scaler.load_state_dict(state)


def _half_type(device: torch.device) -> torch.dtype | None:
    """Return the half precision that the device computes in itself."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" else None
