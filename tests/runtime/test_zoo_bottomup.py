"""Bottom-up estimators: geometry from picture to network and back, and every family's network."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from limbnet.data.boxes import PersonBoxes
from limbnet.errors import SpecError, UsageError
from limbnet.models.zoo import CATALOGUE, create_model, find
from limbnet.runtime.zoo.bottomup import OffsetEstimator, PartEstimator, TagEstimator
from limbnet.runtime.zoo.load import RESCORING, estimator_for, load_zoo_estimator, rescorer
from limbnet.runtime.zoo.network import TorchZooNetwork
from limbnet.skeleton import COCO_17, OPENPOSE_18, OPENPOSE_25

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "decode"))
from crowds import render
from tag_crowds import heatmaps_at, offset_network_output, random_people, tags_at

PICTURE = np.zeros((240, 330, 3), np.uint8)
FLIP = COCO_17.flip_index


class Silent:
    """A network that is never asked."""

    name = "silent"

    def __init__(self, name: str, side: int) -> None:
        self.entry = replace(find(name), input_size=(side, side))

    def run(self, images):
        raise AssertionError("the answers are rendered")


def people_in_picture(count=3, joints=17):
    return random_people(np.random.default_rng(1), count, joints, PICTURE.shape[:2], 0.0, 0.08)


def mirrored(maps, channels):
    return maps[channels][:, :, ::-1].copy()


def nearest(poses, joints) -> float:
    """Return the worst person's mean distance to the pose that is nearest."""
    return float(np.nanmean(np.linalg.norm(poses.keypoints[:, None] - joints, axis=-1), axis=2).min(axis=0).max())


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_higherhrnet_brings_joints_back_to_the_picture(scales, flip) -> None:
    estimator = TagEstimator(Silent("higherhrnet_w32_512", 256), COCO_17, scales=scales, flip=flip)
    inputs = estimator.prepare(PICTURE)
    joints = people_in_picture()
    answer = []
    for scale, image in zip(estimator.scales, inputs.images[:: 1 + flip], strict=True):
        matrix, size = inputs.fit.matrix(scale), image.shape[:2]
        points = joints @ matrix[:, :2].T + matrix[:, 2]
        heat, tags = heatmaps_at(points, size, 4), tags_at(points, size, 4, [2.0, 5.0, 8.0])
        fine = heatmaps_at(points, size, 2, 3.0)
        answer.append((np.concatenate([heat, tags])[None], fine[None]))
        if flip:
            coarse = np.concatenate([mirrored(heat, FLIP), mirrored(tags, FLIP) + 1])
            answer.append((coarse[None], mirrored(fine, FLIP)[None]))
    poses = estimator.decode(inputs, answer)
    assert len(poses) == 3
    assert nearest(poses, joints) < 1.2
    assert poses.image_size == (240, 330)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0, 2.0)])
def test_dekr_brings_joints_back_to_the_picture(scales, flip) -> None:
    network = Silent("dekr_w32_512", 256)
    estimator = OffsetEstimator(network, COCO_17, scales=scales, flip=flip, rescore=lambda f: f[:, :1] * 0 + 0.5)
    inputs = estimator.prepare(PICTURE)
    joints = people_in_picture()
    matrix = inputs.fit.matrix()
    points = joints @ matrix[:, :2].T + matrix[:, 2]
    answer, channels = [], np.stack([2 * FLIP, 2 * FLIP + 1], 1).ravel()
    for scale in estimator.scales:
        rng = np.random.default_rng(2)
        _, heat, offsets = offset_network_output(rng, 3, size=inputs.fit.size(), noise=0, scale=scale, points=points)
        answer.append((heat[None], offsets[None]))
        if flip:
            other = mirrored(offsets, channels)
            other[0::2] *= -1
            answer.append((mirrored(heat, np.append(FLIP, 17))[None], other[None]))
    poses = estimator.decode(inputs, answer)
    assert nearest(poses, joints) < 0.1
    assert len(poses) == 3
    plain = OffsetEstimator(network, COCO_17, scales=scales, flip=flip).decode(inputs, answer)
    np.testing.assert_allclose(poses.scores, plain.scores / 2, rtol=1e-5)
    assert estimator.settings.nms_threshold == (0.05 if len(scales) == 1 else 0.15)


@pytest.mark.parametrize(("name", "skeleton"), [("openpose_body25", OPENPOSE_25), ("openpose_coco", OPENPOSE_18)])
def test_openpose_brings_joints_back_to_the_picture(name, skeleton) -> None:
    estimator = estimator_for(Silent(name, 368))
    assert isinstance(estimator, PartEstimator)
    inputs = estimator.prepare(PICTURE)
    joints = people_in_picture(2, len(skeleton.joints))
    heatmaps, pafs = render(joints * inputs.fit.factor, skeleton, tuple(side // 8 for side in inputs.fit.size))
    shuffled = np.empty_like(pafs)
    shuffled[estimator.paf_order] = pafs
    poses = estimator.decode(inputs, [(heatmaps[None], shuffled[None])])
    assert poses.skeleton is skeleton
    assert nearest(poses, joints + 0.5) < 0.8  # OpenPose adds half a pixel


def test_the_fields_of_openpose_are_a_permutation() -> None:
    for name, limbs in (("openpose_body25", 26), ("openpose_coco", 19)):
        order = estimator_for(Silent(name, 368)).paf_order
        assert sorted(order.tolist()) == list(range(2 * limbs))


@pytest.mark.parametrize("name", [name for name in CATALOGUE if name != RESCORING])
def test_every_network_runs_as_its_system_does(name) -> None:
    """At a small input where the network allows it; initial weights find whom they will."""
    entry = find(name)
    small = entry if entry.head == "joint_maps" else replace(entry, input_size=(64, 64))
    if name in ("hrnet_w48_384x288", "darkpose_hrnet_w48_384x288"):
        small = replace(entry, input_size=(96, 64))  # fully convolutional: the crop may be smaller
    network = TorchZooNetwork(create_model(name), small)
    picture = np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8)
    flip, several = entry.head != "part_maps", entry.head in ("tag_maps", "offset_maps")
    rescore = rescorer(None) if entry.head == "offset_maps" else None
    estimator = estimator_for(network, flip=flip, scales=(1.0, 0.5) if several else (1.0,), rescore=rescore)
    poses = estimator(picture, PersonBoxes(np.array([[10.0, 10, 60, 70]]), np.ones(1)))
    assert poses.image_size == (90, 120)
    assert poses.keypoints.shape[1:] == (len(poses.skeleton.joints), 2)
    assert (np.diff(poses.scores) <= 0).all()
    assert np.isfinite(poses.scores).all()


def test_dekr_moves_the_mirrored_picture() -> None:
    estimator = OffsetEstimator(Silent("dekr_w32_512", 64), COCO_17, flip=True)
    picture = np.arange(64, dtype=np.uint8)[None, :, None] * np.ones((64, 1, 3), np.uint8)
    plain, mirror = estimator.prepare(picture).images
    assert plain[5, :, 0].tolist() == list(range(64))
    assert mirror[5, :, 0].tolist() == [*range(60, -1, -1), 2, 1, 0]


def test_what_a_system_cannot_do_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match=r"(?s)runs at one scale.*no flip test.*only DEKR"):
        estimator_for(Silent("openpose_coco", 368), scales=(1.0, 2.0), flip=True, rescore=lambda f: f)
    with pytest.raises(UsageError, match="rates poses"):
        load_zoo_estimator(RESCORING)
    with pytest.raises(UsageError, match="no network"):
        load_zoo_estimator("hrnet")
    with pytest.raises(SpecError, match=r"add 1\.0"):
        load_zoo_estimator("dekr_w32_512", scales=(0.5, 2.0))
    with pytest.raises(SpecError, match=r"add 1\.0"):
        load_zoo_estimator("higherhrnet_w32_512", scales=(0.5, 2.0))
