"""Schema of the inference spec (YAML) that `evaluate` and `inference` read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from limbnet.specs.base import Section, without_effect
from limbnet.specs.train import Nullable


class InferenceSpec(Section):
    """How pictures are fitted, at which scales the network sees them, and the decoder's thresholds.

    Everything that is absent comes from the model file.
    """

    model_path: Annotated[Path | None, Nullable] = None
    train_spec: Annotated[Path | None, Nullable] = Field(
        None, description="only needed by model files that say nothing about themselves"
    )
    input_shape: tuple[int, int] | None = None
    keep_aspect_ratio_mode: Annotated[
        Literal["adjust_network_input", "pad_image_input", "stretch"] | None, Nullable
    ] = "adjust_network_input"
    output_stage_to_use: Annotated[int | None, Nullable] = Field(None, ge=1)
    output_upsampling_factor: Annotated[tuple[int, int] | None, Nullable] = without_effect(
        None, "peaks are refined below a pixel on the maps themselves"
    )
    heatmap_threshold: float = Field(0.1, ge=0)
    paf_threshold: float = Field(0.05, ge=0)
    multi_scale_inference: bool = False
    scales: tuple[float, ...] = (0.5, 1.0, 1.5, 2.0)
