"""Quantisation-aware training: the network computed with the very roundings that its INT8 export will make.

Where values are rounded is not decided here: the network is exported and quantised once, and the quantised graph is
computed in torch, node by node, with the network's own weights. Batch norm is folded with its running statistics, which
no longer change. Rounding passes gradients on as if it were not there, clipping stops them (Jacob et al. 2018,
"Quantization and training of neural networks for efficient integer-arithmetic-only inference").
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from limbnet.errors import ModelFileError
from limbnet.export.calibrate import input_range
from limbnet.export.graph import build_graph
from limbnet.export.quantise import STEPS, calibrated_tensors
from limbnet.models.bodyposenet import BodyPoseNet, StageMaps
from limbnet.models.folding import norm_behind
from limbnet.models.info import ModelInfo
from limbnet.runtime.signature import Signature
from limbnet.training.int8_plan import Step, plan

#: Share of a range that stays at each update, in the long run.
DECAY = 0.99

#: Values of a tensor that are looked at to find its range, about.
SAMPLE = 8192

#: Ranges that are tried, as shares of the largest absolute value.
SHARES = torch.linspace(1.0, 0.25, 16)


class FakeQuantised(nn.Module):
    """A BodyPoseNet that computes as its INT8 export does, for training it.

    In training mode the ranges of all activations are moving averages of those that suit each batch best; the first
    batch is only observed. In evaluation mode they stay.

    Args:
        model: the network; it is trained in place, its batch norms excepted, whose statistics stay.
        info: its normalisation gives the range of the input.

    Attributes:
        tensors: the N activations whose ranges are known, by the exported graph's names.
        ranges: (N,) float32, the absolute value that 127 steps stand for.
        updates: batches seen.

    Raises:
        DeviceError: onnx or onnxscript is missing.
        ModelFileError: the network holds an operation that is not known here.
    """

    ranges: Tensor
    updates: Tensor

    def __init__(self, model: BodyPoseNet, info: ModelInfo) -> None:
        super().__init__()
        self.model = model
        if model.design.image_pyramid_levels > 1:
            raise ModelFileError(
                "Quantisation-aware training does not know image pyramids, whose levels have ranges of their own.",
                "Train without 'quantize', and export with calibration.",
            )
        with torch.random.fork_rng(devices=[]):  # training draws the same numbers with and without this
            graph = build_graph(model, info, Signature())
            self.norms = norm_behind(model)
        self.tensors = tuple(calibrated_tensors(graph))
        self.steps, self.first, self.outputs = plan(graph, self.tensors, model.output_layers)
        self.register_buffer("ranges", torch.zeros(len(self.tensors)))
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))
        self.fixed = {self.first: input_range(info)}

    def forward(self, images: Tensor) -> StageMaps:
        """Compute the maps of every stage; see `BodyPoseNet.forward`."""
        rounding = bool(self.updates > 0)
        values = {self.first: images}
        for step in self.steps:
            inputs = [values[name] for name in step.inputs]
            if step.operation == "QuantizeLinear":
                values[step.output] = self._rounded(inputs[0], step) if rounding else inputs[0]
            elif step.operation == "Conv":
                values[step.output] = self._convolved(inputs[0], step, rounding)
            elif step.parts:
                values[step.output] = inputs[0] * self._factor(step) if rounding else inputs[0]
            else:
                values[step.output] = _computed(step, inputs)
        if self.training:
            self._observe(values)
        maps = [values[name] for name in self.outputs]
        return StageMaps(maps[0::2], maps[1::2])

    def named_ranges(self) -> dict[str, float]:
        """Return the ranges by tensor, {} before the first batch."""
        if not self.updates:
            return {}
        return dict(zip(self.tensors, self.ranges.tolist(), strict=True))

    def followed(self) -> dict[str, Tensor]:
        """Return what a resumed run must know."""
        return {"ranges": self.ranges, "updates": self.updates}

    def follow_on(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `followed` returned."""
        self.ranges.copy_(state["ranges"])
        self.updates.copy_(state["updates"])

    def around(self, model: BodyPoseNet) -> FakeQuantised:
        """Return a copy that computes another network of the same architecture, in evaluation mode."""
        other = copy.copy(self)
        other._modules, other._buffers = (
            {"model": model},
            {name: kept.clone() for name, kept in self.followed().items()},
        )
        return other.eval()

    def _rounded(self, x: Tensor, step: Step) -> Tensor:
        """Round to the 256 values of int8."""
        limit = self.ranges[list(step.ranges)].max()
        scale = torch.where(limit > 0, limit / STEPS, 1.0).reshape(1)
        zero = torch.zeros(1, dtype=torch.int32, device=x.device)
        return torch.fake_quantize_per_tensor_affine(x, scale, zero, -STEPS - 1, STEPS)

    def _factor(self, step: Step) -> Tensor:
        """Return the factors (1, C, 1, 1) that give each part of a concatenation the range of the widest."""
        limits = self.ranges[[place for place, _ in step.parts]]
        factors = torch.where(limits > 0, limits.max() / limits, 1.0)
        widths = torch.tensor([width for _, width in step.parts], device=limits.device)
        return factors.repeat_interleave(widths).reshape(1, -1, 1, 1)

    def _convolved(self, x: Tensor, step: Step, rounding: bool) -> Tensor:
        """Convolve with the layer's weights: batch norm folded in, rounded where the export rounds them."""
        conv: Any = self.model[step.layer]
        weight, bias = conv.weight, conv.bias
        if step.layer in self.norms:
            norm: Any = self.model[self.norms[step.layer]]
            factor = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            weight = weight * factor.reshape(-1, 1, 1, 1)
            mean = norm.running_mean if bias is None else norm.running_mean - bias
            bias = norm.bias - mean * factor
        if step.quantised and rounding:
            factor = self._factor(step) if step.parts else 1.0
            weight = weight / factor
            largest = weight.detach().abs().amax(dim=(1, 2, 3))
            scale = torch.where(largest > 0, largest / STEPS, 1.0)
            zero = torch.zeros(len(scale), dtype=torch.int32, device=x.device)
            weight = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -STEPS, STEPS)
        margins = step.options["margins"]
        return F.conv2d(F.pad(x, margins) if margins else x, weight, bias, **step.options["conv"])

    @torch.no_grad()
    def _observe(self, values: Mapping[str, Tensor]) -> None:
        """Let the ranges follow those that suit this batch best, the mean over all processes."""
        best = torch.stack([best_range(values[name].detach().float()) for name in self.tensors])
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(best)
            best /= dist.get_world_size()
        for place, name in enumerate(self.tensors):
            if name in self.fixed:
                best[place] = self.fixed[name]
        seen = int(self.updates)
        decay = min(DECAY, (1 + seen) / (10 + seen)) if seen else 0.0
        self.ranges.lerp_(best, 1 - decay)
        self.updates += 1


def best_range(values: Tensor) -> Tensor:
    """Return the range, of some shares of the largest absolute value, whose rounding costs the least mean square.

    Clipping a few large values is often worth finer steps for all others. Every n-th value is looked at, so that the
    cost does not grow with the picture; zeros cost nothing.
    """
    flat = values.abs().flatten()
    largest = flat.max()
    sample = flat[:: max(1, flat.numel() // SAMPLE)]
    limits = largest * SHARES.to(values.device)
    scales = torch.where(limits > 0, limits / STEPS, 1.0)[:, None]
    rounded = (sample / scales).round().clamp(max=STEPS) * scales
    return limits[(rounded - sample).square().mean(dim=1).argmin()]


def _computed(step: Step, inputs: Sequence[Tensor]) -> Tensor:
    """Compute a step that has no weights."""
    match step.operation:
        case "Relu":
            return F.relu(inputs[0])
        case "Clip":
            return inputs[0].clamp(step.options["min"], step.options["max"])
        case "MaxPool":
            pooled: Tensor = F.max_pool2d(inputs[0], **step.options)
            return pooled
        case "Pad":
            return F.pad(inputs[0], **step.options)
        case "Concat":
            return torch.cat(list(inputs), dim=1)
        case "Add":
            return inputs[0] + inputs[1]
        case "Mul":
            return inputs[0] * inputs[1]
        case "Resize":
            return F.interpolate(inputs[0], size=inputs[1].shape[-2:], mode="nearest")
        case "Sigmoid":
            return inputs[0].sigmoid()
        case "Tanh":
            return inputs[0].tanh()
    raise AssertionError(step.operation)  # the plan knows no other
