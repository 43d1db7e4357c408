"""Top-down estimators on pictures: a hand-made network that sees coloured dots, and the zoo's own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from limbnet.data.boxes import NO_BOXES, PersonBoxes
from limbnet.errors import DataError
from limbnet.models.zoo import create_model, find
from limbnet.models.zoo.outputs import JointMaps
from limbnet.runtime.zoo.network import NORMALISATIONS, TorchZooNetwork
from limbnet.runtime.zoo.topdown import DARK, HRNET, TopDownEstimator
from limbnet.skeleton import COCO_17, Skeleton

#: No left and no right, because dots do not change colour in a mirror.
DOTS = Skeleton("dots", ("red", "green", "blue"), ((0, 1), (1, 2)), sigmas=(0.1, 0.1, 0.1))
ENTRY = replace(find("hrnet_w32_256x192"), joints=3)
PLACES = np.array([[60.0, 40], [75, 90], [50, 130]])


class DotNetwork(nn.Module):
    """Heatmap k is colour channel k, smoothed and sampled at stride 4 where HRNet's cells are, or DARK's."""

    def __init__(self, unbiased: bool) -> None:
        super().__init__()
        self.unbiased = unbiased
        steps = torch.arange(-24.0, 25)
        self.kernel = torch.exp(-(steps**2) / (2 * 7.0**2))

    def forward(self, images):
        mean, deviation = torch.tensor(NORMALISATIONS["imagenet_rgb"])[..., None, None] / 255
        levels = images * deviation + mean  # 0 to 1 again
        rows = F.conv2d(levels, self.kernel.expand(3, 1, 1, -1), padding=(0, 24), groups=3)
        smooth = F.conv2d(rows, self.kernel[:, None].expand(3, 1, -1, 1), padding=(24, 0), groups=3)
        h, w = images.shape[2] // 4, images.shape[3] // 4
        if self.unbiased:
            return JointMaps(F.interpolate(smooth, (h, w), mode="bilinear", align_corners=True))
        return JointMaps(smooth[:, :, ::4, ::4])


def dots() -> np.ndarray:
    picture = np.zeros((180, 140, 3), np.uint8)
    for channel, (x, y) in enumerate(PLACES.astype(int)):
        picture[y - 1 : y + 2, x - 1 : x + 2, channel] = 255
    return picture


BOXES = PersonBoxes(np.array([[30.0, 20, 60, 130], [32, 22, 61, 128]]), np.array([0.9, 0.8]))


@pytest.mark.parametrize(
    ("rule", "flip", "cells"), [(HRNET, False, 0.26), (HRNET, True, 0.4), (DARK, False, 0.1), (DARK, True, 0.1)]
)
def test_joints_are_found_where_they_are(rule, flip, cells) -> None:
    """Through crop, network, peaks and back, to a share of a cell, which is 2.54 pixels of the picture.

    HRNet's refinement knows quarters only. Its mirrored maps stand 0.75 cells too far left and are moved by one.
    """
    network = TorchZooNetwork(DotNetwork(rule.unbiased), ENTRY)
    poses = TopDownEstimator(network, DOTS, rule, flip=flip)(dots(), BOXES)
    assert len(poses) == 1  # the second box shows the same person
    assert np.abs(poses.keypoints[0] - PLACES).max() < 2.54 * cells


def test_geometry_of_another_system_costs_accuracy() -> None:
    """DARK's crop with HRNet's shift of the mirrored maps is wrong by half a cell."""
    network = TorchZooNetwork(DotNetwork(True), ENTRY)
    poses = TopDownEstimator(network, DOTS, replace(DARK, flip_shift=1), flip=True)(dots(), BOXES)
    assert np.abs(poses.keypoints[0] - PLACES).max() > 0.8


def test_batches_change_nothing_and_the_box_score_counts() -> None:
    network = TorchZooNetwork(DotNetwork(False), ENTRY)
    rule = replace(HRNET, oks_threshold=1.0)
    single, double = (TopDownEstimator(network, DOTS, rule, batch=batch)(dots(), BOXES) for batch in (1, 2))
    np.testing.assert_allclose(single.keypoints, double.keypoints, atol=1e-5)
    assert len(single) == 2
    np.testing.assert_allclose(single.scores / single.joint_scores.mean(axis=1), [0.9, 0.8], rtol=1e-5)


def test_a_real_network_of_the_zoo_runs() -> None:
    entry = find("naive_litehrnet_18_256x192")
    estimator = TopDownEstimator(TorchZooNetwork(create_model(entry.name), entry), COCO_17, flip=True)
    picture = np.random.default_rng(0).integers(0, 255, (120, 100, 3), np.uint8)
    poses = estimator(picture, PersonBoxes(np.array([[5.0, 5, 60, 90]]), np.ones(1)))
    assert poses.keypoints.shape == (1, 17, 2)
    assert poses.image_size == (120, 100)
    assert len(estimator(picture, NO_BOXES)) == 0
    with pytest.raises(DataError, match="boxes"):
        estimator(picture)


def test_pixels_are_normalised_as_published() -> None:
    class Echo(nn.Module):
        def forward(self, images):
            return (images,)

    pixel = np.array([[[[255, 0, 128]]]], np.uint8)
    rgb = TorchZooNetwork(Echo(), find("hrnet_w32_256x192")).run(pixel)[0].ravel()
    np.testing.assert_allclose(rgb, [(1 - 0.485) / 0.229, -0.456 / 0.224, (128 / 255 - 0.406) / 0.225], rtol=1e-5)
    bgr = TorchZooNetwork(Echo(), find("openpose_coco")).run(pixel)[0].ravel()
    np.testing.assert_allclose(bgr, [0, -0.5, 255 / 256 - 0.5])
