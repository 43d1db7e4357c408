"""ModelInfo: what every model file carries about itself, so that a command needs only that one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from limbnet.decode.settings import DecoderSettings
from limbnet.geometry import FitMode
from limbnet.skeleton import Skeleton


@dataclass(frozen=True)
class ModelInfo:
    """What a model expects and what it returns.

    Attributes:
        skeleton: joints and limbs; the network returns `skeleton.heat_channels` and `skeleton.paf_channels` maps.
        stride: input pixels per map cell.
        input_size: (height, width) the model was trained at or prefers; multiples of the stride.
        fit_mode: how pictures are fitted to the input by default.
        image_scale, image_offset: per channel, the network sees value / scale - offset of RGB values 0 to 255.
        colour_order: order of the input's channels.
        scales: factors on the input size; the maps of a picture at all of them are averaged by default.
        decoder: settings that turn maps into people.
        spec: the resolved training spec, for the record.
        version: limbnet version that wrote the file.
        extra: anything else worth keeping (precision, epochs, measured AP); plain JSON values.
    """

    skeleton: Skeleton
    stride: int = 8
    input_size: tuple[int, int] = (256, 256)
    fit_mode: FitMode = "adjust_network_input"
    image_scale: tuple[float, float, float] = (256.0, 256.0, 256.0)
    image_offset: tuple[float, float, float] = (0.5, 0.5, 0.5)
    colour_order: Literal["rgb", "bgr"] = "rgb"
    scales: tuple[float, ...] = (1.0,)
    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    spec: dict[str, Any] = field(default_factory=dict)
    version: str = ""
    extra: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON values."""
        return {
            "skeleton": self.skeleton.to_dict(),
            "stride": self.stride,
            "input_size": list(self.input_size),
            "fit_mode": self.fit_mode,
            "image_scale": list(self.image_scale),
            "image_offset": list(self.image_offset),
            "colour_order": self.colour_order,
            "scales": list(self.scales),
            "decoder": self.decoder.to_dict(),
            "spec": self.spec,
            "version": self.version,
            "extra": self.extra,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> ModelInfo:
        """Rebuild from `to_dict`."""
        height, width = (int(side) for side in content["input_size"])
        scale = tuple(float(value) for value in content["image_scale"])
        offset = tuple(float(value) for value in content["image_offset"])
        return cls(
            skeleton=Skeleton.from_dict(content["skeleton"]),
            stride=int(content["stride"]),
            input_size=(height, width),
            fit_mode=content["fit_mode"],
            image_scale=(scale[0], scale[1], scale[2]),
            image_offset=(offset[0], offset[1], offset[2]),
            colour_order=content["colour_order"],
            scales=tuple(float(value) for value in content.get("scales", (1.0,))),  # older files know one scale
            decoder=DecoderSettings.from_dict(content["decoder"]),
            spec=dict(content["spec"]),
            version=str(content["version"]),
            extra=dict(content["extra"]),
        )
