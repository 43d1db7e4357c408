"""Engine: the one small protocol behind which torch, ONNX Runtime, OpenVINO and TensorRT run a network.

An engine takes pictures that already fill the network's input, as uint8 RGB, and gives back what the network says about
them. Normalisation and colour order are the engine's business. What is left to do afterwards depends on the file: most
networks return maps, some have the first steps of decoding inside their graph. Both answer `people`, so the predictor
does not ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from limbnet.decode.settings import DecoderSettings
from limbnet.models.info import ModelInfo

if TYPE_CHECKING:
    from limbnet.decode.people import People

#: How far an engine's graph decodes: not at all, or to `limbnet.runtime.candidates.PeakTables`.
Decode = Literal["none", "peaks"]


class Output(Protocol):
    """What an engine says about B pictures."""

    def __len__(self) -> int:
        """B."""
        ...

    def people(self, index: int, info: ModelInfo, settings: DecoderSettings) -> People:
        """Return the people of picture `index`, in pixels of the network's input."""
        ...


@dataclass(frozen=True)
class Maps:
    """The maps of B pictures, at the network's stride.

    Attributes:
        heatmaps: (B, K + 1, h, w) float32, one per joint and the background last, about 0 to 1.
        pafs: (B, 2 L, h, w) float32, x and y of each limb's part affinity field, about -1 to 1.
    """

    heatmaps: NDArray[np.float32]
    pafs: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.heatmaps)

    def people(self, index: int, info: ModelInfo, settings: DecoderSettings) -> People:
        """Find the people of picture `index`, in pixels of the network's input."""
        from limbnet.decode.bottomup import decode_maps

        return decode_maps(self.heatmaps[index], self.pafs[index], info.skeleton, info.stride, settings)


@runtime_checkable
class Engine(Protocol):
    """A network ready to run on one device.

    Attributes:
        info: skeleton, stride, input rule and decoder settings of the model.
        name: runtime and precision, for people: `torch fp32`, `openvino int8`.
        device: where it runs: `cpu`, `cuda:0`.
        fixed_size: (height, width) when the engine takes no other input size, else None.
        max_batch: most pictures in one `run`, None for any number.
        preferred_batch: pictures in one `run` from which this engine gains; 1 where batches bring nothing.
        decode: how far it decodes by itself, with `info.decoder`; the rest is what `Output.people` does.
    """

    @property
    def info(self) -> ModelInfo: ...  # noqa: D102
    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def device(self) -> str: ...  # noqa: D102
    @property
    def fixed_size(self) -> tuple[int, int] | None: ...  # noqa: D102
    @property
    def max_batch(self) -> int | None: ...  # noqa: D102
    @property
    def preferred_batch(self) -> int: ...  # noqa: D102
    @property
    def decode(self) -> Decode: ...  # noqa: D102

    def run(self, images: NDArray[np.uint8]) -> Output:
        """Run the network on (B, H, W, 3) uint8 RGB pictures; H and W are multiples of the stride.

        Only one thread calls `run` at a time.
        """
        ...


@runtime_checkable
class OverlappingEngine(Engine, Protocol):
    """An engine that works while its caller does something else, such as fetching what the batch before gave.

    Attributes:
        most_started: batches of `preferred_batch` that keep it busy when they are started before the first is fetched.
    """

    @property
    def most_started(self) -> int: ...  # noqa: D102

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Output]:
        """Start the network on pictures as `run` takes them; the call that is returned waits for what it says.

        Only one thread at a time starts or fetches. Any number may be started, and fetched in any order: the engine
        holds what it has worked out until then.
        """
        ...


def start(engine: Engine, images: NDArray[np.uint8]) -> Callable[[], Output]:
    """Start a network on pictures; one that cannot overlap with its caller has run when this returns."""
    if isinstance(engine, OverlappingEngine):
        return engine.start(images)
    output = engine.run(images)
    return lambda: output


def most_started(engine: Engine) -> int:
    """Return how many batches are worth starting before the first is fetched: 1 if the engine cannot overlap."""
    return engine.most_started if isinstance(engine, OverlappingEngine) else 1
