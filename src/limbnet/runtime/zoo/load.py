"""From the name of a published network to an estimator that runs as its system does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from limbnet.devices import choose_device
from limbnet.errors import UsageError
from limbnet.models.checkpoint import ZOO, stored_info
from limbnet.models.zoo import ZooEntry, create_model, find
from limbnet.models.zoo.count import multiply_adds, parameters
from limbnet.models.zoo.weights import load_weights
from limbnet.runtime.zoo.bottomup import OffsetEstimator, PartEstimator, TagEstimator
from limbnet.runtime.zoo.network import TorchZooNetwork, ZooNetwork
from limbnet.runtime.zoo.topdown import HRNET, RULES, TopDownEstimator
from limbnet.skeleton import COCO_17, OPENPOSE_18, OPENPOSE_25, Skeleton

ZooEstimator = TopDownEstimator | TagEstimator | OffsetEstimator | PartEstimator

RESCORING = "dekr_rescore_coco"

#: OpenPose's parts and limbs, and the channel of the x component of each limb; y follows it.
OPENPOSE: dict[str, tuple[Skeleton, tuple[int, ...]]] = {
    "openpose_body25": (
        OPENPOSE_25,
        (0, 14, 22, 16, 18, 24, 26, 6, 2, 4, 8, 10, 12, 30, 32, 36, 34, 38, 20, 28, 40, 42, 44, 46, 48, 50),
    ),
    "openpose_coco": (OPENPOSE_18, (12, 20, 14, 16, 22, 24, 0, 2, 4, 6, 8, 10, 28, 30, 34, 32, 36, 18, 26)),
}


def load_zoo_estimator(
    name: str,
    checkpoint: Path | str | None = None,
    *,
    device: str | None = "cpu",
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    batch: int = 1,
    rescoring: Path | str | None = None,
    input_size: tuple[int, int] | None = None,
    seed: int = 0,
) -> ZooEstimator:
    """Return the published network `name` with its system's own preprocessing and decoding, run by torch.

    Args:
        name: a key of `limbnet.models.zoo.CATALOGUE`.
        checkpoint: a released weight file, or one that `limbnet train` wrote, which knows its joints and input size;
            initial weights when None, which find nobody of worth.
        device: torch's name of a device, None for the best.
        flip: average with the mirrored picture.
        scales: factors on the input size, for HigherHRNet and DEKR.
        batch: crops in one run of a top-down network.
        rescoring: weight file of DEKR's rescoring network; without one scores are not rescored.
        input_size: (height, width) of the network's input; that of the file, or the published one, when None.
        seed: of the initial weights.

    Raises:
        UsageError: unknown name, or something is asked for that the system cannot do.
        ModelFileError: a file does not fit its network.
    """
    entry, skeleton = as_trained(name, checkpoint, input_size)
    _check(entry, flip, tuple(scales), rescoring is not None)  # before a network is built in vain
    where = choose_device(device)
    network = create_model(name, joints=entry.joints, input_size=entry.input_size, seed=seed)
    if checkpoint is not None:
        load_weights(network, entry, checkpoint)
    rescore = None if rescoring is None else rescorer(rescoring, where)
    ready = TorchZooNetwork(network, entry, where)
    return estimator_for(ready, flip=flip, scales=scales, batch=batch, rescore=rescore, skeleton=skeleton)


def as_trained(
    name: str, checkpoint: Path | str | None, input_size: tuple[int, int] | None = None
) -> tuple[ZooEntry, Skeleton]:
    """Return what the catalogue says about a network, with joints and input size as its weight file was trained.

    Args:
        name: a key of `limbnet.models.zoo.CATALOGUE`.
        checkpoint: only files that `limbnet train` wrote say anything; all others know COCO's joints.
        input_size: (height, width) that goes before the file's.

    Returns:
        The entry, its parameters and multiply-adds counted anew where it differs, and the joints (OpenPose's networks
        have their own).
    """
    published, skeleton = find(name), COCO_17
    joints, size = published.joints, input_size
    trained = None if checkpoint is None else stored_info(checkpoint)
    if trained is not None and ZOO in trained.extra:
        skeleton, joints, size = trained.skeleton, len(trained.skeleton.joints), input_size or trained.input_size
    size = size or published.input_size
    if size is None or (joints, size) == (published.joints, published.input_size):
        return published, skeleton
    shapes = create_model(name, joints=joints, input_size=size, device="meta")
    entry = replace(
        published,
        joints=joints,
        input_size=size,
        parameters=parameters(shapes),
        multiply_adds=multiply_adds(shapes, torch.empty(1, 3, *size, device="meta")),
    )
    return entry, skeleton


def estimator_for(
    network: ZooNetwork,
    *,
    flip: bool = False,
    scales: Sequence[float] = (1.0,),
    batch: int = 1,
    rescore: Callable[[NDArray[np.float32]], NDArray[np.float32]] | None = None,
    skeleton: Skeleton = COCO_17,
) -> ZooEstimator:
    """Return the estimator of a network that is ready to run, on whatever runtime; see `load_zoo_estimator`.

    `skeleton` names the joints of networks with other joints than COCO's; OpenPose's networks have their own.
    """
    entry = network.entry
    _check(entry, flip, tuple(scales), rescore is not None)
    if entry.head == "joint_maps":
        return TopDownEstimator(network, skeleton, RULES.get(entry.name, HRNET), flip=flip, batch=batch)
    if entry.head == "tag_maps":
        return TagEstimator(network, skeleton, scales=scales, flip=flip)
    if entry.head == "offset_maps":
        return OffsetEstimator(network, skeleton, scales=scales, flip=flip, rescore=rescore)
    parts, channels = OPENPOSE[entry.name]
    return PartEstimator(network, parts, np.array([(x, x + 1) for x in channels]).ravel())


def rescorer(
    checkpoint: Path | str | None, device: str | torch.device = "cpu"
) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    """Return DEKR's rescoring network as a function from features (P, F) to factors (P, 1).

    Raises:
        ModelFileError: the file does not fit.
    """
    network = create_model(RESCORING)
    if checkpoint is not None:
        load_weights(network, find(RESCORING), checkpoint)
    network = network.to(device)

    def rescore(features: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            scores: torch.Tensor = network(torch.from_numpy(features).to(device)).scores
            return scores.cpu().numpy()

    return rescore


def _check(entry: ZooEntry, flip: bool, scales: tuple[float, ...], rescored: bool) -> None:
    """Raise a UsageError that lists all that the system cannot do."""
    problems = []
    if entry.head == "pose_scores":
        problems.append("it rates poses and finds none; give its weights as DEKR's rescoring file")
    if scales != (1.0,) and entry.head not in ("tag_maps", "offset_maps"):
        problems.append(f"scales are {list(scales)}, but it runs at one scale")
    if flip and entry.head == "part_maps":
        problems.append("it has no flip test")
    if rescored and entry.head != "offset_maps":
        problems.append("a rescoring file is given, but only DEKR is rescored")
    if problems:
        raise UsageError(f"Cannot run '{entry.name}' so: " + "; ".join(problems) + ".")
