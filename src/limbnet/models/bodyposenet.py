"""BodyPoseNet: a backbone, then 2 to 7 stages that refine heatmaps and part affinity fields. Lite and full.

`build_model` makes a fresh network from a spec; `build_from_architecture` rebuilds one, pruned or not, from the plain
values of `BodyPoseNet.architecture`. Both know the joints only through the `Skeleton` they are given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from limbnet.errors import ModelFileError, SpecError, UsageError
from limbnet.models.backbones import BACKBONES, backbone_problems
from limbnet.models.layers import LayerBuilder, scaled
from limbnet.models.stages import StageDesign, build_light_stage, build_stage
from limbnet.skeleton import Skeleton
from limbnet.specs.train import ModelSpec


class StageMaps(NamedTuple):
    """The maps of every stage, first stage first.

    Attributes:
        heatmaps: S tensors (B, K+1, h, w); the last channel is the background.
        pafs: S tensors (B, 2L, h, w); limb l owns channels 2l (x) and 2l + 1 (y).
    """

    heatmaps: list[Tensor]
    pafs: list[Tensor]


@dataclass(frozen=True)
class Design:
    """A network's description without its widths; names and meanings are the train spec's."""

    class_name: Literal["BpNetLiteModel", "BpNetModel", "BpNetLightModel"]
    architecture: str
    nlayers: int
    mtype: str
    backbone_bias: bool
    backbone_batch_norm: bool
    stages: int
    stage1_kernel_sizes: tuple[int, ...]
    stageT_kernel_sizes: tuple[int, ...]
    use_self_attention: bool
    use_bias: bool
    output_stride: int = 8
    image_pyramid_levels: int = 1

    def problems(self) -> list[str]:
        """List what cannot be built, one line each."""
        problems = backbone_problems(self.architecture, self.nlayers, self.mtype)
        if self.class_name not in ("BpNetLiteModel", "BpNetModel", "BpNetLightModel"):
            problems.append(f"class '{self.class_name}' is none of BpNetLiteModel, BpNetModel, BpNetLightModel")
        if self.output_stride not in ((4, 8) if self.architecture == "efficientnet_lite0" else (8,)):
            problems.append(f"output_stride is {self.output_stride}; efficientnet_lite0 has 4 and 8, others 8")
        if self.image_pyramid_levels not in ((1, 2, 3) if self.class_name == "BpNetLightModel" else (1,)):
            problems.append(
                f"image_pyramid_levels is {self.image_pyramid_levels}; BpNetLightModel has 1 to 3, others 1"
            )
        if not 1 <= self.stages <= 7:
            problems.append(f"{self.stages} stages; 2 to 7 are possible")
        for name in ("stage1_kernel_sizes", "stageT_kernel_sizes"):
            sizes = getattr(self, name)
            if not sizes or min(sizes) < 1:
                problems.append(f"{name} is {list(sizes)}; one or more kernel sizes are needed")
        return problems


class BodyPoseNet(nn.ModuleDict):
    """The network. Its layers, by BodyPoseNet's names, are its items; the state dict's keys are `<layer>.weight` etc.

    Attributes:
        skeleton: decides the channels of the outputs: K + 1 heatmaps, 2 L part affinity fields.
        stride: input pixels per map cell.
        output_layers: the convolutions that return maps, stage by stage, heatmap before PAF. The last pair is
            (`heatmap_out`, `paf_out`).
        regularised_layers: the convolutions whose kernels and biases the regulariser sees, each with its own factor.
        elementwise_groups: groups of convolutions whose outputs meet in a product or a sum, or that filter each channel
            of another one's output (depthwise), so that pruning must keep the same channels of each.

    Args:
        design: what to build.
        skeleton: joints and limbs.
        backbone_width, width: factors on the channels of the backbone, and of everything after it.
        channels: out-channels by convolution instead of the widths, to rebuild a network.

    Weights are torch's defaults until `initialise` or `load_state_dict`.
    """

    def __init__(
        self,
        design: Design,
        skeleton: Skeleton,
        *,
        backbone_width: float = 1.0,
        width: float = 1.0,
        channels: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        self.design = design
        self.skeleton = skeleton
        build = LayerBuilder(self, channels)
        self.backbone = BACKBONES[design.architecture](
            build, nlayers=design.nlayers, mtype=design.mtype, width=backbone_width,
            use_bias=design.backbone_bias, use_batch_norm=design.backbone_batch_norm,
            fused=scaled(128, width), output_stride=design.output_stride,
        )  # fmt: skip
        self.stride = self.backbone.stride
        self.backbone_layers = tuple(build.built)
        light = design.class_name == "BpNetLightModel"
        if light:
            self.reduction, reduced = build.light("channel_reduction", self.backbone.channels, scaled(128, width))
        else:
            self.reduction, reduced = build.conv(
                "channel_reduction_conv", self.backbone.channels, scaled(128, width), 3,
                bias=design.use_bias, relu="channel_reduction_conv/relu",
            )  # fmt: skip
        stage_design = StageDesign(
            lite=design.class_name == "BpNetLiteModel",
            heat_channels=skeleton.heat_channels,
            paf_channels=skeleton.paf_channels,
            width=width,
            first_kernels=design.stage1_kernel_sizes,
            later_kernels=design.stageT_kernel_sizes,
            attention=design.use_self_attention,
            bias=design.use_bias,
        )
        later_input = reduced + skeleton.heat_channels + skeleton.paf_channels
        self.stages = tuple(
            (build_light_stage if light else build_stage)(
                build,
                stage_design,
                number,
                last=number == design.stages,
                in_channels=reduced if number == 1 else later_input,
            )
            for number in range(1, design.stages + 1)
        )
        stage_layers = tuple(build.built)[len(self.backbone_layers) :]
        self.output_layers = tuple(
            name for stage in self.stages for branch in (stage.heat, stage.paf) for name in branch.out.names
        )
        self.regularised_layers = self.backbone.regularised + stage_layers
        self.elementwise_groups = (
            self.backbone.sums
            + tuple(group for stage in self.stages for group in stage.partners)
            + tuple(
                (branch.body.names[-2], branch.attention.names[0])  # the convolution before the last ReLU, the mask's
                for stage in self.stages
                for branch in (stage.paf, stage.heat)
                if branch.attention.names
            )
        )
        self._check_channels(build)

    def forward(self, images: Tensor) -> StageMaps:
        """Compute the maps of every stage.

        With several levels the network looks at the picture, at its half and at its quarter with the same weights, and
        averages what it sees at the size of the first (an image pyramid): small people show in one, large in another.

        Args:
            images: (B, 3, H, W) float, RGB, normalised (value / scale - offset); H and W are multiples of the stride.

        Raises:
            UsageError: H or W is no multiple of the stride.
        """
        if not torch.compiler.is_compiling():
            self._check_size(images)
        maps = self._maps(images)
        for level in range(1, self.design.image_pyramid_levels):
            images = F.avg_pool2d(images, 2)
            coarser = self._maps(images)
            maps = StageMaps(
                [_finer(low, 2**level, high) for low, high in zip(coarser.heatmaps, maps.heatmaps, strict=True)],
                [_finer(low, 2**level, high) for low, high in zip(coarser.pafs, maps.pafs, strict=True)],
            )
        share = 1 / self.design.image_pyramid_levels
        return maps if share == 1 else StageMaps([x * share for x in maps.heatmaps], [x * share for x in maps.pafs])

    def _maps(self, images: Tensor) -> StageMaps:
        """Compute the maps of every stage at one level of the image pyramid."""
        features = self.reduction(self, self.backbone(self, images))
        heatmaps: list[Tensor] = []
        pafs: list[Tensor] = []
        x = features
        for stage in self.stages:
            if heatmaps:
                x = torch.cat((features, heatmaps[-1], pafs[-1]), dim=1)
            heat, paf = stage(self, x)
            heatmaps.append(heat)
            pafs.append(paf)
        return StageMaps(heatmaps, pafs)

    @property
    def architecture(self) -> dict[str, Any]:
        """Plain JSON values from which `build_from_architecture` rebuilds the network, pruned widths included."""
        description = {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self.design).items()
        }
        return description | {"channels": {name: conv.out_channels for name, conv in self.conv_layers().items()}}

    def conv_layers(self) -> dict[str, nn.Conv2d]:
        """Every convolution by name, in the order in which the graph is visited."""
        return {name: layer for name, layer in self.items() if isinstance(layer, nn.Conv2d)}

    def _check_size(self, images: Tensor) -> None:
        height, width = images.shape[-2:]
        if height % self.stride or width % self.stride:
            raise UsageError(
                f"An input of {height}x{width} (height x width) is no multiple of the network's stride {self.stride}.",
                f"Use {_round_up(height, self.stride)}x{_round_up(width, self.stride)}.",
            )

    def _check_channels(self, build: LayerBuilder) -> None:
        """Refuse widths that do not fit: layers nobody knows, outputs of another skeleton, unequal partners."""
        problems = [f"there is no layer '{name}'" for name in build.leftover()]
        for names, expected in (
            (self.output_layers[0::2], self.skeleton.heat_channels),
            (self.output_layers[1::2], self.skeleton.paf_channels),
        ):
            problems += [
                f"layer '{name}' has {build.built[name]} channels, the skeleton '{self.skeleton.name}' needs {expected}"
                for name in names
                if build.built[name] != expected
            ]
        problems += [
            f"{', '.join(group)} have {', '.join(str(build.built[name]) for name in group)} channels, not equally many"
            for group in self.elementwise_groups
            if len({build.built[name] for name in group}) > 1
        ]
        if problems:
            raise ModelFileError("The architecture does not fit together:\n  " + "\n  ".join(problems))


def build_model(spec: ModelSpec, skeleton: Skeleton) -> BodyPoseNet:
    """Build the network of a train spec with fresh weights, drawn from torch's global random generator.

    Raises:
        SpecError: the backbone does not exist in this depth or type, or the spec's channels contradict the skeleton.
            Every mistake is named.
    """
    backbone = spec.backbone_attributes
    nlayers = 19 if backbone.nlayers is None and backbone.architecture == "vgg" else backbone.nlayers
    design = Design(
        class_name=spec.class_name,
        architecture=backbone.architecture,
        nlayers=nlayers if nlayers is not None else 0,
        mtype=backbone.mtype,
        backbone_bias=backbone.use_bias,
        backbone_batch_norm=backbone.use_batch_norm,
        stages=spec.stages,
        stage1_kernel_sizes=spec.stage1_kernel_sizes,
        stageT_kernel_sizes=spec.stageT_kernel_sizes,
        use_self_attention=spec.use_self_attention,
        use_bias=spec.use_bias,
        output_stride=backbone.output_stride,
        image_pyramid_levels=spec.image_pyramid_levels,
    )
    problems = design.problems()
    for key, found, expected, reason in (
        (
            "heat_channels",
            spec.heat_channels,
            skeleton.heat_channels,
            f"{len(skeleton.joints)} joints and the background",
        ),
        ("paf_channels", spec.paf_channels, skeleton.paf_channels, f"two for each of {len(skeleton.limbs)} limbs"),
    ):
        if found not in (None, expected):
            problems.append(f"{key} is {found}, the skeleton '{skeleton.name}' has {expected} ({reason})")
    if problems:
        raise SpecError("The model cannot be built as the spec describes it:\n  " + "\n  ".join(problems))
    model = BodyPoseNet(design, skeleton, backbone_width=backbone.width, width=spec.width)
    initialise(model, spec.kernel_initializer)
    return model


def build_from_architecture(architecture: Mapping[str, Any], skeleton: Skeleton) -> BodyPoseNet:
    """Rebuild a network from `BodyPoseNet.architecture`; its weights are still to be loaded.

    Raises:
        ModelFileError: the description is no BodyPoseNet, lacks something, or does not fit the skeleton.
    """
    fields = dict(architecture)
    try:
        channels = {str(name): int(count) for name, count in fields.pop("channels").items()}
        for name in ("stage1_kernel_sizes", "stageT_kernel_sizes"):
            fields[name] = tuple(int(size) for size in fields[name])
        design = Design(**fields)
        problems = design.problems()
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ModelFileError(f"This is no description of a BodyPoseNet: {error}.") from error
    if problems:
        raise ModelFileError("The described network cannot be built:\n  " + "\n  ".join(problems))
    return BodyPoseNet(design, skeleton, channels=channels)


def first_stages(model: BodyPoseNet, stages: int) -> BodyPoseNet:
    """Return a network of the first stages alone, with copies of their weights: its maps are those of the last of them.

    Raises:
        ModelFileError: the network has fewer stages, or the class needs more.
    """
    design = replace(model.design, stages=stages)
    problems = design.problems()
    if problems or stages > len(model.stages):
        reason = "; ".join(problems) or f"it has {len(model.stages)}"
        raise ModelFileError(f"The network cannot be cut to {stages} stages: {reason}.")
    last = model.stages[stages - 1]
    here = {"heatmap_out": last.heat.out.names[0], "paf_out": last.paf.out.names[0]}
    with torch.device("meta"):
        names = BodyPoseNet(design, model.skeleton).conv_layers()
    channels = {name: model.conv_layers()[here.get(name, name)].out_channels for name in names}
    short = BodyPoseNet(design, model.skeleton, channels=channels)
    for name, layer in short.items():
        layer.load_state_dict(model[here.get(name, name)].state_dict())
    return short


def initialise(model: BodyPoseNet, kernel_initializer: str = "random_normal") -> None:
    """Draw fresh weights: backbone kernels Glorot uniform (He normal for ResNet), the others N(0, 0.01), biases 0.

    In the light network everything but the outputs is He normal, and so is EfficientNet-Lite0.

    Args:
        model: changed in place.
        kernel_initializer: `xavier` draws the other kernels Glorot uniform too, `he_normal` everything but the outputs
            He normal; every other name means N(0, 0.01).
    """
    in_backbone = set(model.backbone_layers)
    he_normal = in_backbone if model.design.architecture in ("resnet", "efficientnet_lite0") else set()
    if model.design.class_name == "BpNetLightModel" or kernel_initializer == "he_normal":
        he_normal |= set(model.conv_layers()) - set(model.output_layers)
    for name, conv in model.conv_layers().items():
        if name in he_normal:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        elif name in in_backbone or kernel_initializer == "xavier":
            nn.init.xavier_uniform_(conv.weight)
        else:
            nn.init.normal_(conv.weight, std=0.01)
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)


def _finer(coarse: Tensor, factor: int, fine: Tensor) -> Tensor:
    """Enlarge the maps of a halved picture `factor` times and add them to those of the whole one, (B, C, h, w).

    Sizes that are no multiples of the factor had been rounded up: what is too much at the ends is cut off.
    """
    enlarged = F.interpolate(coarse, scale_factor=factor, mode="bilinear", align_corners=False)
    return fine + enlarged[..., : fine.shape[-2], : fine.shape[-1]]


def _round_up(size: int, stride: int) -> int:
    return -(-size // stride) * stride
