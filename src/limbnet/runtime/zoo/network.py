"""The network of a zoo estimator: pictures as uint8 RGB in, the head's tensors out, whatever runtime lies between."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limbnet.models.zoo.catalogue import Normalisation, ZooEntry

#: (mean, deviation) of each normalisation in units of the pixel values, in the order of the network's channels.
NORMALISATIONS: dict[Normalisation, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "imagenet_rgb": ((0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255)),
    "openpose_bgr": ((128.0, 128.0, 128.0), (256.0, 256.0, 256.0)),
}

Tensors = tuple[NDArray[np.float32], ...]


class ZooNetwork(Protocol):
    """A published network ready to run on one device.

    Attributes:
        entry: what the catalogue says about it.
        name: runtime and precision, for people.
    """

    @property
    def entry(self) -> ZooEntry: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102

    def run(self, images: NDArray[np.uint8]) -> Tensors:
        """Return the tensors of the head, in its order, for (B, H, W, 3) uint8 RGB pictures of the network's input."""
        ...


class TorchZooNetwork:
    """A published network run by PyTorch; it normalises on the device.

    Args:
        network: what `create_model` gave; it is taken over.
        entry: what the catalogue says about it.
        device: torch's name of a device.

    Attributes:
        module: the network.
    """

    name = "torch fp32"

    def __init__(self, network: nn.Module, entry: ZooEntry, device: str | torch.device = "cpu") -> None:
        self.entry = entry
        self._device = torch.device(device)
        self.module = network.eval().requires_grad_(False).to(self._device)
        mean, deviation = NORMALISATIONS[entry.normalisation]
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self._device)
        self._factor = 1 / torch.tensor(deviation, dtype=torch.float32, device=self._device)

    def run(self, images: NDArray[np.uint8]) -> Tensors:
        """Return the tensors of the head, in its order, for (B, H, W, 3) uint8 RGB pictures of the network's input."""
        with torch.inference_mode():
            values = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
            if self.entry.normalisation.endswith("bgr"):
                values = values.flip(-1)
            values = values.to(torch.float32).sub_(self._mean).mul_(self._factor)
            outputs = self.module(values.permute(0, 3, 1, 2).contiguous())
            return tuple(output.float().contiguous().cpu().numpy() for output in outputs)
