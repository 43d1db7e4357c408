"""The torch engine: a checkpoint run by PyTorch on a CPU or a GPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from limbnet.devices import choose_device, set_threads
from limbnet.errors import SpecError
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Decode, Maps

if TYPE_CHECKING:
    from limbnet.models.bodyposenet import BodyPoseNet

#: Pictures per batch on a GPU; a CPU gains nothing from batches.
GPU_BATCH = 8


def open_engine(
    path: Path,
    *,
    key: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    output_stage: int | None = None,
    fallback: Callable[[], ModelInfo] | None = None,  # noqa: ARG001 - a checkpoint always says what it is
) -> TorchEngine:
    """Read a checkpoint and put it on a device; see `limbnet.runtime.load.load_engine` for the arguments."""
    from limbnet.models.checkpoint import load_model

    chosen = choose_device(device)
    set_threads(threads)
    loaded = load_model(path, key)
    return TorchEngine(loaded.model, loaded.info, chosen, output_stage)


class TorchEngine:
    """Run a `BodyPoseNet` in inference mode, channels last, normalising on the device.

    Args:
        model: the network; it is taken over: moved to `device`, switched to evaluation, later stages dropped.
        info: what its file says about it.
        device: torch's name of a device.
        output_stage: 1-based stage whose maps are returned, None for the last one.

    Raises:
        SpecError: there is no such stage.
    """

    fixed_size: tuple[int, int] | None = None
    max_batch: int | None = None
    name = "torch fp32"
    decode: Decode = "none"

    def __init__(
        self,
        model: BodyPoseNet,
        info: ModelInfo,
        device: str | torch.device = "cpu",
        output_stage: int | None = None,
    ) -> None:
        if output_stage is not None:
            if not 1 <= output_stage <= len(model.stages):
                raise SpecError(
                    f"output_stage_to_use is {output_stage}, but this network has {len(model.stages)} stages.",
                    f"Use 1 to {len(model.stages)}, or null for the last one.",
                )
            model.stages = model.stages[:output_stage]
        self.info = info
        self._device = torch.device(device)
        self.device = str(self._device)
        self.preferred_batch = 1 if self._device.type == "cpu" else GPU_BATCH
        model = model.eval().requires_grad_(False).to(self._device)
        self._model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload] # torch's stub lacks it
        self._scale = torch.tensor(info.image_scale, dtype=torch.float32, device=self._device)
        self._offset = torch.tensor(info.image_offset, dtype=torch.float32, device=self._device)

    def run(self, images: NDArray[np.uint8]) -> Maps:
        """Run the network on (B, H, W, 3) uint8 RGB pictures."""
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            if self.info.colour_order == "bgr":
                values = values.flip(-1)
            values = values.to(torch.float32).div_(self._scale).sub_(self._offset)
            stages = self._model(values.permute(0, 3, 1, 2))  # NHWC seen as channels-last NCHW: nothing is copied
            return Maps(_to_numpy(stages.heatmaps[-1]), _to_numpy(stages.pafs[-1]))


def _to_numpy(maps: torch.Tensor) -> NDArray[np.float32]:
    return maps.float().contiguous().cpu().numpy()
