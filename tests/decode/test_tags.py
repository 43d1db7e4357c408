"""HigherHRNet's decoding: against the slow twin, by hand, and on crowds whose joints are known."""

from __future__ import annotations

import numpy as np
import pytest
import tag_twin as twin
from hypothesis import given, settings
from hypothesis import strategies as st
from tag_crowds import tag_network_output

from limbnet.decode.multiresolution import TagFields, TagView, aggregate, resize_maps
from limbnet.decode.tag_refine import best_places
from limbnet.decode.tags import (
    TagPeaks,
    TagSettings,
    decode_tags,
    find_tag_peaks,
    group_by_tags,
    grouping_order,
)
from limbnet.skeleton import BODY_18, COCO_17


def whole_tags(fields) -> np.ndarray:
    return np.stack([resize_maps(tags, fields.heatmaps.shape[1:]) for tags in fields.tags])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (2.0, 1.0, 0.5), (0.5,)])
def test_aggregation_is_the_twins(scales, mirrored) -> None:
    rng = np.random.default_rng(0)
    flip = np.array([0, 2, 1])
    views = []
    for scale in scales:
        h, w = int(16 * scale), int(32 * scale)
        maps = [(rng.random((6, h, w), np.float32), rng.random((3, 2 * h, 2 * w), np.float32)) for _ in range(2)]
        views.append(TagView(scale, maps if mirrored else maps[:1]))
    fields = aggregate(views, (64, 128), flip)
    heatmaps, tags = twin.aggregated([(view.scale, view.maps) for view in views], (64, 128), flip)
    np.testing.assert_allclose(fields.heatmaps, heatmaps, atol=1e-5)
    np.testing.assert_allclose(whole_tags(fields), tags, atol=1e-5)
    row, column = np.mgrid[:64, :128]
    for joint in range(3):
        np.testing.assert_allclose(fields.tags_at(np.intp(joint), row, column), tags[:, joint], atol=1e-5)


def test_tags_need_the_scale_they_are_read_at() -> None:
    maps = [(np.zeros((2, 4, 4), np.float32), np.zeros((1, 8, 8), np.float32))]
    with pytest.raises(ValueError, match="scale 1"):
        aggregate([TagView(0.5, maps), TagView(2.0, maps)], (16, 16), np.array([0]))


@pytest.mark.parametrize(("seed", "people", "noise"), [(0, 1, 0.0), (1, 4, 0.01), (2, 9, 0.02), (3, 16, 0.05)])
def test_people_are_the_twins(seed, people, noise) -> None:
    rng = np.random.default_rng(seed)
    _, coarse, fine = tag_network_output(rng, people, 17, (256, 320), noise, missing=0.2)
    views = [TagView(1.0, [(coarse, fine), (coarse[:, :, ::-1] * np.float32(0.9), fine[:, :, ::-1])][: 1 + seed % 2])]
    fields = aggregate(views, (256, 320), np.arange(17))
    order = grouping_order(COCO_17.joints)
    found = decode_tags(fields, order)
    slow, scores = twin.decoded(fields.heatmaps, whole_tags(fields), order.tolist())
    assert len(found) == len(slow)
    for person, place in enumerate(np.argsort(-np.array(scores, np.float32), kind="stable")):
        assert found.scores[person] == pytest.approx(scores[place], abs=1e-5)
        for joint, expected in enumerate(slow[place]):
            if expected is None:
                assert np.isnan(found.keypoints[person, joint]).all()
            else:
                assert (*found.keypoints[person, joint], found.joint_scores[person, joint]) == pytest.approx(expected)


def test_a_crowd_is_found_where_it_stands() -> None:
    rng = np.random.default_rng(5)
    joints, coarse, fine = tag_network_output(rng, 12, 17, (512, 512), 0.005)
    found = decode_tags(aggregate([TagView(1.0, [(coarse, fine)])], (512, 512), np.arange(17)))
    for person in joints:
        apart = np.linalg.norm(found.keypoints - person, axis=-1)
        assert np.nanmedian(apart, axis=1).min() < 1.5


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 2), st.integers(1, 4), st.sampled_from([(8, 8), (9, 20), (70, 53), (3, 5)])
)
def test_tiles_lead_to_the_best_place_of_the_whole_map(seed, flips, levels, size) -> None:
    """Values and tags of few levels make ties, or of one level nothing else; they go to the first place."""
    rng = np.random.default_rng(seed)
    heatmaps = rng.integers(1 - levels, levels, (2, *size)).astype(np.float32) / 4
    tags = rng.integers(0, levels, (flips, 2, *size)).astype(np.float32)
    joint, wanted = rng.integers(0, 2, 6), rng.integers(0, 5, (6, flips)).astype(np.float32)
    places = best_places(TagFields(heatmaps, tags), joint, wanted)
    for number, place in enumerate(places):
        distance = np.sqrt(((tags[:, joint[number]] - wanted[number][:, None, None]) ** 2).sum(axis=0))
        assert place == np.argmax(heatmaps[joint[number]] - np.round(distance))


def peaks(*rows) -> TagPeaks:
    """Rows of joint, value, tag."""
    columns = np.array(rows, np.float32).reshape(-1, 3).T
    return TagPeaks(columns[0].astype(np.intp), np.arange(len(rows)), columns[1], columns[2][:, None])


def test_grouping_by_hand() -> None:
    found = peaks((0, 0.9, 1.0), (0, 0.8, 5.0), (1, 0.7, 5.2), (1, 0.6, 0.9), (1, 0.5, 9.0), (2, 0.9, 8.6))
    groups = group_by_tags(found, np.arange(3), TagSettings())
    assert groups.tolist() == [[0, 3, -1], [1, 2, -1], [-1, 4, 5]]
    last_first = group_by_tags(found, np.array([2, 1, 0]), TagSettings())
    assert last_first.tolist() == [[-1, 4, 5], [1, 2, -1], [0, 3, -1]]


def test_equal_first_tags_share_a_person_and_late_people_wait() -> None:
    assert group_by_tags(peaks((0, 0.9, 1.0), (0, 0.8, 1.0)), np.arange(1), TagSettings()).tolist() == [[1]]
    crowd = peaks((0, 0.9, 1.0), (0, 0.8, 5.0), (1, 0.7, 5.0), (1, 0.6, 9.0))
    one = group_by_tags(crowd, np.arange(2), TagSettings(max_people=1))
    # only the first person is assigned to; a peak with tag 5 that starts a person finds the one of that tag
    assert one.tolist() == [[0, -1], [1, 2], [-1, 3]]


def test_a_rounded_distance_outweighs_any_value_and_the_threshold_excludes_itself() -> None:
    near, far = peaks((0, 0.9, 0.0), (1, 0.2, 0.4), (1, 0.9, 0.6)), peaks((0, 0.9, 0.0), (1, 0.9, 1.0))
    assert group_by_tags(near, np.arange(2), TagSettings()).tolist()[0] == [0, 1]
    assert group_by_tags(far, np.arange(2), TagSettings()).tolist() == [[0, -1], [-1, 1]]


def test_peaks_at_the_border_ties_and_the_cap() -> None:
    heatmaps = np.zeros((2, 9, 9), np.float32)
    heatmaps[0, 0, 8], heatmaps[0, 1, 0] = 0.5, 0.6  # neighbours in memory, not in the map
    heatmaps[1, 4, 4:6] = 0.3  # two equal ones are both the largest
    fields = TagFields(heatmaps, np.zeros((1, 2, 9, 9), np.float32))
    found = find_tag_peaks(fields, TagSettings())
    assert found.place.tolist() == [9, 8, 40, 41]
    assert find_tag_peaks(fields, TagSettings(max_people=1)).place.tolist() == [9, 40]


def test_nobody() -> None:
    fields = TagFields(np.zeros((17, 64, 64), np.float32), np.zeros((1, 17, 64, 64), np.float32))
    assert len(decode_tags(fields)) == 0


def test_any_skeleton_has_an_order() -> None:
    assert grouping_order(COCO_17.joints).tolist() == [0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16]
    assert sorted(grouping_order(BODY_18.joints).tolist()) == list(range(18))
