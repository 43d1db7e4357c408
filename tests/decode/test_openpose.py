"""OpenPose's decoding: against the slow twin on rendered crowds, and by hand."""

from __future__ import annotations

import numpy as np
import openpose_twin as twin
import pytest
from crowds import random_crowd, render
from tag_crowds import random_people

from limbnet.decode.openpose import assemble_pairs, decode_parts, keep_people
from limbnet.decode.parts import PartPeaks, PartSettings, find_part_peaks, score_pairs
from limbnet.decode.topleft import TopLeftFit
from limbnet.skeleton import OPENPOSE_18, OPENPOSE_25, Skeleton

CHAIN = Skeleton("chain", ("a", "b", "c", "left_toe"), ((0, 1), (1, 2), (2, 3), (0, 2)))


@pytest.mark.parametrize("skeleton", [OPENPOSE_18, OPENPOSE_25])
@pytest.mark.parametrize(("seed", "people", "noise"), [(0, 1, 0.0), (1, 3, 0.02), (2, 4, 0.01)])
def test_people_are_the_twins(skeleton, seed, people, noise) -> None:
    rng = np.random.default_rng(seed)
    size = (16 * 8, 20 * 8)
    joints = random_people(rng, people, len(skeleton.joints), size, missing=0.15, spread=0.12)
    heatmaps, pafs = render(joints, skeleton, (16, 20))
    heatmaps += rng.normal(0, noise, heatmaps.shape).astype(np.float32)
    pafs += rng.normal(0, noise, pafs.shape).astype(np.float32)
    found = decode_parts(heatmaps, pafs, skeleton, size, offset=0.3)
    feet = {part for part, name in enumerate(skeleton.joints) if "toe" in name or "heel" in name}
    slow, scores = twin.decoded(heatmaps, pafs, skeleton.limbs, feet, size, 0.3)
    assert len(found) == len(slow)
    assert sorted(found.scores.tolist()) == pytest.approx(sorted(scores), abs=1e-4)
    for person, place in enumerate(np.argsort(-np.array(scores), kind="stable")):
        for part, expected in enumerate(slow[place]):
            if expected is None:
                assert np.isnan(found.keypoints[person, part]).all()
            else:
                assert found.keypoints[person, part] == pytest.approx(expected[:2], abs=2e-3)
                assert found.joint_scores[person, part] == pytest.approx(expected[2], abs=1e-4)


def test_a_crowd_is_found_where_it_stands() -> None:
    crowd = random_crowd(3, 4, map_size=(46, 62), height=(150, 280))
    heatmaps, pafs = render(crowd.joints, OPENPOSE_18, (46, 62))
    found = decode_parts(heatmaps, pafs, OPENPOSE_18, (368, 496))
    whole = [person for person in crowd.joints if np.isfinite(person[:, 0]).sum() > 8]
    assert whole
    for person in whole:
        apart = np.linalg.norm(found.keypoints - person, axis=-1)
        assert np.nanmedian(apart, axis=1).min() < 1.5


def test_peaks_at_and_near_the_border() -> None:
    heatmap = np.zeros((1, 8, 8), np.float32)
    heatmap[0, 0, 4] = 0.9  # the border itself has none
    heatmap[0, 4, 1:3] = 0.5  # a tie: allowed in column 1, not in column 2
    heatmap[0, 5, 5:7] = 0.7  # a tie in columns 5 and 6, and 6 is next to the border
    found = find_part_peaks(heatmap, 0.0, PartSettings())
    assert found.counts.tolist() == [2]
    assert found.values[0].tolist() == pytest.approx([0.5, 0.7])
    assert twin.peaks_of(heatmap[0], 0.0) == [
        pytest.approx((*p, v)) for p, v in zip(found.points[0], found.values[0], strict=True)
    ]
    assert find_part_peaks(heatmap, 0.0, PartSettings(max_peaks=1)).counts.tolist() == [1]
    assert find_part_peaks(heatmap * 0, 0.0, PartSettings()).points.shape == (1, 0, 2)


def peaks(*rows) -> PartPeaks:
    """One row of values a part."""
    most = max(map(len, rows))
    values = np.array([list(row) + [0] * (most - len(row)) for row in rows], np.float32)
    return PartPeaks(np.zeros((*values.shape, 2), np.float32), values, np.array([len(row) for row in rows]))


def pair_table(candidates, *pairs) -> np.ndarray:
    """Pairs of (limb, start, end, score)."""
    most = candidates.values.shape[1]
    table = np.zeros((len(CHAIN.limbs), most, most), np.float32)
    for limb, start, end, score in pairs:
        table[limb, start, end] = score
    return table


def test_the_best_pair_of_all_limbs_comes_first() -> None:
    """b0 of two is taken by the surer limb; a pair to a place that is taken is left out."""
    candidates = peaks([0.5], [0.5, 0.5], [0.5])
    candidates = PartPeaks(np.zeros((4, 2, 2)), np.vstack([candidates.values, [[0, 0]]]), np.array([1, 2, 1, 0]))
    table = pair_table(candidates, (0, 0, 0, 0.6), (0, 0, 1, 0.7), (1, 0, 0, 0.9))
    parts, totals = assemble_pairs(table, candidates, CHAIN)
    # 0.9: b0-c0 starts one; 0.7: a0-b1 starts another; 0.6: a0-b0 would join them, but both have b
    assert parts.tolist() == [[-1, 0, 0, -1], [0, 1, -1, -1]]
    np.testing.assert_allclose(totals, [1.9, 1.7], rtol=1e-6)


def test_pairs_within_a_person_add_and_pairs_between_people_join() -> None:
    candidates = peaks([0.5], [0.4], [0.3], [0.2])
    table = pair_table(candidates, (0, 0, 0, 0.9), (2, 0, 0, 0.8), (1, 0, 0, 0.7), (3, 0, 0, 0.6))
    parts, totals = assemble_pairs(table, candidates, CHAIN)
    assert parts.tolist() == [[0, 0, 0, 0]]
    np.testing.assert_allclose(totals, [0.5 + 0.4 + 0.3 + 0.2 + 0.9 + 0.8 + 0.7 + 0.6], rtol=1e-6)


def test_feet_do_not_count_as_parts_unless_nobody_remains() -> None:
    feet = np.array([["toe" in name or "heel" in name for name in OPENPOSE_25.joints]])
    legs = np.zeros((3, 25), bool)
    legs[0, :3] = True  # three parts, no feet
    legs[1, :4] = legs[1, feet[0]] = True  # four parts and feet
    legs[2, :5] = legs[2, feet[0]] = True
    settings = PartSettings()
    assert keep_people(legs, np.array([1.21, 9.0, 2.01]), OPENPOSE_25, settings).tolist() == [0, 2]
    assert keep_people(legs, np.array([1.19, 9.0, 1.9]), OPENPOSE_25, settings).tolist() == [1]
    assert keep_people(legs[:0], np.zeros(0), OPENPOSE_25, settings).tolist() == []


def test_close_parts_connect_without_a_field() -> None:
    skeleton = Skeleton("pair", ("a", "b"), ((0, 1),))
    points = np.array([[[50, 50]], [[52, 50]]], np.float32)
    candidates = PartPeaks(points, np.ones((2, 1), np.float32), np.array([1, 1]))
    pafs = np.zeros((2, 46, 82), np.float32)
    near = score_pairs(pafs, candidates, (368, 656), skeleton, PartSettings())
    assert near.item() == pytest.approx(0.05 + 1e-6)  # the input's mean side over 150 is 3.3
    points[1, 0, 0] = 54
    assert score_pairs(pafs, candidates, (368, 656), skeleton, PartSettings()).item() == 0
    points[1] = points[0]
    assert score_pairs(pafs, candidates, (368, 656), skeleton, PartSettings()).item() == 0


@pytest.mark.parametrize(
    ("picture", "size", "factor"),
    [
        ((480, 640), (368, 496), 367 / 479),  # 490.7 is 30.67 times 16
        ((360, 640), (368, 656), 367 / 359),
        ((300, 900), (368, 656), 655 / 899),  # wider than 16 to 9
        ((640, 480), (368, 272), 271 / 479),
    ],
)
def test_the_input_follows_the_picture(picture, size, factor) -> None:
    fit = TopLeftFit.plan(picture, 368)
    assert fit.size == size
    assert fit.factor == pytest.approx(factor)
    np.testing.assert_allclose(fit.to_picture(np.array([[367.0, 0.0]])), [[367 / factor, 0]])
    image = fit.image(np.full((*picture, 3), 99, np.uint8))
    assert image.shape == (*size, 3)
    assert image[0, 0].tolist() == [99, 99, 99]
