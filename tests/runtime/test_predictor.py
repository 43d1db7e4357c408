"""PoseEstimator: pictures in, poses out, with a real network and with one that knows the answers."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import limbnet
from limbnet.decode.settings import DecoderSettings
from limbnet.errors import DataError, SpecError
from limbnet.geometry import FitMode
from limbnet.runtime.engine import Maps
from limbnet.runtime.load import load_engine
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.views import plan_views
from limbnet.skeleton import BODY_18
from limbnet.specs.inference import InferenceSpec
from oracle import Oracle


def a_person(x: float, y: float, height: float) -> NDArray[np.float64]:
    """Joints (K, 3) of somebody who stands upright, every joint at a place of its own."""
    across = {"left": 0.12, "right": -0.12}
    down = {
        "eye": 0.02, "ear": 0.05, "nose": 0.1, "neck": 0.2, "shoulder": 0.2, "elbow": 0.35,
        "wrist": 0.5, "hip": 0.52, "knee": 0.75, "ankle": 1.0,
    }  # fmt: skip
    spread = {"eye": 0.6, "ear": 1.2, "elbow": 1.6, "wrist": 1.9}
    joints = np.zeros((len(BODY_18.joints), 3))
    for index, name in enumerate(BODY_18.joints):
        side, _, part = name.rpartition("_")
        joints[index, :2] = x + across.get(side, 0) * spread.get(part, 1.0) * height, y + down[part] * height
    return joints


PEOPLE = np.stack([a_person(90, 20, 160), a_person(230, 40, 140)])
SHAPE = (200, 320)


@pytest.fixture(scope="module")
def picture() -> NDArray[np.uint8]:
    return np.random.default_rng(5).integers(0, 256, (*SHAPE, 3), np.uint8)


def knowing(
    picture: NDArray[np.uint8], size: tuple[int, int], mode: FitMode, scales: tuple[float, ...], flip: bool
) -> Oracle:
    oracle = Oracle()
    oracle.learn(picture, PEOPLE, plan_views(SHAPE, size, mode, 8, scales=scales, flip=flip)[0])
    return oracle


@pytest.mark.parametrize("mode", ["adjust_network_input", "pad_image_input", "stretch"])
@pytest.mark.parametrize(("scales", "flip"), [((1.0,), False), ((0.5, 1.0, 1.5), False), ((1.0,), True)])
@pytest.mark.parametrize("size", [(368, 368), (256, 448)])
def test_joints_come_back_to_their_places_in_the_picture(
    picture: NDArray[np.uint8], size: tuple[int, int], mode: FitMode, scales: tuple[float, ...], flip: bool
) -> None:
    oracle = knowing(picture, size, mode, scales, flip)
    poses = PoseEstimator(oracle, input_size=size, fit_mode=mode, scales=scales, flip=flip)(picture)
    assert len(poses) == len(PEOPLE)
    assert poses.image_size == SHAPE
    order = np.argsort(poses.keypoints[:, 1, 0])  # by the neck's x, as PEOPLE are
    error = np.linalg.norm(poses.keypoints[order] - PEOPLE[..., :2], axis=-1)
    assert error.max() < (0.05 if len(scales) == 1 and not flip else 0.5)


def test_a_person_beyond_the_edge_is_clipped_to_the_picture(picture: NDArray[np.uint8]) -> None:
    oracle = Oracle()
    joints = a_person(160, 70, 130)[None]  # the ankles stand at 200, one pixel below the last row
    oracle.learn(picture, joints, plan_views(SHAPE, (368, 368), "adjust_network_input", 8)[0])
    poses = PoseEstimator(oracle)(picture)
    assert len(poses) == 1
    assert poses.joint("left_ankle")[0, 1] == SHAPE[0] - 1


def test_all_ways_to_hand_in_a_picture_give_the_same(
    tiny_model: Path, picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    estimator = limbnet.load(tiny_model, device="cpu")
    Image.fromarray(picture).save(tmp_path / "a.png")
    expected = estimator.maps(picture)[0]
    assert np.ptp(expected.heatmaps) > 0
    for item in (tmp_path / "a.png", str(tmp_path / "a.png"), Image.fromarray(picture)):
        np.testing.assert_array_equal(estimator.maps(item)[0].heatmaps, expected.heatmaps)
        assert len(estimator(item)) == len(estimator(picture))


def test_a_stream_says_what_single_calls_say_and_reports_bad_pictures(
    picture: NDArray[np.uint8], tmp_path: Path
) -> None:
    (tmp_path / "text.jpg").write_text("no picture")
    oracle = knowing(picture, (368, 368), "adjust_network_input", (1.0,), False)
    estimator = PoseEstimator(oracle)
    items = [picture, tmp_path / "missing.png", picture, tmp_path / "text.jpg", "a", picture, picture / 255]
    results = list(estimator.stream(items, keep_pictures=True))
    assert [result.index for result in results] == list(range(len(items)))
    assert [result.poses is not None for result in results] == [True, False, True, False, False, True, False]
    expected = estimator(picture)
    for item, result in zip(items, results, strict=True):
        assert result.source is item
        if result.poses is None:
            assert isinstance(result.error, DataError)
            assert result.picture is None
        else:
            assert result.error is None
            np.testing.assert_array_equal(result.poses.keypoints, expected.keypoints)
            np.testing.assert_array_equal(result.picture, picture)
    assert next(iter(estimator.stream([picture]))).picture is None


def test_a_stream_batches_pictures_of_one_size_and_obeys_the_engine(picture: NDArray[np.uint8]) -> None:
    oracle = knowing(picture, (368, 368), "adjust_network_input", (1.0,), False)
    tall = np.ascontiguousarray(picture.transpose(1, 0, 2))
    oracle.learn(tall, PEOPLE, plan_views((320, 200), (368, 368), "adjust_network_input", 8)[0])
    estimator = PoseEstimator(oracle)
    results = list(estimator.stream([picture, tall] * 4, batch=4))
    assert oracle.batches == [4, 4]
    assert [result.poses.image_size for result in results if result.poses] == [SHAPE, SHAPE[::-1]] * 4
    oracle.batches.clear()
    oracle.max_batch = 3
    list(estimator.stream([picture] * 7, batch=8))
    assert oracle.batches == [3, 3, 1]


def test_batches_do_not_change_what_a_network_says(tiny_model: Path, picture: NDArray[np.uint8]) -> None:
    engine = load_engine(tiny_model, device="cpu")
    images = np.stack([picture[:192, :160], picture[8:, 160:]])
    together = engine.run(images)
    assert isinstance(together, Maps)
    for number, image in enumerate(images):
        alone = engine.run(image[None])
        assert isinstance(alone, Maps)
        np.testing.assert_allclose(alone.heatmaps[0], together.heatmaps[number], atol=1e-5)
        np.testing.assert_allclose(alone.pafs[0], together.pafs[number], atol=1e-5)


def test_what_the_spec_does_not_say_comes_from_the_model() -> None:
    oracle = Oracle()
    decoder = DecoderSettings(heatmap_threshold=0.3, paf_threshold=0.2, min_joints=5)
    oracle.info = replace(oracle.info, input_size=(288, 384), fit_mode="pad_image_input", decoder=decoder)
    silent = PoseEstimator.from_spec(oracle, InferenceSpec())
    assert (silent.input_size, silent.fit_mode, silent.settings, silent.scales) == (
        (288, 384),
        "pad_image_input",
        decoder,
        (1.0,),
    )
    spec = InferenceSpec(
        input_shape=(368, 368), keep_aspect_ratio_mode=None, heatmap_threshold=0.4,
        multi_scale_inference=True, scales=(1.5, 0.5),
    )  # fmt: skip
    said = PoseEstimator.from_spec(oracle, spec)
    assert (said.input_size, said.fit_mode, said.scales) == ((368, 368), "stretch", (0.5, 1.5))
    assert said.settings == replace(decoder, heatmap_threshold=0.4)
    weak = PoseEstimator.from_spec(oracle, InferenceSpec(weak_heatmap_threshold=0.03))
    assert weak.settings == replace(decoder, weak_heatmap_threshold=0.03)
    oracle.info = replace(oracle.info, decoder=weak.settings)
    assert PoseEstimator.from_spec(oracle, InferenceSpec(weak_heatmap_threshold=False)).settings == decoder


def test_scales_are_the_models_own_unless_something_else_is_said() -> None:
    oracle = Oracle()
    assert PoseEstimator(oracle).scales == (1.0,)
    oracle.info = replace(oracle.info, scales=(1.0, 0.5))
    assert PoseEstimator(oracle).scales == PoseEstimator.from_spec(oracle, InferenceSpec()).scales == (0.5, 1.0)
    assert PoseEstimator(oracle, scales=(1.0,)).scales == (1.0,)
    assert PoseEstimator.from_spec(oracle, InferenceSpec(multi_scale_inference=False)).scales == (1.0,)
    several = InferenceSpec(multi_scale_inference=True, scales=(1.0, 2.0))
    assert PoseEstimator.from_spec(oracle, several).scales == (1.0, 2.0)
    assert PoseEstimator.from_spec(oracle, several, scales=(0.75,)).scales == (0.75,)
    assert PoseEstimator.from_spec(oracle, several, scales=None).scales == (1.0, 2.0)


def test_thresholds_are_honoured(picture: NDArray[np.uint8]) -> None:
    """Quirk of the original: it read them and went on with 0.1 and 0.05."""
    oracle = knowing(picture, (368, 368), "adjust_network_input", (1.0,), False)
    assert len(PoseEstimator.from_spec(oracle, InferenceSpec(heatmap_threshold=0.1))(picture)) == 2
    assert len(PoseEstimator.from_spec(oracle, InferenceSpec(heatmap_threshold=1.1))(picture)) == 0
    assert len(PoseEstimator.from_spec(oracle, InferenceSpec(paf_threshold=2.0))(picture)) == 0


def test_what_a_fixed_size_rules_out_is_switched_off_aloud(
    picture: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    oracle = knowing(picture, (288, 384), "pad_image_input", (1.0,), False)
    oracle.fixed_size = (288, 384)
    with caplog.at_level(logging.WARNING, "limbnet"):
        estimator = PoseEstimator(
            oracle, input_size=(368, 368), fit_mode="adjust_network_input", scales=(0.5, 1.0, 2.0)
        )
    text = " ".join(caplog.messages)
    for words in ("288x384", "368x368 is not used", "padded", "multi-scale inference is switched off"):
        assert words in text
    assert len(estimator(picture)) == 2
    caplog.clear()
    PoseEstimator(oracle, fit_mode="stretch")
    assert not caplog.messages


def test_a_graph_that_decodes_itself_needs_no_maps_but_cannot_average(picture: NDArray[np.uint8]) -> None:
    class Decoded:
        """What an engine with decoding in its graph may return: nothing but people."""

        def __init__(self, maps: Maps) -> None:
            self.maps = maps

        def __len__(self) -> int:
            return len(self.maps)

        def people(self, index, info, settings):
            return self.maps.people(index, info, settings)

    oracle = knowing(picture, (368, 368), "adjust_network_input", (1.0, 2.0), False)
    maps_of = oracle.run
    oracle.run = lambda images: Decoded(maps_of(images))  # type: ignore[method-assign, assignment, return-value]
    assert len(PoseEstimator(oracle)(picture)) == 2
    with pytest.raises(SpecError, match=r"decodes inside its graph(.|\n)*--decode none"):
        PoseEstimator(oracle, scales=(1.0, 2.0))(picture)


def test_pictures_from_one_pixel_to_very_long_ones(tiny_model: Path, caplog: pytest.LogCaptureFixture) -> None:
    estimator = limbnet.load(tiny_model, device="cpu")
    for shape in ((1, 1), (1, 300), (300, 1), (3, 20_000), (20_000, 3)):
        poses = estimator(np.full((*shape, 3), 127, np.uint8))
        assert poses.image_size == shape
    assert "too long" in caplog.text
    assert "1x300 pixels" in caplog.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"input_size": (100, 96)}, r"100x96.*multiple of the stride 8(.|\n)*104x96|96x96"),
        ({"scales": (0.0, 1.0)}, "scales holds 0"),
        ({"scales": (1.0, float("nan"))}, "scales holds nan"),
        ({"scales": (1.0, 1e9)}, "at most 16"),
        ({"fit_mode": "squeeze"}, "squeeze"),
    ],
)
def test_wrong_options_are_refused(tiny_model: Path, options: dict, words: str) -> None:
    with pytest.raises(SpecError, match=words):
        limbnet.load(tiny_model, device="cpu", **options)


def test_the_map_that_is_drawn_is_the_one_that_is_decoded(picture: NDArray[np.uint8]) -> None:
    oracle = knowing(picture, (368, 368), "pad_image_input", (1.0,), False)
    maps, fit = PoseEstimator(oracle, fit_mode="pad_image_input").maps(picture)
    assert maps.heatmaps.shape == (1, 19, 46, 46)
    assert maps.pafs.shape == (1, 38, 46, 46)
    assert fit.offset == (69, 0)
