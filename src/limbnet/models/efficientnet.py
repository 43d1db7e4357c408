"""EfficientNet-Lite0 with its last three or four strides summed: a backbone made for 8-bit integers.

Tan and Le 2019 ("EfficientNet"); the Lite variants replace swish by ReLU6 and leave squeeze-and-excitation out. Blocks
are MobileNetV2's inverted residuals (Sandler et al. 2018). The classifier and its 1280 channels are left out.
"""

from __future__ import annotations

from string import ascii_lowercase
from typing import Any

from limbnet.models.layers import Backbone, Chain, LayerBuilder, Path, Pyramid, Residual, scaled

#: (repeats, kernel, stride of the first, expansion, channels) of the seven stages.
LITE0_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

#: The stage after which each stride's features are taken.
LITE0_TAPS = {4: 2, 8: 3, 16: 5, 32: 7}


def lite0_blocks() -> list[str]:
    """Return the names of the 16 blocks in order: `block_1a`, `block_2a`, `block_2b`, ..."""
    return [
        f"block_{stage}{ascii_lowercase[repeat]}"
        for stage, (repeats, *_) in enumerate(LITE0_STAGES, 1)
        for repeat in range(repeats)
    ]


def build_efficientnet_lite0(
    build: LayerBuilder, *, width: float = 1.0, fused: int = 128, output_stride: int = 8, **_: Any
) -> Backbone:
    """EfficientNet-Lite0, its strides from `output_stride` (8 or 4) to 32 summed in `fused` channels.

    Widths of 1 fit the ImageNet weights. Convolutions have no bias, and none of them is regularised.
    """
    stem, channels = build.light("stem", 3, scaled(32, width), 3, stride=2)
    levels: list[Path] = []
    tapped: list[int] = []
    parts: list[Chain | Residual] = [stem]
    sums: list[tuple[str, ...]] = []
    before = "stem_conv"
    for stage, (repeats, kernel, stride, expansion, out_channels) in enumerate(LITE0_STAGES, 1):
        ends: list[str] = []
        for repeat in range(repeats):
            prefix = f"block_{stage}{ascii_lowercase[repeat]}"
            block, channels = _inverted_residual(
                build, prefix, channels, scaled(out_channels, width), kernel,
                stride=stride if repeat == 0 else 1, expansion=expansion, add=repeat > 0,
            )  # fmt: skip
            parts.append(block)
            # A depthwise convolution keeps the channels of the convolution before it.
            sums.append((f"{prefix}_expand_conv" if expansion > 1 else before, f"{prefix}_depthwise_conv"))
            before = f"{prefix}_project_conv"
            ends.append(before)
        if len(ends) > 1:
            sums.append(tuple(ends))
        if stage in {tap for tapped_stride, tap in LITE0_TAPS.items() if tapped_stride >= output_stride}:
            levels.append(Path(tuple(parts)))
            tapped.append(channels)
            parts = []
    laterals, names = [], []
    for number, tap_channels in enumerate(tapped):
        prefix = f"fuse_stride{output_stride << number}"
        laterals.append(build.light(prefix, tap_channels, fused, relu=False)[0])
        names.append(f"{prefix}_conv")
    sums.append(tuple(names))
    mixed, channels = build.light("fuse_depthwise", build.built[names[0]], 0, 5, depthwise=True)
    sums.append((names[0], "fuse_depthwise_conv"))
    pyramid = Pyramid(tuple(levels), tuple(laterals), mixed)
    return Backbone((pyramid,), channels, output_stride, sums=tuple(sums))


def _inverted_residual(
    build: LayerBuilder, prefix: str, in_channels: int, out_channels: int, kernel: int, *,
    stride: int, expansion: int, add: bool,
) -> tuple[Chain | Residual, int]:  # fmt: skip
    """Add one block: widen, filter each channel, narrow without ReLU, and add what came in where `add` says so."""
    chain, channels = Chain(), in_channels
    if expansion > 1:
        chain, channels = build.light(f"{prefix}_expand", channels, expansion * channels)
    filtered, channels = build.light(f"{prefix}_depthwise", channels, 0, kernel, stride=stride, depthwise=True)
    narrowed, channels = build.light(f"{prefix}_project", channels, out_channels, relu=False)
    chain += filtered + narrowed
    return (Residual(chain, Chain(), Chain()) if add else chain), channels
