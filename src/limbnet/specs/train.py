"""Schema of the train spec (YAML): trainer, dataloader, augmentation, labels, model, optimiser, schedule and loss.

Keys, meanings and defaults are those of the manuals; where the manuals and the original source differ the manuals'
default holds. Keys of limbnet's own are marked so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from limbnet.skeleton import Skeleton
from limbnet.specs.base import Section, class_name, without_effect
from limbnet.specs.dataset import Visibility
from limbnet.specs.optimiser import OptimizerSpec, WeightedMomentum, planning_mistakes
from limbnet.specs.recipe import CopyPasteParams, GrowingSize, MosaicParams, growing_mistakes
from limbnet.specs.trainer import DatasetChoice, TrainerSpec


class ImageDims(Section):
    """Size of the network's input in training."""

    height: int = Field(256, gt=0)
    width: int = Field(256, gt=0)
    channels: Literal[3] = 3


class ImageConfig(Section):
    """The network's input pictures. `growing_sizes` (limbnet's own) train on smaller ones first."""

    image_dims: ImageDims = ImageDims()
    growing_sizes: tuple[GrowingSize, ...] = ()
    image_encoding: str = without_effect("jpg", "pictures are recognised by their content")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from growing_mistakes(self.growing_sizes)


class PoseConfig(Section):
    """Which skeleton is learnt, and the size [height, width] of the label maps."""

    class_name: Literal["BpNetPoseConfig"] = class_name("BpNetPoseConfig")
    target_shape: tuple[int, int] | None = None
    pose_config_path: Path | None = None


class DatasetConfig(DatasetChoice):
    """Where training data lie. Without records, the COCO JSON of each dataset spec is read directly."""

    root_data_path: Path | None = None
    train_records_folder_path: Path | None = None
    train_records_path: tuple[str, ...] = ()
    val_records_folder_path: Path | None = without_effect(None, "validation reads the dataset specs' test data")
    val_records_path: tuple[str, ...] = without_effect((), "validation reads the dataset specs' test data")


class NormalizationParams(Section):
    """The network sees value / scale - offset, per RGB channel."""

    image_scale: tuple[float, float, float] = (256.0, 256.0, 256.0)
    image_offset: tuple[float, float, float] = (0.5, 0.5, 0.5)
    mask_scale: tuple[float] = without_effect((255.0,), "a mask pixel counts or does not")
    mask_offset: tuple[float] = without_effect((0.0,), "a mask pixel counts or does not")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if 0 in self.image_scale:
            yield "image_scale", "is a divisor and must not be 0"


class SpatialAugParams(Section):
    """Random flips, rotation, zoom and shift. A null minimum means minus the maximum."""

    flip_lr_prob: float = Field(0.5, ge=0, le=1)
    flip_tb_prob: float = Field(0.0, ge=0, le=1)
    rotate_deg_max: float = 40.0
    rotate_deg_min: float | None = None
    zoom_prob: float = Field(0.0, ge=0, le=1)
    zoom_ratio_min: float = Field(1.0, gt=0)
    zoom_ratio_max: float = Field(1.0, gt=0)
    translate_max_x: float = 40.0
    translate_min_x: float | None = None
    translate_max_y: float = 40.0
    translate_min_y: float | None = None
    use_translate_ratio: bool = False
    translate_ratio_max: float = 0.2
    translate_ratio_min: float | None = None
    target_person_scale: float = Field(0.6, gt=0)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        for name in ("rotate_deg", "zoom_ratio", "translate", "translate_ratio"):
            for axis in ("_x", "_y") if name == "translate" else ("",):
                low, high = getattr(self, f"{name}_min{axis}"), getattr(self, f"{name}_max{axis}")
                if low is not None and low > high:
                    yield f"{name}_min{axis}", f"is {low:g}, above {name}_max{axis} {high:g}"
                if low is None and high < 0:
                    yield f"{name}_max{axis}", f"is {high:g}: with {name}_min{axis} null it must not be negative"


class ColourAugParams(Section):
    """Random colour changes; limbnet's own, off unless given. Each number is the largest change, 0 for none."""

    brightness: float = Field(0.0, ge=0, le=1)
    contrast: float = Field(0.0, ge=0, le=1)
    saturation: float = Field(0.0, ge=0, le=1)
    hue: float = Field(0.0, ge=0, le=0.5)
    grey_prob: float = Field(0.0, ge=0, le=1)
    blur_prob: float = Field(0.0, ge=0, le=1)


class AugmentationConfig(Section):
    """How a sample is brought to the network's input in training."""

    class_name: Literal["AugmentationConfig"] = class_name("AugmentationConfig")
    spatial_augmentation_mode: Literal["person_centric", "standard", "standard_with_fixed_aspect_ratio"] | None = None
    spatial_aug_params: SpatialAugParams = SpatialAugParams()
    identity_spatial_aug_params: dict[str, Any] | None = without_effect(None, "upstream ignores it too")
    colour_aug_params: ColourAugParams | None = None
    mosaic_params: MosaicParams | None = None
    copy_paste_params: CopyPasteParams | None = None


class LabelProcessorConfig(Section):
    """Shape of the label maps. Sigma is in pixels of the network's input, the distance in map cells.

    limbnet's own: around a person the network is not punished for joints whose visibility is one of `hidden_joints`,
    nor for limbs that end there; with `use_confidence` labels count as much as the annotations' `keypoint_confidence`.
    """

    class_name: Literal["BpNetLabelProcessor"] = class_name("BpNetLabelProcessor")
    paf_gaussian_sigma: float = without_effect(0.03, "part affinity fields have a sharp edge")
    heatmap_gaussian_sigma: float = Field(7.0, gt=0)
    paf_ortho_dist_thresh: float = Field(1.0, gt=0)
    hidden_joints: tuple[Visibility, ...] = ()
    use_confidence: bool = False


class DataloaderSpec(Section):
    """Training data: batches, input size, skeleton, sources, normalisation, augmentation and labels."""

    class_name: Literal["BpNetDataloader"] = class_name("BpNetDataloader")
    batch_size: int = Field(10, gt=0)
    shuffle_buffer_size: int | None = without_effect(20000, "every pass is a full permutation of the samples")
    image_config: ImageConfig = ImageConfig()
    pose_config: PoseConfig = PoseConfig()
    dataset_config: DatasetConfig
    normalization_params: NormalizationParams = NormalizationParams()
    augmentation_config: AugmentationConfig = AugmentationConfig()
    label_processor_config: LabelProcessorConfig = LabelProcessorConfig()
    workers: int | None = Field(None, ge=0, description="limbnet's own: loader processes; null lets limbnet choose")


#: Depths each backbone is built with.
LAYER_COUNTS = {"vgg": (19,), "helnet": (6, 10, 12, 18, 26, 34), "resnet": (18, 34, 50), "efficientnet_lite0": ()}


class BackboneAttributes(Section):
    """The backbone. `width` (limbnet's own) multiplies its channel counts."""

    architecture: Literal["vgg", "helnet", "resnet", "efficientnet_lite0"] = "vgg"
    nlayers: int | None = None
    mtype: Literal["default", "s8_3rdblock", "s8_3rdblock_wdilation", "s8_1stlayer", "s8_1stlayer_wdilation"] = (
        "default"
    )
    use_bias: bool = False
    use_batch_norm: bool = True
    add_final_c128_conv: bool = without_effect(True, "the 128-channel convolution is always there")
    width: float = Field(1.0, gt=0, le=4)
    output_stride: Literal[4, 8] = Field(8, description="limbnet's own: of efficientnet_lite0's maps")

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.architecture != "efficientnet_lite0" and self.output_stride != 8:
            yield "output_stride", f"is {self.output_stride}: only efficientnet_lite0 has a choice"
        known = LAYER_COUNTS[self.architecture]
        if known and self.nlayers not in known and not (self.nlayers is None and len(known) == 1):
            choices = ", ".join(map(str, known))
            yield "nlayers", f"is {self.nlayers or 'missing'}: {self.architecture} is built with {choices} layers"

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        if self.architecture != "helnet" and self.mtype != "default":
            yield "mtype", f"{self.architecture} comes in one type"
        if self.architecture in ("vgg", "efficientnet_lite0") and not self.use_batch_norm:
            yield "use_batch_norm", f"{self.architecture} always has batch normalisation"
        if self.architecture == "efficientnet_lite0" and self.nlayers is not None:
            yield "nlayers", "efficientnet_lite0 comes in one depth"

    @property
    def stride(self) -> int:
        """Input pixels per map cell."""
        return 16 if self.architecture == "helnet" and self.mtype == "default" else self.output_stride


KernelSize = Annotated[int, Field(gt=0, le=31)]


class ModelSpec(Section):
    """The network. `width` (limbnet's own) multiplies the channel counts of the stages.

    `BpNetLightModel` (limbnet's own) has separable convolutions; its kernel sizes are those of the depthwise ones, and
    with `image_pyramid_levels` it looks at the picture, its half and its quarter, and averages what it sees.
    """

    class_name: Literal["BpNetLiteModel", "BpNetModel", "BpNetLightModel"] = class_name("BpNetLiteModel")
    backbone_attributes: BackboneAttributes = BackboneAttributes()
    stages: int = Field(3, ge=1, le=7)
    heat_channels: int | None = None
    paf_channels: int | None = None
    stage1_kernel_sizes: tuple[KernelSize, ...] = Field((3, 3, 3), min_length=1)
    stageT_kernel_sizes: tuple[KernelSize, ...] = Field((7, 7, 7, 7, 7), min_length=1)
    use_self_attention: bool = False
    data_format: Literal["channels_last", "channels_first"] = without_effect(
        "channels_last", "the memory layout is chosen for speed"
    )
    use_bias: bool = True
    regularization_type: Literal["l1", "l2", "l1_l2"] = "l1"
    kernel_regularization_factor: float = Field(5e-4, ge=0)
    bias_regularization_factor: float = Field(0.0, ge=0)
    kernel_initializer: Literal["random_normal", "xavier", "he_normal"] = "random_normal"
    width: float = Field(1.0, gt=0, le=4)
    image_pyramid_levels: int = Field(1, ge=1, le=3)

    def mistakes(self) -> Iterator[tuple[str, str]]:
        if self.image_pyramid_levels > 1 and self.class_name != "BpNetLightModel":
            yield "image_pyramid_levels", f"is {self.image_pyramid_levels}: only BpNetLightModel has more than 1"
        if self.stages < 2 and self.class_name != "BpNetLightModel":
            yield "stages", f"is {self.stages}: only BpNetLightModel has less than 2"

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        if self.class_name == "BpNetLightModel":
            if self.use_self_attention:
                yield "use_self_attention", "BpNetLightModel has no attention"
            if not self.use_bias:
                yield "use_bias", "BpNetLightModel has biases in its outputs alone"
        if self.class_name == "BpNetModel":
            for key in ("stage1_kernel_sizes", "stageT_kernel_sizes"):
                if getattr(self, key) != type(self).model_fields[key].default:
                    yield key, "BpNetModel's kernels have fixed sizes"

    def channel_mistakes(self, skeleton: Skeleton) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) where channel counts contradict the skeleton, which alone decides them."""
        for key, found, needed, what in (
            (
                "heat_channels",
                self.heat_channels,
                skeleton.heat_channels,
                f"{len(skeleton.joints)} joints + background",
            ),
            ("paf_channels", self.paf_channels, skeleton.paf_channels, f"2 x {len(skeleton.limbs)} limbs"),
        ):
            if found is not None and found != needed:
                yield key, f"found {found}, but the skeleton '{skeleton.name}' needs {needed} ({what})"


class FocalLossParams(Section):
    """Focal weighting of the loss."""

    use_focal_loss: bool = False
    alpha: float = 0.1
    beta: float = 0.02
    bkg_thresh: float = 0.01
    gamma: float = 1.0


class LossSpec(Section):
    """The loss: half the masked squared error, summed over maps, divided by the batch."""

    class_name: Literal["BpNetLoss"] = class_name("BpNetLoss")
    focal_loss_params: FocalLossParams = FocalLossParams()


class FinetuningConfig(Section):
    """Go on from a checkpoint with another schedule."""

    is_finetune_exp: bool = False
    checkpoint_path: Path | None = None
    ckpt_epoch_num: int = Field(0, ge=0)


class TrainSpec(TrainerSpec):
    """The train spec of a BodyPoseNet."""

    class_name: Literal["BpNetTrainer"] = class_name("BpNetTrainer")
    infrequent_summary_every_n_steps: int = without_effect(0, "all summaries follow summary_every_n_steps")
    load_graph: bool = False
    inference_spec: Path | None = None
    finetuning_config: FinetuningConfig = FinetuningConfig()
    use_stagewise_lr_multipliers: bool = False
    final_model_name: str = "bpnet_model"
    key: str | None = Field(None, exclude=True, repr=False)
    evaluator: Any = without_effect(None, "validation needs no configuration")
    quantize: Literal["int8"] | None = Field(
        None, description="limbnet's own: int8 fine-tunes with the roundings of the INT8 export and learns its ranges"
    )
    dataloader: DataloaderSpec
    model: ModelSpec = ModelSpec()
    optimizer: OptimizerSpec = WeightedMomentum()
    loss: LossSpec = LossSpec()

    def mistakes(self) -> Iterator[tuple[str, str]]:
        yield from super().mistakes()
        yield from planning_mistakes(self.optimizer, self.num_epoch)
        if self.load_graph and self.pretrained_weights is None:
            yield "load_graph", "needs pretrained_weights: the pruned model to retrain"
        if self.finetuning_config.is_finetune_exp and self.finetuning_config.checkpoint_path is None:
            yield "finetuning_config.checkpoint_path", "is missing: the checkpoint to fine-tune from"
        if self.quantize and self.pretrained_weights is None and not self.finetuning_config.is_finetune_exp:
            yield "quantize", "needs a trained network: pretrained_weights, or finetuning_config"
        if self.quantize and self.torch_compile:
            yield "torch_compile", "cannot be true beside quantize: every layer would be built anew, and train slower"
        if self.quantize and self.mixed_precision:
            yield "mixed_precision", "cannot be true beside quantize: sums of eight-bit products need float32"
        if not self.load_graph:
            yield from self._shape_mistakes()

    @property
    def epochs_skipped(self) -> int:
        """Fine-tuning counts its epochs from `ckpt_epoch_num` on."""
        return self.finetuning_config.ckpt_epoch_num if self.finetuning_config.is_finetune_exp else 0

    def without_regularisation(self) -> TrainSpec:
        """Return this spec with regularisation off when it retrains a pruned model and does not ask for any."""
        keys = ("kernel_regularization_factor", "bias_regularization_factor")
        if not self.load_graph or self.model.model_fields_set & {*keys, "regularization_type"}:
            return self
        return self.model_copy(update={"model": self.model.model_copy(update=dict.fromkeys(keys, 0.0))})

    def _shape_mistakes(self) -> Iterator[tuple[str, str]]:
        stride = self.model.backbone_attributes.stride
        dims, target = self.dataloader.image_config.image_dims, self.dataloader.pose_config.target_shape
        for number, grown in enumerate(self.dataloader.image_config.growing_sizes):
            if grown.height % stride or grown.width % stride:
                yield (
                    f"dataloader.image_config.growing_sizes.{number}",
                    f"is {grown.height}x{grown.width}, no multiple of the network's stride {stride}",
                )
        for side in ("height", "width"):
            size: int = getattr(dims, side)
            if size % stride:
                near = max(stride, round(size / stride) * stride)
                yield (
                    f"dataloader.image_config.image_dims.{side}",
                    f"is {size}, no multiple of the network's stride {stride}; the nearest is {near}",
                )
        fitting = (dims.height // stride, dims.width // stride)
        if target is not None and target != fitting:
            yield (
                "dataloader.pose_config.target_shape",
                f"is {list(target)}, but an input of {dims.height}x{dims.width} (height x width) at the network's "
                f"stride {stride} gives maps of {list(fitting)}; leave target_shape out, or write those",
            )
