"""The loss: half the masked squared error of every output map, and the regularisation of the kernels.

    total = sum over stages and branches of L / B + regularisation,    L = 1/2 sum(((pred - label) mask)^2)

The mask multiplies the difference, so a fractional mask counts squared. The sum runs over the whole batch, all channels
(background included) and all cells; nothing is normalised but the batch (BodyPoseNet's loss).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.specs.train import FocalLossParams, ModelSpec, TrainSpec


@dataclass(frozen=True)
class Losses:
    """What one batch costs; every tensor is a float32 scalar, already divided by the batch.

    Attributes:
        total: what is minimised: all outputs and the regularisation.
        heatmaps: one loss per stage.
        pafs: one loss per stage.
        regularisation: its share of the total; zero when it is off.
    """

    total: Tensor
    heatmaps: tuple[Tensor, ...]
    pafs: tuple[Tensor, ...]
    regularisation: Tensor

    def named(self) -> dict[str, Tensor]:
        """Return the detached scalars under the names of BodyPoseNet's TensorBoard summaries."""
        scalars = {"total_loss": self.total}
        scalars |= {f"cmap_loss_stage{stage}": loss for stage, loss in enumerate(self.heatmaps, 1)}
        scalars |= {f"paf_loss_stage{stage}": loss for stage, loss in enumerate(self.pafs, 1)}
        scalars["regularisation"] = self.regularisation
        return {name: scalar.detach() for name, scalar in scalars.items()}


def map_loss(predicted: Tensor, label: Tensor, mask: Tensor, focal: FocalLossParams) -> Tensor:
    """Half the masked squared error of one output, summed over everything.

    Args:
        predicted: (B, C, h, w), any floating type; the loss itself is computed in float32.
        label: (B, C, h, w) float32.
        mask: (B, 1 or C, h, w) float32, 1 where the label counts.
        focal: with `use_focal_loss` the masked difference is weighted by |1 - q|^gamma, where q = pred - alpha on the
            foreground (label above `bkg_thresh`) and 1 - pred - beta elsewhere; negative field labels are background.
    """
    predicted = predicted.float()
    error = (predicted - label) * mask
    if focal.use_focal_loss:
        easiness = torch.where(label > focal.bkg_thresh, predicted - focal.alpha, 1 - predicted - focal.beta)
        error = error * (1 - easiness).abs() ** focal.gamma
    return 0.5 * error.square().sum()


class PoseLoss:
    """The loss of a whole network: `loss(heatmaps, pafs, ...)` gives `Losses`.

    Args:
        focal: the focal weighting, off by default.
        regularisation: the penalty on weights, or None.
    """

    def __init__(self, focal: FocalLossParams, regularisation: Regularisation | None = None) -> None:
        self.focal = focal
        self.regularisation = regularisation

    def __call__(
        self,
        heatmaps: Sequence[Tensor],
        pafs: Sequence[Tensor],
        heatmap_label: Tensor,
        paf_label: Tensor,
        mask: Tensor,
    ) -> Losses:
        """Compare S stages of (B, K+1, h, w) heatmaps and (B, 2L, h, w) fields with their labels.

        The mask is (B, 1, h, w), or, with one for each map, (B, K+1+2L, h, w).
        """
        batch, heat_channels = mask.shape[0], heatmap_label.shape[1]
        heat_mask, paf_mask = (mask, mask) if mask.shape[1] == 1 else (mask[:, :heat_channels], mask[:, heat_channels:])
        of_heatmaps = tuple(map_loss(stage, heatmap_label, heat_mask, self.focal) / batch for stage in heatmaps)
        of_pafs = tuple(map_loss(stage, paf_label, paf_mask, self.focal) / batch for stage in pafs)
        total = torch.stack(of_heatmaps + of_pafs).sum()
        penalty = self.regularisation() if self.regularisation else torch.zeros_like(total)
        return Losses(total + penalty, of_heatmaps, of_pafs, penalty)


class Regularisation:
    """A penalty on kernels and biases, each with its own factor; called without arguments it gives the float32 scalar.

    l1: factor sum |w|;  l2: factor sum w^2, without a half;  l1_l2: both, with the same factor.

    Args:
        kernels, biases: the parameters penalised.
        spec: kind and factors.
    """

    def __init__(self, kernels: Sequence[Tensor], biases: Sequence[Tensor], spec: ModelSpec) -> None:
        self.kind = spec.regularization_type
        pairs = ((spec.kernel_regularization_factor, kernels), (spec.bias_regularization_factor, biases))
        self.terms = [(factor, list(weights)) for factor, weights in pairs if factor and weights]

    def __call__(self) -> Tensor:
        """The penalty now."""
        return torch.stack([factor * self._penalty(weight) for factor, group in self.terms for weight in group]).sum()

    def _penalty(self, weight: Tensor) -> Tensor:
        if self.kind == "l1":
            return weight.abs().sum()
        if self.kind == "l2":
            return weight.square().sum()
        return weight.abs().sum() + weight.square().sum()


def build_loss(spec: TrainSpec, model: BodyPoseNet) -> PoseLoss:
    """Build the loss of a train spec for `model`.

    With `load_graph` the regularisation is off unless the spec itself names its kind or one of its factors.
    """
    settings = spec.without_regularisation().model
    layers = [layer for name, layer in model.conv_layers().items() if name in model.regularised_layers]
    kernels = [layer.weight for layer in layers]
    biases = [layer.bias for layer in layers if layer.bias is not None]
    regularisation = Regularisation(kernels, biases, settings)
    return PoseLoss(spec.loss.focal_loss_params, regularisation if regularisation.terms else None)
