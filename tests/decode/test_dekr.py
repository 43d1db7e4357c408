"""DEKR's decoding: against the slow twin, by hand, and on crowds whose joints are known."""

from __future__ import annotations

import dekr_twin as twin
import numpy as np
import pytest
from tag_crowds import offset_network_output

from limbnet.decode.dekr import decode_offsets, rescoring_features
from limbnet.decode.matching import MatchSettings
from limbnet.decode.offsets import (
    OffsetSettings,
    OffsetView,
    enlarge_maps,
    find_centres,
    mean_heatmaps,
    offset_view,
    pose_nms,
    values_at,
)
from limbnet.skeleton import BODY_18, COCO_17, Skeleton

FLIP = COCO_17.flip_index


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(("scales", "nms"), [((1.0,), 0.05), ((2.0, 1.0, 0.5), 0.15)])
def test_people_are_the_twins(scales, nms, flip) -> None:
    rng = np.random.default_rng(len(scales))
    points, views, slow = None, [], []
    for scale in scales:
        points, *plain = offset_network_output(rng, 9, size=(128, 192), noise=0.02, scale=scale, points=points)
        _, *other = offset_network_output(rng, 9, size=(128, 192), noise=0.02, scale=scale, points=points)
        mirrored = None
        poses, heatmaps = twin.posed(plain[1]), plain[0]
        if flip:
            heat_index = np.append(FLIP, 17)
            channels = np.stack([2 * FLIP, 2 * FLIP + 1], 1).ravel()
            sign = np.tile([-1, 1], 17)[:, None, None]
            # what a network says about the mirror: x of its offsets changes sign
            mirrored = other[0][heat_index][:, :, ::-1], (other[1][channels] * sign)[:, :, ::-1].astype(np.float32)
            heatmaps = (plain[0] + mirrored[0][:, :, ::-1][heat_index]) / 2
            poses = (poses + twin.posed(mirrored[1], FLIP)) / 2
        views.append(offset_view(scale, tuple(plain), mirrored, FLIP))
        slow.append((scale, heatmaps, poses))
    found = decode_offsets(views, OffsetSettings(nms_threshold=nms))
    expected = sorted(twin.decoded(slow, nms), key=lambda person: -person[2])
    assert len(found) == len(expected) > 5
    for person, (place, joint_scores, score) in enumerate(expected):
        np.testing.assert_allclose(found.keypoints[person], place, atol=1e-3)
        np.testing.assert_allclose(found.joint_scores[person], joint_scores, atol=1e-4)
        assert found.scores[person] == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_maps_are_enlarged_with_their_corners_where_they_were(factor) -> None:
    maps = np.random.default_rng(0).random((2, 9, 14), np.float32)
    larger = enlarge_maps(maps, factor)
    np.testing.assert_allclose(larger, twin.enlarged(maps, factor), atol=1e-6)
    np.testing.assert_array_equal(larger[:, ::factor, ::factor], maps)


def test_values_are_those_of_the_enlarged_maps() -> None:
    rng = np.random.default_rng(3)
    views = [OffsetView(s, rng.random((4, int(10 * s), int(12 * s)), np.float32), np.zeros(0)) for s in (0.5, 1, 2)]
    whole = mean_heatmaps(views)
    points = rng.uniform(-9, 60, (40, 3, 2)).astype(np.float32)
    values = values_at(views, points)
    for person in range(40):
        for joint in range(3):
            x, y = np.clip(np.floor(points[person, joint]), 0, (47, 39)).astype(int)
            assert values[person, joint] == pytest.approx(whole[joint, y, x], abs=1e-5)


def test_a_crowd_is_found_where_it_stands() -> None:
    rng = np.random.default_rng(4)
    points, heatmaps, offsets = offset_network_output(rng, 20, noise=0.002)
    found = decode_offsets([offset_view(1.0, (heatmaps, offsets), None, FLIP)])
    apart = np.linalg.norm(found.keypoints[:, None] - points, axis=-1).mean(axis=2)
    assert (apart.min(axis=0) < 1).sum() >= 18  # two centres in one cell are one person
    assert found.scores.tolist() == sorted(found.scores, reverse=True)


def test_matching_mends_rough_offsets() -> None:
    rng = np.random.default_rng(6)
    points, heatmaps, offsets = offset_network_output(rng, 4, noise=0.02)
    views = [offset_view(1.0, (heatmaps, offsets), None, FLIP)]
    rough, mended = (decode_offsets(views, match=match) for match in (None, MatchSettings()))
    errors = []
    for found in (rough, mended):
        apart = np.linalg.norm(found.keypoints[:, None] - points, axis=-1)
        errors.append(float(np.median(apart[apart.mean(axis=2).argmin(axis=0), np.arange(4)])))
    assert errors[1] < errors[0] / 2
    np.testing.assert_array_equal(rough.scores, mended.scores)


def test_close_poses_by_hand() -> None:
    """Three joints; a diagonal of 50 and a share of 0.1 make joints closer than 5 close; more than one is a person."""
    pose = np.array([[0.0, 0], [30, 40], [30, 0]])
    shifts = np.zeros((5, 3, 2))
    shifts[1, :, 0], shifts[2, :, 0], shifts[3, 1:, 0] = 4, 8, 99
    moved = pose + shifts
    moved[4] = 0
    heat = np.array([[0.1] * 3, [0.9] * 3, [0.5] * 3, [0.2] * 3, [0.3] * 3])
    settings = OffsetSettings(nms_threshold=0.1, nms_joints=1)
    # the first loses to the second, and so does the third, though it is not close to the first; the last is a point
    assert pose_nms(moved.astype(np.float32), heat.astype(np.float32), settings).tolist() == [1, 3, 4]
    few = OffsetSettings(nms_threshold=0.1, nms_joints=1, max_people=2)
    assert pose_nms(moved.astype(np.float32), heat.astype(np.float32), few).tolist() == [1, 4]


@pytest.mark.parametrize(("side", "expected"), [(100, [0.9, 0.5, 0.3]), (250, [0.9, 0.3]), (310, [0.9])])
def test_the_window_grows_with_the_map(side, expected) -> None:
    """Centres two and three cells apart; windows of 3, 5 and 7 reach 1, 2 and 3 cells."""
    heatmaps = np.zeros((1, side, side), np.float32)
    heatmaps[0, 50, 50], heatmaps[0, 50, 52], heatmaps[0, 50, 55] = 0.9, 0.5, 0.3
    heatmaps[0, 50, 53] = 0.005  # below the threshold
    view = OffsetView(1.0, heatmaps, np.zeros((2, side, side), np.float32))
    values = find_centres(view, OffsetSettings()).centres
    np.testing.assert_allclose(values, expected)


def test_other_scales_are_measured_by_scale_one() -> None:
    def view(scale, value):
        heatmaps = np.zeros((2, 10, 10), np.float32)
        heatmaps[1, 4, 4] = value
        heatmaps[0] = 1
        return OffsetView(scale, heatmaps, np.full((2, 10, 10), 9 * scale, np.float32))

    alone = decode_offsets([view(1.0, 0.5)], OffsetSettings(nms_joints=0))
    assert alone.scores == pytest.approx([0.5])
    with pytest.raises(ValueError, match="scale 1"):
        decode_offsets([view(0.5, 0.5)])
    nothing = decode_offsets([view(1.0, 0.0)])
    assert len(nothing) == 0


def test_rescoring_features_by_hand() -> None:
    skeleton = Skeleton(
        "trunk",
        ("left_shoulder", "right_shoulder", "left_hip", "right_hip"),
        ((0, 2), (1, 3), (0, 1)),
    )
    points = np.array([[[0, 0], [8, 0], [0, 12], [8, 8]]], np.float32)
    features = rescoring_features(points, np.array([[0.1, 0.2, 0.3, 0.4]]), skeleton)
    # trunk sides of 12 and 8, mean 10; vectors from end to start
    np.testing.assert_allclose(features, [[0, -1.2, 0, -0.8, -0.8, 0, 1.2, 0.8, 0.8, 0.1, 0.2, 0.3, 0.4]], rtol=1e-6)
    tiny = rescoring_features(points / 100, np.zeros((1, 4)), skeleton)
    np.testing.assert_allclose(tiny[0, 6:9], [0.12, 0.08, 0.08], rtol=1e-5)  # not less than a pixel
    assert rescoring_features(np.zeros((2, 17, 2)), np.zeros((2, 17)), COCO_17).shape == (2, 74)
    with pytest.raises(ValueError, match="shoulder"):
        rescoring_features(np.zeros((1, 18, 2)), np.zeros((1, 18)), BODY_18)
