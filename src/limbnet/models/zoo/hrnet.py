"""HRNet (Sun et al. 2019): branches of four resolutions side by side, exchanged after every module.

The trunk also carries HigherHRNet, DEKR and TransPose-H. FPD and DarkPose are this network with other training and
decoding. Names and shapes of the state dict are the published ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from limbnet.models.zoo.blocks import BasicBlock, bottlenecks, conv_norm, convolution, initialise
from limbnet.models.zoo.outputs import JointMaps

#: Modules in stages 2, 3 and 4, which have 2, 3 and 4 branches.
MODULES = (1, 4, 3)
BLOCKS_PER_BRANCH = 4


class Transition(nn.ModuleList):
    """Opens the branches of the next stage: kept ones pass, a new one halves the lowest branch so far.

    The first transition also adapts the one branch it gets to the width of the new first branch.
    """

    def __init__(self, before: Sequence[int], after: Sequence[int]) -> None:
        layers: list[nn.Module] = []
        for index, width in enumerate(after):
            if index >= len(before):
                layers.append(nn.Sequential(conv_norm(before[-1], width, stride=2)))
            else:
                layers.append(nn.Identity() if width == before[index] else conv_norm(before[index], width))
        super().__init__(layers)

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Return one map per branch of the next stage, each half the size of the one before."""
        return [layer(branches[min(index, len(branches) - 1)]) for index, layer in enumerate(self)]


def fuse_path(widths: Sequence[int], target: int, source: int) -> nn.Module:
    """Return the layers that bring branch `source` to the width and size of branch `target`."""
    if source == target:
        return nn.Identity()
    if source > target:
        project = conv_norm(widths[source], widths[target], 1, relu=False)
        return project.append(nn.Upsample(scale_factor=2 ** (source - target), mode="nearest"))
    steps = [conv_norm(widths[source], widths[source], stride=2) for _ in range(target - source - 1)]
    return nn.Sequential(*steps, conv_norm(widths[source], widths[target], stride=2, relu=False))


class ExchangeModule(nn.Module):
    """Four basic blocks on every branch, then every output is the sum over all branches, brought to its size.

    `outputs` says how many of the branches come out.
    """

    def __init__(self, widths: Sequence[int], outputs: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(width) for _ in range(BLOCKS_PER_BRANCH))) for width in widths
        )
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(fuse_path(widths, target, source) for source in range(len(widths)))
            for target in range(outputs)
        )

    def forward(self, branches: list[Tensor]) -> list[Tensor]:
        """Map one tensor (B, width, h / 2^b, w / 2^b) per branch b to as many of the same shapes as come out."""
        features = [blocks(branch) for blocks, branch in zip(self.branches, branches, strict=True)]
        return [fuse(paths, features) for paths in self.fuse_layers]


def fuse(paths: nn.Module, features: list[Tensor]) -> Tensor:
    """Return ReLU(sum over the branches of path(branch)), added from the first branch on."""
    assert isinstance(paths, nn.ModuleList)
    first, *others = (path(feature) for path, feature in zip(paths, features, strict=True))
    for other in others:
        first = first + other
    return F.relu(first)


class HRNetTrunk(nn.Module):
    """Stem, four bottlenecks and the stages 2 to `last_stage`.

    Args:
        width: channels of the first branch, C; the others have 2C, 4C and 8C.
        last_stage: 3 or 4.
        all_branches: return every branch of the last stage, not the first alone.
    """

    def __init__(self, width: int, last_stage: int = 4, all_branches: bool = False) -> None:
        super().__init__()
        self.conv1 = convolution(3, 64, stride=2)
        self.bn1 = nn.BatchNorm2d(64)
        self.conv2 = convolution(64, 64, stride=2)
        self.bn2 = nn.BatchNorm2d(64)
        self.layer1 = bottlenecks(64, 64, 4)
        self.last_stage = last_stage
        self.widths = tuple(width * 2**branch for branch in range(last_stage))
        before: tuple[int, ...] = (256,)
        for stage, modules in zip(range(2, last_stage + 1), MODULES, strict=False):
            widths = self.widths[:stage]
            outputs = [stage] * modules
            if stage == last_stage and not all_branches:
                outputs[-1] = 1
            self.add_module(f"transition{stage - 1}", Transition(before, widths))
            self.add_module(f"stage{stage}", nn.Sequential(*(ExchangeModule(widths, count) for count in outputs)))
            before = widths

    def trunk(self, images: Tensor) -> list[Tensor]:
        """Map (B, 3, H, W) to one tensor (B, 2^b C, H / 2^(b+2), W / 2^(b+2)) per branch b.

        H and W must be multiples of 2^(last_stage + 1), else the branches do not fit each other.
        """
        features = F.relu(self.bn1(self.conv1(images)))
        features = F.relu(self.bn2(self.conv2(features)))
        branches = [self.layer1(features)]
        for stage in range(2, self.last_stage + 1):
            branches = self.get_submodule(f"transition{stage - 1}")(branches)
            branches = self.get_submodule(f"stage{stage}")(branches)
        return branches


class HRNet(HRNetTrunk):
    """HRNet-W32 or W48 for the K joints of one person per crop."""

    def __init__(self, width: int, joints: int) -> None:
        super().__init__(width)
        self.final_layer = nn.Conv2d(width, joints, 1)
        initialise(self, [self.final_layer])

    def forward(self, images: Tensor) -> JointMaps:
        """Map normalised images (B, 3, H, W) to heatmaps (B, K, H/4, W/4)."""
        return JointMaps(self.final_layer(self.trunk(images)[0]))
