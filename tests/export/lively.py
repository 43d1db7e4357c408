"""A small network whose maps are worth comparing."""

from __future__ import annotations

import torch
from torch import nn

from limbnet.models.bodyposenet import BodyPoseNet, build_model
from limbnet.skeleton import Skeleton
from limbnet.specs.train import BackboneAttributes, ModelSpec

SIZE = (64, 96)

STICK = Skeleton.from_names(
    "stick",
    ("head", "neck", "left_hand", "right_hand"),
    [("neck", "head"), ("neck", "left_hand"), ("neck", "right_hand")],
)


def lively_model(seed: int = 0, **options: object) -> BodyPoseNet:
    """A tenth-wide network with batch norm statistics of a used one and maps of about -1 to 1."""
    torch.manual_seed(seed)
    options = {"stages": 2, **options}
    backbone = options.pop("backbone_attributes", BackboneAttributes(width=0.1))
    model = build_model(ModelSpec(backbone_attributes=backbone, width=0.1, **options), STICK)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.7, 1.3)
    return model.eval()
