"""Builds the networks of the catalogue."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from limbnet.errors import UsageError
from limbnet.models.zoo.catalogue import ZooEntry, find
from limbnet.models.zoo.dekr import DEKR, RescoreNet
from limbnet.models.zoo.higherhrnet import HigherHRNet
from limbnet.models.zoo.hrnet import HRNet
from limbnet.models.zoo.litehrnet import LiteHRNet
from limbnet.models.zoo.openpose import OpenPoseBody25, OpenPoseCoco
from limbnet.models.zoo.transpose import TransPoseH, TransPoseR

Size = tuple[int, int]

#: Limbs in the features of DEKR's rescoring network for COCO.
RESCORE_LIMBS = 19

#: Constructor of each network from the number of joints and the input size (height, width).
NETWORKS: dict[str, Callable[[int, Size], nn.Module]] = {
    "hrnet_w32_256x192": lambda joints, _: HRNet(32, joints),
    "hrnet_w48_384x288": lambda joints, _: HRNet(48, joints),
    "fpd_hrnet_w32_256x192": lambda joints, _: HRNet(32, joints),
    "darkpose_hrnet_w32_256x192": lambda joints, _: HRNet(32, joints),
    "darkpose_hrnet_w48_384x288": lambda joints, _: HRNet(48, joints),
    "transpose_r_a3_256x192": TransPoseR,
    "transpose_h_a6_256x192": TransPoseH,
    "naive_litehrnet_18_256x192": lambda joints, _: LiteHRNet(30, "shuffle", joints),
    "litehrnet_18_256x192": lambda joints, _: LiteHRNet(40, "weighting", joints),
    "higherhrnet_w32_512": lambda joints, _: HigherHRNet(32, joints),
    "dekr_w32_512": lambda joints, _: DEKR(32, joints),
    "dekr_w48_640": lambda joints, _: DEKR(48, joints),
    "dekr_rescore_coco": lambda joints, _: RescoreNet(joints, RESCORE_LIMBS),
    "openpose_body25": lambda *_: OpenPoseBody25(),
    "openpose_coco": lambda *_: OpenPoseCoco(),
}

#: Networks whose channels follow from limbs too, so that a number of joints alone does not describe another one.
FIXED_SKELETON = ("dekr_rescore_coco", "openpose_body25", "openpose_coco")


def build(
    name: str,
    joints: int | None = None,
    input_size: Size | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> nn.Module:
    """Return the network `name` with initial weights; see `limbnet.models.zoo.create_model`."""
    entry = find(name)
    joints, input_size = _checked(entry, joints, input_size)
    with torch.random.fork_rng(devices=[]), torch.device("meta" if torch.device(device).type == "meta" else "cpu"):
        torch.manual_seed(seed)
        network = NETWORKS[name](joints, input_size)
    return network.to(device).eval()


def _checked(entry: ZooEntry, joints: int | None, input_size: Size | None) -> tuple[int, Size]:
    problems = []
    if joints is not None and joints < 1:
        problems.append(f"{joints} joints are asked for; there must be at least one")
    elif joints not in (None, entry.joints) and entry.name in FIXED_SKELETON:
        problems.append(
            f"{joints} joints are asked for, but '{entry.name}' has {entry.joints} and cannot be built otherwise"
        )
    if input_size is not None:
        height, width = input_size
        if entry.input_size is None:
            problems.append(f"an input size is asked for, but '{entry.name}' takes no picture")
        elif min(height, width) < 1 or height % entry.multiple or width % entry.multiple:
            problems.append(
                f"the input size {height} x {width} is asked for, but both sides must be multiples of {entry.multiple}"
            )
    if problems:
        raise UsageError(f"Cannot build '{entry.name}': " + "; ".join(problems) + ".")
    return joints or entry.joints, input_size or entry.input_size or (1, 1)
