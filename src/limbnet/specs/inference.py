"""Schema of the inference spec (YAML) that `evaluate` and `inference` read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Strict, Tag

from limbnet.geometry import LARGEST_SCALE
from limbnet.specs.base import Section, without_effect

Side = Annotated[int, Field(gt=0, le=16384)]
Threshold = Annotated[float, Field(ge=0)]
#: A threshold, or false for none. The tags keep messages to the one kind that was meant.
OptionalThreshold = Annotated[
    Annotated[Literal[False], Tag("off")] | Annotated[Threshold, Strict(), Tag("threshold")],
    Discriminator(lambda value: "off" if value is False else "threshold"),
]
Scale = Annotated[float, Field(gt=0, le=LARGEST_SCALE)]


class InferenceSpec(Section):
    """How pictures are fitted, at which scales the network sees them, and the decoder's thresholds.

    Everything that is absent comes from the model file.
    """

    model_path: Path | None = None
    train_spec: Path | None = Field(None, description="only needed by model files that say nothing about themselves")
    input_shape: tuple[Side, Side] | None = Field(None, description="height, width")
    keep_aspect_ratio_mode: Literal["adjust_network_input", "pad_image_input", "stretch"] | None = (
        "adjust_network_input"
    )
    output_stage_to_use: int | None = Field(None, ge=1)
    output_upsampling_factor: tuple[int, int] | None = without_effect(
        None, "peaks are refined below a pixel on the maps themselves"
    )
    heatmap_threshold: Threshold | None = None
    weak_heatmap_threshold: OptionalThreshold | None = Field(
        None, description="peaks down to this complete people who lack the joint; false: they do not"
    )
    paf_threshold: Threshold | None = None
    multi_scale_inference: bool | None = Field(None, description="false: one scale; absent: the model's own")
    scales: tuple[Scale, ...] = Field((0.5, 1.0, 1.5, 2.0), min_length=1)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Refuse a weak threshold that is not the weaker one."""
        weak, strong = self.weak_heatmap_threshold, self.heatmap_threshold
        if weak and strong is not None and weak >= strong:
            yield "weak_heatmap_threshold", f"found {weak:g}, expected less than heatmap_threshold, {strong:g}"

    def thresholds(self) -> dict[str, Any]:
        """Return the settings of the decoder that the spec names, by their names in `DecoderSettings`."""
        names = ("heatmap_threshold", "weak_heatmap_threshold", "paf_threshold")
        said = {name: value for name in names if (value := getattr(self, name)) is not None}
        return {name: None if value is False else value for name, value in said.items()}
