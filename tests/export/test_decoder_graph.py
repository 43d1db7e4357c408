"""Decoding inside a graph: the tables and the people that the host's decoder finds on the same maps."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from agreement import disagreements, is_tie
from crowds import STRIDE, Crowd, random_crowd, render
from decoding import SIGNATURE, Decoder, decoder_model
from hypothesis import given, settings
from hypothesis import strategies as st
from lively import STICK

from limbnet.decode.bottomup import decode_maps, find_candidates
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.errors import SpecError
from limbnet.export.decoder_graph import without_decoding
from limbnet.models.info import ModelInfo
from limbnet.runtime.candidates import PeakTables
from limbnet.skeleton import BODY_18

RUNTIMES = ("onnxruntime", "openvino")
INFO = ModelInfo(BODY_18)

#: Pixels of the input by which a joint may differ: single precision, in another order.
TOLERANCE = 0.02


@pytest.fixture(scope="module", params=RUNTIMES)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return Decoder(INFO, request.param)


@pytest.fixture(scope="module", params=RUNTIMES)
def whole_decoder(request: pytest.FixtureRequest) -> Decoder:
    """The graph as it is stored, with static shapes."""
    if request.param == "openvino":
        pytest.importorskip("openvino")
    return Decoder(INFO, request.param, trimmed=False)


def on_host(crowd: Crowd, info: ModelInfo = INFO) -> People:
    return decode_maps(crowd.heatmaps, crowd.pafs, info.skeleton, info.stride, info.decoder)


def differences(decoder: Decoder, crowd: Crowd) -> list[str]:
    """What the graph and the host disagree about, warnings included, unless single precision may decide either way."""
    expected, found = on_host(crowd, decoder.info), decoder.people(crowd.heatmaps, crowd.pafs)
    wrong = disagreements(expected, found, TOLERANCE)
    if not wrong:
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
    elif decoder.info.skeleton == BODY_18 and is_tie(crowd, decoder.info.decoder):
        return []
    return wrong + [f"warnings: {found.warnings}"] * (found.warnings != expected.warnings)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    people=st.integers(0, 30),
    missing=st.sampled_from([0.0, 0.1, 0.4]),
    noise=st.sampled_from([0.0, 0.0, 0.01, 0.02]),
)
def test_same_people_as_the_host(decoder: Decoder, seed: int, people: int, missing: float, noise: float) -> None:
    assert not differences(decoder, random_crowd(seed, people, missing=missing, noise=noise))


def test_same_people_without_trimming(whole_decoder: Decoder) -> None:
    for seed in range(4):
        assert not differences(whole_decoder, random_crowd(seed, 8 * seed, noise=0.01))


@pytest.mark.parametrize("map_size", [(2, 2), (5, 8), (46, 30)])
def test_maps_of_any_size(decoder: Decoder, map_size: tuple[int, int]) -> None:
    for seed in range(4):
        assert not differences(decoder, random_crowd(seed, 3, map_size, height=(20.0, 100.0)))


@pytest.mark.parametrize("map_size", [(1, 1), (1, 9), (7, 1)])
def test_maps_of_one_row(decoder: Decoder, map_size: tuple[int, int]) -> None:
    """Across the row the surface is symmetric: rounding says which of equal points are peaks, on the host too."""
    for seed in range(4):
        crowd = random_crowd(seed, 3, map_size, height=(20.0, 100.0))
        expected = find_candidates(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, INFO.decoder)
        found = decoder.tables(crowd.heatmaps[None], crowd.pafs[None]).candidates(0, INFO, INFO.decoder)
        np.testing.assert_array_equal(found.found > 0, expected.found > 0)
        best, wanted = (one.peaks[..., 2].max(axis=1, initial=0) for one in (found, expected))
        np.testing.assert_allclose(best, wanted, atol=1e-5)


def test_same_tables_as_the_host(decoder: Decoder) -> None:
    crowd = random_crowd(5, 12, noise=0.02)
    expected = find_candidates(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, INFO.decoder)
    tables = decoder.tables(crowd.heatmaps[None], crowd.pafs[None])
    found = tables.candidates(0, INFO, INFO.decoder)
    np.testing.assert_array_equal(found.found, expected.found)
    np.testing.assert_allclose(found.peaks, expected.peaks, atol=TOLERANCE)
    np.testing.assert_allclose(found.limb_scores, expected.limb_scores, atol=1e-5)
    there = np.arange(64) < expected.found[:, None]
    np.testing.assert_array_equal(tables.peaks[0, :, :, 3], there)
    assert not tables.peaks[0][~there].any()


def test_pictures_of_a_batch_do_not_mix(decoder: Decoder) -> None:
    crowds = [random_crowd(seed, people, noise=0.01) for seed, people in ((1, 9), (2, 0), (3, 2))]
    tables = decoder.tables(np.stack([one.heatmaps for one in crowds]), np.stack([one.pafs for one in crowds]))
    assert len(tables) == 3
    for index, crowd in enumerate(crowds):
        assert not disagreements(on_host(crowd), tables.people(index, INFO, INFO.decoder), TOLERANCE)


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_another_skeleton_and_stride(runtime: str) -> None:
    rng = np.random.default_rng(3)
    info = ModelInfo(STICK, stride=4, decoder=DecoderSettings(min_joints=2, limb_samples=7, limb_samples_needed=5))
    decoder = Decoder(info, runtime)
    for people in range(6):
        neck = rng.uniform(20, 100, (people, 1, 2))
        joints = neck + rng.normal(0, 25, (people, 4, 2))
        maps = render(joints, STICK, (32, 34), stride=4, sigma=4.0)
        crowd = Crowd(joints, *maps)
        assert not differences(decoder, crowd)


def test_more_peaks_than_the_cap_are_reported() -> None:
    info = replace(INFO, decoder=DecoderSettings(max_peaks=5))
    decoder = Decoder(info)
    crowd = random_crowd(11, 14)
    people = decoder.people(crowd.heatmaps, crowd.pafs)
    assert people.warnings == on_host(crowd, info).warnings
    assert "max_peaks = 5" in people.warnings[0]
    assert not differences(decoder, crowd)


def test_noise_beyond_the_candidate_cells_is_reported(decoder: Decoder) -> None:
    rng = np.random.default_rng(0)
    crowd = Crowd(
        np.zeros((0, 18, 2)),
        rng.random((19, 36, 48), np.float32),
        rng.uniform(-1, 1, (38, 36, 48)).astype(np.float32),
    )
    tables = decoder.tables(crowd.heatmaps[None], crowd.pafs[None])
    expected = find_candidates(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, INFO.decoder)
    np.testing.assert_array_equal(tables.peaks_found[0], expected.found)
    assert "max_peaks = 64" in tables.people(0, INFO, INFO.decoder).warnings[0]


def test_values_that_are_not_finite(decoder: Decoder) -> None:
    crowd = random_crowd(4, 3)
    crowd.heatmaps[2, 5:7, 5] = np.nan
    crowd.heatmaps[18, 0, 0] = np.nan  # the background is not looked at
    crowd.pafs[7, 3, 1] = -np.inf
    found = decoder.people(crowd.heatmaps, crowd.pafs)
    assert [warning.split(" are")[0] for warning in found.warnings] == [
        "2 values of the heatmaps",
        "1 values of the part affinity fields",
    ]
    assert not disagreements(on_host(crowd), found, TOLERANCE)


def test_of_equal_points_the_first_is_the_peak() -> None:
    heatmaps = np.zeros((19, 9, 9), np.float32)
    heatmaps[0, 3:5, 4] = heatmaps[1, 4, 3:5] = 1.0  # two cells alike: the surface is flat between them
    pafs = np.zeros((38, 9, 9), np.float32)
    expected = find_candidates(heatmaps, pafs, BODY_18, STRIDE, INFO.decoder)
    tables = Decoder(INFO).tables(heatmaps[None], pafs[None])
    np.testing.assert_array_equal(tables.peaks_found[0], expected.found)
    np.testing.assert_allclose(tables.candidates(0, INFO, INFO.decoder).peaks, expected.peaks, atol=1e-4)


def test_what_the_host_can_still_change(decoder: Decoder) -> None:
    crowd = random_crowd(8, 10, noise=0.02)
    tables = decoder.tables(crowd.heatmaps[None], crowd.pafs[None])
    for stricter in (
        replace(INFO.decoder, heatmap_threshold=0.5),
        replace(INFO.decoder, min_joints=17),
        replace(INFO.decoder, min_score=0.9),
    ):
        expected = decode_maps(crowd.heatmaps, crowd.pafs, BODY_18, STRIDE, stricter)
        found = tables.people(0, INFO, stricter)
        assert not disagreements(expected, found, TOLERANCE)
        assert found.warnings == expected.warnings
    everybody = tables.people(0, INFO, INFO.decoder)
    assert len(tables.people(0, INFO, replace(INFO.decoder, min_joints=17))) < len(everybody)


@pytest.mark.parametrize(
    "change",
    [
        {"heatmap_threshold": 0.05},
        {"paf_threshold": 0.1},
        {"limb_samples": 12},
        {"limb_samples_needed": 8},
        {"max_peaks": 128},
    ],
)
def test_what_the_graph_has_decided(change: dict[str, float]) -> None:
    nothing = np.zeros((1, 0, 0, 4), np.float32)
    tables = PeakTables(nothing, np.zeros((1, 0), np.float32), nothing, np.zeros((1, 2), np.float32))
    (name,) = change
    with pytest.raises(SpecError, match=f"cannot change {name} {change[name]}"):
        tables.people(0, INFO, replace(INFO.decoder, **change))


def test_the_part_can_be_taken_off_again() -> None:
    model = decoder_model(INFO)
    maps, signature = without_decoding(model, SIGNATURE)
    assert [value.name for value in maps.graph.output] == ["heatmap_out", "paf_out"]
    assert [node.op_type for node in maps.graph.node] == ["Identity", "Identity"]
    assert not maps.graph.initializer
    assert signature.output_names == ("heatmap_out", "paf_out")
    onnx.checker.check_model(maps, full_check=True)


def test_only_old_and_standard_operators() -> None:
    model = decoder_model(INFO)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
