"""Published networks through the exporter: a graph in three precisions, compared with torch in the head's tensors."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from limbnet import __version__
from limbnet.data.calibration import normalised
from limbnet.export.calibrate import calibrate
from limbnet.export.check import TOLERANCES, Difference
from limbnet.export.graph import check_graph, trace
from limbnet.export.half import check_half_range, to_half
from limbnet.export.quantise import calibrated_tensors, head_layers, quantise
from limbnet.export.wiring import Wiring, layer_of
from limbnet.models.info import ModelInfo
from limbnet.models.zoo import ZooEntry
from limbnet.models.zoo.dekr import RescoreNet
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.signature import Precision
from limbnet.runtime.zoo.exported import set_zoo_facts, zoo_facts
from limbnet.runtime.zoo.network import NORMALISATIONS, ZooNetwork
from limbnet.skeleton import COCO_17

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Names of the graph's tensors by the kind of head: what it takes, and what it returns, as `models.zoo.outputs` says.
TENSORS: dict[str, tuple[str, tuple[str, ...]]] = {
    "joint_maps": ("images", ("heatmaps",)),
    "tag_maps": ("images", ("coarse", "fine")),
    "offset_maps": ("images", ("heatmaps", "offsets")),
    "part_maps": ("images", ("heatmaps", "pafs")),
    "pose_scores": ("features", ("scores",)),
}

#: Height and width that networks of whole pictures are traced with; any other size works afterwards.
TRACED = (128, 192)

#: Poses and features that the rescoring network is traced with.
TRACED_POSES = 2


class Pictures(nn.Module):
    """A published network of pictures (B, H, W, 3) uint8 RGB; `net` is a copy of it."""

    scale: Tensor
    offset: Tensor

    def __init__(self, network: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.net = _frozen(network)
        self.swapped = info.colour_order == "bgr"
        self.register_buffer("scale", torch.tensor(info.image_scale))
        self.register_buffer("offset", torch.tensor(info.image_offset))
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the head's tensors."""
        values = images.flip(-1) if self.swapped else images
        values = values.to(torch.float32) / self.scale - self.offset
        return tuple(self.net(values.permute(0, 3, 1, 2)))


class Features(nn.Module):
    """DEKR's rescoring network of features (P, F), its layers written as 1x1 convolutions: what INT8 is made of."""

    def __init__(self, network: RescoreNet) -> None:
        super().__init__()
        self.net = nn.ModuleDict({name: _as_convolution(layer) for name, layer in network.named_children()})
        self.eval()

    def forward(self, features: Tensor) -> Tensor:
        """Return the factors (P, 1)."""
        values = features[:, :, None, None]
        *inner, last = self.net.values()
        for layer in inner:
            values = torch.relu(layer(values))
        scores: Tensor = last(values)
        return scores.flatten(1)


def _frozen(network: nn.Module) -> nn.Module:
    copied: nn.Module = copy.deepcopy(network).cpu().float()
    return copied.requires_grad_(False)  # weights without gradients reach the graph as constants


def _as_convolution(layer: nn.Module) -> nn.Conv2d:
    assert isinstance(layer, nn.Linear)
    convolution = nn.Conv2d(layer.in_features, layer.out_features, 1)
    convolution.weight = nn.Parameter(layer.weight.detach().cpu()[..., None, None], requires_grad=False)
    convolution.bias = nn.Parameter(layer.bias.detach().cpu(), requires_grad=False)
    return convolution


def zoo_info(entry: ZooEntry) -> ModelInfo:
    """Return a network's normalisation in the exporter's terms; only that is meant by it."""
    if entry.input_size is None:
        return ModelInfo(COCO_17)
    mean, deviation = NORMALISATIONS[entry.normalisation]
    red, green, blue = (m / d for m, d in zip(mean, deviation, strict=True))
    order: Any = "bgr" if entry.normalisation.endswith("bgr") else "rgb"
    return ModelInfo(
        COCO_17, input_size=entry.input_size, image_scale=deviation, image_offset=(red, green, blue), colour_order=order
    )


def zoo_graph(network: nn.Module, entry: ZooEntry) -> ModelProto:
    """Return a published network as a float32 graph of any batch, and of any size unless it works on crops.

    Args:
        network: what `create_model` gave, at the entry's input size.
        entry: what the catalogue says about it.

    Raises:
        DeviceError: onnx or onnxscript is missing.
        ModelFileError: torch cannot express the network in ONNX.
    """
    taken, returned = TENSORS[entry.head]
    if isinstance(network, RescoreNet):
        module: nn.Module = Features(network)
        example = torch.zeros(TRACED_POSES, network.l1.in_features)
    else:
        size = entry.input_size if entry.head == "joint_maps" and entry.input_size else TRACED
        module, example = Pictures(network, zoo_info(entry)), torch.zeros(2, *size, 3, dtype=torch.uint8)
    open_axes = (0,) if entry.head in ("joint_maps", "pose_scores") else (0, 1, 2)
    graph = trace(module, example, [taken], returned, open_axes)
    _name_sides(graph)
    set_zoo_facts(
        graph,
        {
            "network": entry.name,
            "input_size": list(entry.input_size or ()),
            "any_size": len(open_axes) > 1,
            "precision": "fp32",
            "version": __version__,
        },
    )
    check_graph(graph)
    return graph


def _name_sides(graph: ModelProto) -> None:
    """Call the open sides batch, height and width; those of outputs follow from them."""
    for given in (True, False):
        for value in graph.graph.input if given else graph.graph.output:
            dims = value.type.tensor_type.shape.dim
            for axis, dim in enumerate(dims):
                if dim.WhichOneof("value") != "dim_param":
                    continue
                dim.Clear()
                if axis == 0:
                    dim.dim_param = "batch"
                elif given:
                    dim.dim_param = ("height", "width")[axis - 1]


def in_precision(
    graph: ModelProto,
    entry: ZooEntry,
    precision: Precision,
    inputs: Sequence[NDArray[Any]],
    *,
    threads: int | None = None,
    done: Callable[[], None] | None = None,
) -> ModelProto:
    """Return a float32 graph of `zoo_graph` in another precision.

    In INT8 convolutions are quantised but for `float_layers`; transformers, deconvolutions and what lies between stay
    in float.

    Args:
        graph: the float32 graph.
        entry: what the catalogue says about the network.
        precision: of the answer.
        inputs: real inputs, (H, W, 3) uint8 RGB or features (F,): INT8 ranges come from them, and FP16 is refused if
            their values leave its range.
        threads: CPU threads.
        done: called after each input.

    Raises:
        ModelFileError: the values do not fit.
    """
    info = zoo_info(entry)
    batches = (_as_batch(values, info) for values in inputs)
    facts = zoo_facts(graph) | {"precision": precision}
    if precision == "fp16":
        check_half_range(graph, batches, info, threads=threads, done=done)
        graph = to_half(graph)
    elif precision == "int8":
        ranges = calibrate(
            graph, calibrated_tensors(graph), batches, info, threads=threads, done=done,
            first_range=_largest(inputs) if entry.input_size is None else None,
        )  # fmt: skip
        kept = float_layers(graph)
        graph = quantise(graph, ranges, kept)
        facts |= {"calibration": {"inputs": len(inputs)}, "float_layers": kept}
    set_zoo_facts(graph, facts)
    return graph


def _as_batch(values: NDArray[Any], info: ModelInfo) -> NDArray[np.float32]:
    """Return one input as the first convolution sees it, channels last."""
    if values.ndim == 1:
        return values[None, None, None].astype(np.float32)
    return normalised(values[None], info)


def _largest(inputs: Sequence[NDArray[Any]]) -> float:
    return max((float(np.abs(values).max(initial=0)) for values in inputs), default=0.0)


def float_layers(graph: ModelProto) -> list[str]:
    """Return the convolutions that stay float in INT8: the exporter's, those that make places to sample at, those
    whose output is only reshaped before it is the graph's, and depthwise ones.

    Lite-HRNet's depthwise convolutions read weighted channels and have no activation behind them: one scale for all
    channels leaves most of them a few steps. They are a small share of its multiply-adds and nearly all of its loss.
    """
    wiring = Wiring(graph)
    more = [
        layer_of(node)
        for node in wiring.convolutions().values()
        if _is_depthwise(wiring, node)
        or _leads_to_places(wiring, node.output[0])
        or _is_returned(wiring, node.output[0])
    ]
    return list(dict.fromkeys([*head_layers(graph), *more]))


def _is_depthwise(wiring: Wiring, convolution: NodeProto) -> bool:
    """Tell whether each output channel is made of one input channel alone."""
    outputs, inputs_of_each = wiring.constant(convolution.input[1]).shape[:2]
    return bool(outputs > 1 and inputs_of_each == 1)


def _is_returned(wiring: Wiring, tensor: str) -> bool:
    """Tell whether a tensor is an output of the graph, or becomes one when it is reshaped."""
    nodes = wiring.consumers.get(tensor, [])
    reshaped = [node for node in nodes if node.op_type in ("Reshape", "Flatten", "Squeeze")]
    return tensor in wiring.outputs or any(_is_returned(wiring, node.output[0]) for node in reshaped)


def _leads_to_places(wiring: Wiring, tensor: str) -> bool:
    """Tell whether a tensor reaches a GridSample's places without another convolution in between."""
    for node in wiring.consumers.get(tensor, []):
        if node.op_type == "GridSample":
            if tensor == node.input[1]:
                return True
        elif node.op_type not in ("Conv", "Relu") and _leads_to_places(wiring, node.output[0]):
            return True
    return False


@dataclass(frozen=True)
class ZooDeviation:
    """How far an exported network is from torch on the same inputs.

    Attributes:
        engine: what ran the graph.
        inputs: how many were compared.
        outputs: by name, the largest and the mean absolute deviation as shares of the output's range over all inputs.
    """

    engine: str
    inputs: int
    outputs: dict[str, dict[str, float]]

    @property
    def largest(self) -> float:
        """The largest deviation of any output."""
        return max(one["largest"] for one in self.outputs.values())

    @property
    def mean(self) -> float:
        """The largest mean deviation of any output."""
        return max(one["mean"] for one in self.outputs.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self)

    def __str__(self) -> str:
        return (
            f"{self.engine} against torch on {self.inputs} inputs: largest deviation {self.largest:.1e} of the range, "
            f"mean {self.mean:.1e}"
        )


def compare_zoo(
    reference: ZooNetwork,
    exported: ZooNetwork,
    precision: Precision,
    inputs: Sequence[NDArray[Any]],
    *,
    strict: bool = True,
) -> ZooDeviation:
    """Run a network in torch and as exported on the same inputs, one at a time, and compare what the head returns.

    Args:
        reference: torch.
        exported: the same network from its graph.
        precision: of the graph.
        inputs: (H, W, 3) uint8 RGB, or features (F,).
        strict: refuse FP16 too when it is further away than trained weights explain; initial ones, whose values are
            tiny, may be.

    Raises:
        EngineRefusal: the float network is further from torch than its precision explains, or returns something that is
            not finite.
    """
    names = TENSORS[reference.entry.head][1]
    differences = {name: Difference(name) for name in names}
    for values in inputs:
        answers = zip(reference.run(values[None]), exported.run(values[None]), strict=True)
        for difference, (expected, found) in zip(differences.values(), answers, strict=True):
            difference.add(expected, found, exported)
    outputs = {name: difference.shares() for name, difference in differences.items()}
    deviation = ZooDeviation(exported.name, len(inputs), outputs)
    allowed = TOLERANCES.get(precision) if strict or precision == "fp32" else None
    if allowed is not None and deviation.largest > allowed:
        raise EngineRefusal(
            exported.name,
            f"its answer is off by {deviation.largest:.1e} of the range of torch's, {allowed:.0e} is allowed",
            f"'{reference.entry.name}'",
        )
    return deviation
