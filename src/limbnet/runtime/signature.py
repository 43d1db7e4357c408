"""Signature: which tensors of an exported file are what, and how pictures and maps pass through them.

ONNX, OpenVINO and TensorRT files of one network share a signature, so the engines differ only in who runs the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.models.info import ModelInfo
from limbnet.runtime.candidates import PeakTables
from limbnet.runtime.engine import Decode, Maps, Output

InputType = Literal["uint8", "float32"]
DataFormat = Literal["channels_last", "channels_first"]
Precision = Literal["fp32", "fp16", "int8"]

#: Outputs of a graph that decodes up to peaks; see `limbnet.runtime.candidates.PeakTables`.
DECODED = ("peaks", "peaks_found", "limb_scores", "not_finite")


@dataclass(frozen=True)
class Signature:
    """The tensors of an exported network.

    Attributes:
        input_name: of the pictures, (B, H, W, 3) or (B, 3, H, W) as `data_format` says.
        heatmap_name: of the last stage's heatmaps, in the same layout.
        paf_name: of the last stage's part affinity fields, in the same layout.
        input_type: `uint8` takes RGB pixels, the graph normalises; `float32` takes normalised values in the network's
            own colour order.
        data_format: layout of input and outputs.
        paf_upsampling: how many times each cell of the part affinity fields is repeated along both axes; 1 for none.
        precision: of most of the arithmetic.
        fixed_size: (height, width) when the graph takes no other, else None.
        fixed_batch: pictures in one run when the graph takes no other number, else None.
        decode: how far the graph decodes its maps, by the decoder settings of the model's info. The rest is the host's.
    """

    input_name: str = "input_1:0"
    heatmap_name: str = "heatmap_out"
    paf_name: str = "paf_out"
    input_type: InputType = "uint8"
    data_format: DataFormat = "channels_last"
    paf_upsampling: int = 1
    precision: Precision = "fp32"
    fixed_size: tuple[int, int] | None = None
    fixed_batch: int | None = None
    decode: Decode = "none"

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the graph's outputs, in the order in which `output` takes them."""
        return (self.heatmap_name, self.paf_name) if self.decode == "none" else DECODED

    def network_input(self, images: NDArray[np.uint8], info: ModelInfo) -> NDArray[Any]:
        """Turn (B, H, W, 3) uint8 RGB into the tensor that the graph takes.

        Fewer pictures than `fixed_batch` are filled up with the last one; `output` leaves these out again.
        """
        missing = (self.fixed_batch or 0) - len(images)
        values: NDArray[Any] = images
        if missing > 0:
            values = np.concatenate([images, np.repeat(images[-1:], missing, axis=0)])
        if self.input_type == "float32":
            if info.colour_order == "bgr":
                values = values[..., ::-1]
            scale, offset = np.array(info.image_scale, np.float32), np.array(info.image_offset, np.float32)
            values = values.astype(np.float32) / scale - offset
        if self.data_format == "channels_first":
            values = values.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(values)

    def output(self, values: Sequence[NDArray[Any]], count: int) -> Output:
        """Turn the graph's outputs, named as in `output_names`, into what an engine returns of `count` pictures."""
        values = [value[:count] for value in values]
        if self.decode == "none":
            heatmaps, pafs = values
            return self.maps(heatmaps, pafs)
        return PeakTables(*values)

    def maps(self, heatmaps: NDArray[Any], pafs: NDArray[Any]) -> Maps:
        """Turn the graph's outputs into maps (B, channels, h, w) float32 at the network's stride."""
        step = self.paf_upsampling
        if self.data_format == "channels_last":
            heatmaps, pafs = heatmaps.transpose(0, 3, 1, 2), pafs.transpose(0, 3, 1, 2)
        pafs = pafs[:, :, ::step, ::step]
        return Maps(np.ascontiguousarray(heatmaps, np.float32), np.ascontiguousarray(pafs, np.float32))

    def input_shape(self, batch: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the shape of the input tensor for `batch` pictures of (height, width)."""
        height, width = size
        return (batch, height, width, 3) if self.data_format == "channels_last" else (batch, 3, height, width)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Signature:
        """Rebuild from `to_dict`; keys of newer versions are ignored."""
        known = {key: value for key, value in content.items() if key in cls.__dataclass_fields__}
        size = known.get("fixed_size")
        return cls(**known | {"fixed_size": (int(size[0]), int(size[1])) if size else None})
