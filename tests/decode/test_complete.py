"""Completing people: the same joints as a slow twin gives them, and none that should not be given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import reference_decoder
from crowds import MAP_SIZE, STRIDE, Crowd, drawn, random_crowd, upright
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from limbnet.decode.bottomup import decode_maps
from limbnet.decode.peaks import find_peaks
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.skeleton import BODY_18

pytestmark = pytest.mark.usefixtures("both_decoders")

STRONG = DecoderSettings()
WEAK = replace(STRONG, weak_heatmap_threshold=0.03)
JOINTS = len(BODY_18.joints)
WRIST, ELBOW = BODY_18.joints.index("right_wrist"), BODY_18.joints.index("right_elbow")


def decode(crowd: Crowd, settings: DecoderSettings) -> People:
    return decode_maps(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, settings)


def faint(crowd: Crowd, share: float, joints: list[int]) -> Crowd:
    """The same crowd with some joints' heatmaps times `share`."""
    heatmaps = crowd.heatmaps.copy()
    heatmaps[joints] *= share
    return replace(crowd, heatmaps=heatmaps)


def test_a_faint_joint_is_given_to_who_lacks_it() -> None:
    crowd = faint(drawn(upright(150.0, 60.0, 200.0)), 0.06, [WRIST])
    before, after = decode(crowd, STRONG), decode(crowd, WEAK)
    assert np.isnan(before.keypoints[0, WRIST, 0])
    np.testing.assert_allclose(after.keypoints[0], crowd.joints[0], atol=1.0)
    assert after.joint_scores[0, WRIST] == pytest.approx(0.06, abs=0.005)
    np.testing.assert_array_equal(after.scores, before.scores)


def test_one_joint_leads_to_the_next() -> None:
    crowd = faint(drawn(upright(150.0, 60.0, 200.0)), 0.06, [ELBOW, WRIST])
    assert np.isnan(decode(crowd, STRONG).keypoints[0, [ELBOW, WRIST], 0]).all()
    np.testing.assert_allclose(decode(crowd, WEAK).keypoints[0], crowd.joints[0], atol=1.0)


def test_a_joint_without_a_limb_is_left() -> None:
    crowd = faint(drawn(upright(150.0, 60.0, 200.0)), 0.06, [WRIST])
    pafs = crowd.pafs.copy()
    for limb, ends in enumerate(BODY_18.limbs):
        if WRIST in ends:
            pafs[2 * limb : 2 * limb + 2] = 0
    assert np.isnan(decode(replace(crowd, pafs=pafs), WEAK).keypoints[0, WRIST, 0])


def test_a_joint_further_away_than_the_person_is_long_is_left() -> None:
    person = upright(150.0, 60.0, tall=60.0)
    crowd = drawn(person)
    away = person.copy()
    away[WRIST] = person[ELBOW] + (150, 150)
    far = drawn(away)
    heatmaps, pafs = crowd.heatmaps.copy(), crowd.pafs.copy()
    heatmaps[WRIST] = 0.06 * far.heatmaps[WRIST]
    for limb, ends in enumerate(BODY_18.limbs):
        if WRIST in ends:
            pafs[2 * limb : 2 * limb + 2] = far.pafs[2 * limb : 2 * limb + 2]
    assert np.isnan(decode(Crowd(away[None], heatmaps, pafs), WEAK).keypoints[0, WRIST, 0])


def test_faint_people_are_not_founded() -> None:
    crowd = faint(drawn(upright(150.0, 60.0, 200.0)), 0.06, list(range(JOINTS)))
    assert len(decode(crowd, WEAK)) == 0


def test_two_people_do_not_share_a_joint() -> None:
    one, other = upright(150.0, 60.0, 200.0), upright(190.0, 60.0, 200.0)
    other[WRIST] = one[WRIST] = (one[WRIST] + other[WRIST]) / 2
    people = decode(faint(drawn(one, other), 0.06, [WRIST]), WEAK)
    assert np.count_nonzero(~np.isnan(people.keypoints[:, WRIST, 0])) == 1


def twin(crowd: Crowd, people: People, settings: DecoderSettings) -> tuple[NDArray[np.float32], float]:
    """Complete people limb by limb and peak by peak; also how close a decision was."""
    assert settings.weak_heatmap_threshold is not None
    fields = reference_decoder.upsample(crowd.pafs, STRIDE).reshape(-1, 2, *(side * STRIDE for side in MAP_SIZE))
    peaks = find_peaks(crowd.heatmaps[:JOINTS], STRIDE, settings.weak_heatmap_threshold, settings.max_peaks)
    found = [[peaks.refined[k, m] for m in range(peaks.counts[k])] for k in range(JOINTS)]
    keypoints = people.keypoints.copy()
    free = {
        (k, m)
        for k in range(JOINTS)
        for m in range(len(found[k]))
        if not any(np.abs(person[k] - found[k][m][:2]).max() < STRIDE / 2 for person in keypoints)
    }
    closest = np.inf
    while True:
        offers = []
        for p, person in enumerate(keypoints):
            extent = max(np.nanmax(person, axis=0) - np.nanmin(person, axis=0))
            for limb, (start, end) in enumerate(BODY_18.limbs):
                for held, lacked, sign in ((start, end, 1), (end, start, -1)):
                    if np.isnan(person[held, 0]) or not np.isnan(person[lacked, 0]):
                        continue
                    for m, (x, y, value) in enumerate(found[lacked]):
                        vector = np.array([x, y]) - person[held]
                        if (lacked, m) not in free or np.hypot(*vector) > 0.6 * extent:
                            continue
                        spots = person[held] + np.linspace(0, 1, settings.limb_samples)[:, None] * vector
                        column, row = np.rint(spots).astype(int).T
                        along = sign * (vector / np.hypot(*vector)) @ fields[limb][:, row, column]
                        closest = min(closest, np.abs(along[along != 0]).min(initial=np.inf))
                        if np.count_nonzero(along > 0) >= 0.6 * settings.limb_samples:
                            offers.append((value + along[along > 0].mean(), p, lacked, m))
        if not offers:
            return keypoints, closest
        for _, p, k, m in sorted(offers, key=lambda offer: -offer[0]):
            if (k, m) in free and np.isnan(keypoints[p, k, 0]):
                free.remove((k, m))
                keypoints[p, k] = found[k][m][:2]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), people=st.integers(1, 12), share=st.sampled_from([0.05, 0.08]))
def test_same_joints_as_the_twin(seed: int, people: int, share: float) -> None:
    weak = np.flatnonzero(np.random.default_rng(seed).random(JOINTS) < 0.4).tolist()
    crowd = faint(random_crowd(seed, people, noise=0.01), share, weak)
    before, after = decode(crowd, STRONG), decode(crowd, WEAK)
    expected, closest = twin(crowd, before, WEAK)
    if closest > 1e-6:
        np.testing.assert_array_equal(after.keypoints, expected)
    np.testing.assert_array_equal(after.scores, before.scores)
    held = ~np.isnan(before.keypoints[:, :, 0])
    np.testing.assert_array_equal(after.keypoints[held], before.keypoints[held])
    assert ((after.joint_scores > 0) == ~np.isnan(after.keypoints[:, :, 0])).all()
