"""What a study shows an exported network before its row begins: the study's own pictures, as its system fits them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from limbnet.benchmark.study_data import StudyData, placed
from limbnet.data.pictures import read_picture
from limbnet.decode.dekr import rescoring_features
from limbnet.errors import DataError
from limbnet.runtime.zoo.load import estimator_for
from limbnet.runtime.zoo.network import ZooNetwork
from limbnet.skeleton import COCO_17
from limbnet.specs.study import Boxes

#: Pictures to calibrate on, at most so many crops of each of them for networks that work on crops.
PICTURES, CROPS = 16, 4

#: Crops, and whole pictures, that an exported network is compared with torch on.
COMPARED_CROPS, COMPARED_PICTURES = 8, 1


def study_inputs(network: ZooNetwork, data: StudyData, boxes: Boxes | None) -> list[NDArray[np.uint8]]:
    """Return inputs (H, W, 3) uint8 RGB of a network: pictures spread evenly over the study, at scale 1, not mirrored.

    Args:
        network: on any runtime; it does not run.
        data: the study's pictures.
        boxes: of top-down networks, the row's.

    Raises:
        DataError: there are no boxes in any picture.
    """
    estimator = estimator_for(network)
    rule = getattr(estimator, "rule", None)
    found = {
        place: None if boxes is None else data.boxes(place, boxes, rule is not None and rule.unbiased)
        for place in data.places
    }
    places = [place for place, cut in found.items() if cut is None or len(cut)]
    if not places:
        raise DataError(
            f"No picture of the study has a box, and '{network.entry.name}' is compared with torch on crops.",
            "Choose other pictures, or another detections file.",
        )
    chosen = [places[number] for number in np.unique(np.linspace(0, len(places) - 1, PICTURES).round().astype(int))]
    inputs: list[NDArray[np.uint8]] = []
    for place in chosen:
        images = estimator.prepare(read_picture(data.coco.images[place].path), found[place]).images
        inputs += list(images[:CROPS])
    return inputs


def pose_features(data: StudyData, seed: int = 0) -> list[NDArray[np.float32]]:
    """Return features (3L + K,) of the labelled people for DEKR's rescoring network, with made-up joint scores."""
    rng = np.random.default_rng(seed)
    joints = np.concatenate([data.joints(place, COCO_17) for place in data.places])
    points, labelled = np.nan_to_num(placed(joints)), ~np.isnan(placed(joints)[..., 0])
    return list(rescoring_features(points, labelled * rng.uniform(0.2, 1, labelled.shape), COCO_17))


def compared(network: ZooNetwork, inputs: list[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Return the inputs that a network is compared with torch on."""
    return inputs[: COMPARED_CROPS if network.entry.head == "joint_maps" else COMPARED_PICTURES]
