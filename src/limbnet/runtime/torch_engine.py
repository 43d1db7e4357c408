"""The torch engine: a checkpoint run by PyTorch on a CPU or a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from limbnet.errors import SpecError
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Maps

if TYPE_CHECKING:
    from limbnet.models.bodyposenet import BodyPoseNet

#: Pictures per batch on a GPU; a CPU gains nothing from batches.
GPU_BATCH = 8


class TorchEngine:
    """Run a `BodyPoseNet` in inference mode, channels last, normalising on the device.

    Args:
        model: the network; it is moved to `device` and switched to evaluation.
        info: what its file says about it.
        device: torch's name of a device.
        output_stage: 1-based stage whose maps are returned, None for the last one.
        threads: threads of one operation on a CPU, None for torch's choice. Holds for the whole process.

    Raises:
        SpecError: there is no such stage.
    """

    fixed_size: tuple[int, int] | None = None
    max_batch: int | None = None
    name = "torch fp32"

    def __init__(
        self,
        model: BodyPoseNet,
        info: ModelInfo,
        device: str | torch.device = "cpu",
        output_stage: int | None = None,
        threads: int | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.info = info
        self._device = torch.device(device)
        self.device = str(self._device)
        self.preferred_batch = 1 if self._device.type == "cpu" else GPU_BATCH
        self.output_stage = output_stage
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
            index = self._stage_index(len(stages.heatmaps))
            return Maps(
                stages.heatmaps[index].float().contiguous().cpu().numpy(),
                stages.pafs[index].float().contiguous().cpu().numpy(),
            )

    def _stage_index(self, stages: int) -> int:
        if self.output_stage is None:
            return -1
        if not 1 <= self.output_stage <= stages:
            raise SpecError(
                f"output_stage_to_use is {self.output_stage}, but this network has {stages} stages.",
                f"Use 1 to {stages}, or null for the last one.",
            )
        return self.output_stage - 1
