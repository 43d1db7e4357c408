"""OpenPose's BODY_25 and COCO networks (Cao et al. 2019 and 2017), layer for layer as their Caffe definitions.

The state dict has the Caffe layer names; both networks are dictionaries of layers under those names. Input is BGR,
value / 256 - 0.5, with sides that are multiples of 8.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from limbnet.models.zoo.blocks import initialise
from limbnet.models.zoo.outputs import PartMaps

#: VGG-19's first ten convolutions: name, input and output channels.
VGG = (
    ("conv1_1", 3, 64),
    ("conv1_2", 64, 64),
    ("conv2_1", 64, 128),
    ("conv2_2", 128, 128),
    ("conv3_1", 128, 256),
    ("conv3_2", 256, 256),
    ("conv3_3", 256, 256),
    ("conv3_4", 256, 256),
    ("conv4_1", 256, 512),
    ("conv4_2", 512, 512),
)
REDUCTION = (("conv4_3_CPM", 512, 256), ("conv4_4_CPM", 256, 128))
POOLED_BEFORE = ("conv2_1", "conv3_1", "conv4_1")
FEATURES = 128


class LayerDict(nn.ModuleDict):
    """Layers under their Caffe names, with what both networks do alike."""

    def add_convolution(self, name: str, inputs: int, outputs: int, kernel: int) -> None:
        """Add a convolution with bias that keeps the size."""
        self[name] = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2)

    def features(self, images: Tensor) -> Tensor:
        """Map (B, 3, H, W) to the 128 channels (B, 128, H/8, W/8) that every stage reads."""
        for name, _, _ in (*VGG, *REDUCTION):
            if name in POOLED_BEFORE:
                images = F.max_pool2d(images, 2)
            images = self.activated(name, images)
        return images

    def activated(self, name: str, features: Tensor) -> Tensor:
        """Return convolution `name` of `features` and its activation: PReLU where the network has one, else ReLU."""
        features = self[name](features)
        slope = name.replace("Mconv", "Mprelu") if name.startswith("M") else name.replace("conv", "prelu", 1)
        return self[slope](features) if slope in self else F.relu(features)


class OpenPoseBody25(LayerDict):
    """BODY_25: four stages refine the part affinity fields, then two stages the part maps.

    Every stage has five groups of three 3x3 convolutions; a group returns all three, concatenated. A later stage reads
    the features and its own last output; part stages also read the final fields. PReLU follows every convolution from
    conv4_2 on.
    """

    PAF_STAGES = 4
    PART_STAGES = 2
    GROUPS = 5

    def __init__(self, joints: int = 25, limbs: int = 26) -> None:
        super().__init__()
        parts, fields = joints + 1, 2 * limbs
        for name, inputs, outputs in (*VGG, *REDUCTION):
            self.add_convolution(name, inputs, outputs, 3)
            if name == VGG[-1][0] or name.endswith("CPM"):
                self[name.replace("conv", "prelu", 1)] = nn.PReLU(outputs)
        for stage in range(self.PAF_STAGES):
            self._add_stage(f"stage{stage}_L2", FEATURES + (fields if stage else 0), fields, first=stage == 0)
        for stage in range(self.PART_STAGES):
            inputs = FEATURES + fields + (parts if stage else 0)
            self._add_stage(f"stage{stage}_L1", inputs, parts, first=stage == 0)
        initialise(self, self._heads())

    def _add_stage(self, stage: str, inputs: int, outputs: int, first: bool) -> None:
        width, hidden = (96, 256) if first else (128, 512)
        for group in range(1, self.GROUPS + 1):
            for position in range(3):
                self._add_with_slope(f"{group}_{stage}_{position}", inputs, width, 3)
                inputs = width
            inputs = 3 * width
        self._add_with_slope(f"6_{stage}", inputs, hidden, 1)
        self.add_convolution(f"Mconv7_{stage}", hidden, outputs, 1)

    def _add_with_slope(self, suffix: str, inputs: int, outputs: int, kernel: int) -> None:
        self.add_convolution(f"Mconv{suffix}", inputs, outputs, kernel)
        self[f"Mprelu{suffix}"] = nn.PReLU(outputs)

    def _heads(self) -> Iterator[nn.Conv2d]:
        return (layer for name, layer in self.items() if name.startswith("Mconv7") and isinstance(layer, nn.Conv2d))

    def _run_stage(self, stage: str, features: Tensor) -> Tensor:
        for group in range(1, self.GROUPS + 1):
            outputs = []
            for position in range(3):
                features = self.activated(f"Mconv{group}_{stage}_{position}", features)
                outputs.append(features)
            features = torch.cat(outputs, 1)
        maps: Tensor = self[f"Mconv7_{stage}"](self.activated(f"Mconv6_{stage}", features))
        return maps

    def forward(self, images: Tensor) -> PartMaps:
        """Map BGR images (B, 3, H, W), value / 256 - 0.5, to the last part maps and fields at stride 8."""
        features = self.features(images)
        pafs = self._run_stage("stage0_L2", features)
        for stage in range(1, self.PAF_STAGES):
            pafs = self._run_stage(f"stage{stage}_L2", torch.cat((features, pafs), 1))
        heatmaps = self._run_stage("stage0_L1", torch.cat((features, pafs), 1))
        for stage in range(1, self.PART_STAGES):
            heatmaps = self._run_stage(f"stage{stage}_L1", torch.cat((features, heatmaps, pafs), 1))
        return PartMaps(heatmaps, pafs)


class OpenPoseCoco(LayerDict):
    """COCO: six stages of two branches, L1 for the part affinity fields and L2 for the part maps.

    Stage 1 has three 3x3 and two 1x1 convolutions a branch, later stages five 7x7 and two 1x1. A later stage reads the
    last fields, the last part maps and the features, in this order.
    """

    STAGES = 6

    def __init__(self, joints: int = 18, limbs: int = 19) -> None:
        super().__init__()
        outputs = {"L1": 2 * limbs, "L2": joints + 1}
        for name, inputs, width in (*VGG, *REDUCTION):
            self.add_convolution(name, inputs, width, 3)
        for branch, count in outputs.items():
            self._add_branch(1, branch, [FEATURES, 128, 128, 128, 512, count], kernels=(3, 3, 3, 1, 1))
        together = FEATURES + sum(outputs.values())
        for stage in range(2, self.STAGES + 1):
            for branch, count in outputs.items():
                widths = [together, *(128,) * 6, count]
                self._add_branch(stage, branch, widths, kernels=(7, 7, 7, 7, 7, 1, 1))
        stages = range(1, self.STAGES + 1)
        heads = (self[self._names(stage, branch)[-1]] for stage in stages for branch in outputs)
        initialise(self, (head for head in heads if isinstance(head, nn.Conv2d)))

    @staticmethod
    def _names(stage: int, branch: str) -> list[str]:
        if stage == 1:
            return [f"conv5_{number}_CPM_{branch}" for number in range(1, 6)]
        return [f"Mconv{number}_stage{stage}_{branch}" for number in range(1, 8)]

    def _add_branch(self, stage: int, branch: str, widths: list[int], kernels: tuple[int, ...]) -> None:
        for name, inputs, outputs, kernel in zip(
            self._names(stage, branch), widths[:-1], widths[1:], kernels, strict=True
        ):
            self.add_convolution(name, inputs, outputs, kernel)

    def _run_branch(self, stage: int, branch: str, features: Tensor) -> Tensor:
        *hidden, last = self._names(stage, branch)
        for name in hidden:
            features = self.activated(name, features)
        maps: Tensor = self[last](features)
        return maps

    def forward(self, images: Tensor) -> PartMaps:
        """Map BGR images (B, 3, H, W), value / 256 - 0.5, to the last part maps and fields at stride 8."""
        features = self.features(images)
        pafs, heatmaps = (self._run_branch(1, branch, features) for branch in ("L1", "L2"))
        for stage in range(2, self.STAGES + 1):
            together = torch.cat((pafs, heatmaps, features), 1)
            pafs, heatmaps = (self._run_branch(stage, branch, together) for branch in ("L1", "L2"))
        return PartMaps(heatmaps, pafs)
