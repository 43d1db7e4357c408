"""Files that decode inside their graph, whole: exported, checked, opened by every runtime, converted, refused."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from agreement import disagreements
from crowds import render
from lively import STICK, lively_model
from numpy.typing import NDArray

from limbnet.cli import main
from limbnet.decode.people import People
from limbnet.decode.settings import DecoderSettings
from limbnet.errors import ModelFileError, SpecError, UsageError
from limbnet.export.cache import write_cache
from limbnet.export.check import agreement, check_decoding, compare
from limbnet.export.converting import ConvertSettings, convert_file, with_precision
from limbnet.export.decoder_graph import decoding_network, maps_network
from limbnet.export.exporting import ExportReport, ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.export.tensorrt_build import Profile, build_engine
from limbnet.models.checkpoint import save_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.candidates import PeakTables
from limbnet.runtime.engine import Engine, Maps
from limbnet.runtime.load import load_engine
from limbnet.runtime.onnx_file import OnnxNetwork, read_onnx
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.signature import Precision
from limbnet.runtime.torch_engine import TorchEngine
from limbnet.specs.inference import InferenceSpec

#: Few joints make a person, so that random maps are full of them.
EASY = DecoderSettings(min_joints=2, min_score=0.0, limb_samples_needed=6)

PRECISIONS: tuple[Precision, ...] = ("fp32", "int8")


@pytest.fixture(scope="module")
def easy_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("easy") / "model.tlt"
    save_model(path, lively_model(), ModelInfo(STICK, input_size=(64, 96), decoder=EASY))
    return path


@pytest.fixture(scope="module")
def reports(easy_checkpoint: Path, image_dir: Path) -> dict[str, ExportReport]:
    """What the exporter says about a file of each precision; the file is the report's `output`."""
    found = {}
    for precision in PRECISIONS:
        settings = ExportSettings(precision=precision, decode="peaks", max_peaks=24, threads=1)
        calibration = Calibration(image_dir=image_dir, batches=4)
        path = easy_checkpoint.with_name(f"{precision}.onnx")
        _, found[precision] = export_file(easy_checkpoint, path, settings, calibration=calibration)
    return found


@pytest.fixture(params=PRECISIONS)
def exported(request: pytest.FixtureRequest, reports: dict[str, ExportReport]) -> Path:
    """A file that decodes."""
    return reports[request.param].output


@pytest.fixture
def int8_file(reports: dict[str, ExportReport]) -> Path:
    return reports["int8"].output


def people_of(engine: Engine, pictures: NDArray[np.uint8], index: int) -> People:
    return engine.run(pictures).people(index, engine.info, engine.info.decoder)


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "openvino-throughput"])
def test_every_runtime_finds_the_hosts_people(exported: Path, pictures: NDArray[np.uint8], runtime: str) -> None:
    network = read_onnx(exported)
    assert (network.signature.decode, network.info.decoder) == ("peaks", replace(EASY, max_peaks=24))
    engine = load_engine(exported, engine=runtime, threads=2)
    output = engine.run(pictures)
    assert isinstance(output, PeakTables)
    assert output.peaks.shape == (4, 4, 24, 4)
    assert output.limb_scores.shape == (4, 3, 24, 24)
    plain = exported.with_name("plain.onnx")
    plain.write_bytes(maps_network(network).model.SerializeToString())
    maps = load_engine(plain, engine=runtime, threads=2).run(pictures)
    assert isinstance(maps, Maps)
    found = [
        agreement(maps, n, people_of(engine, pictures, n), engine.info, network.signature.precision) for n in range(4)
    ]
    assert "different" not in found
    assert found.count("same") >= 3
    assert sum(len(people_of(engine, pictures, n)) for n in range(4)) > 8


def test_float_files_find_torchs_people(reports: dict[str, ExportReport], pictures: NDArray[np.uint8]) -> None:
    report = reports["fp32"]
    assert [set((one.decoded or {}).values()) for one in report.deviations] == [{"same"}, {"same"}]
    assert {one.engine for one in report.deviations} == {"onnxruntime fp32", "openvino fp32"}
    assert "the host's people in 8 of 8 pictures" in str(report.deviations[0])
    written = json.loads(report.path.read_text())
    assert list(written["deviations"][0]["decoded"].values()) == ["same"] * 8
    reference = TorchEngine(lively_model(), ModelInfo(STICK, decoder=EASY))
    engine = load_engine(report.output, threads=1)
    for index in range(4):
        expected = people_of(reference, pictures, index)
        assert not disagreements(expected, people_of(engine, pictures, index), 0.05)


def test_tensorrt_rtx_builds_them(exported: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    network = read_onnx(exported)
    profile = Profile.strict(network.signature, (64, 96), 1, 3)
    header, plan = build_engine(network, profile, architectures=["sm86"])
    assert header.signature.decode == "peaks"
    assert len(plan) > 10_000


def test_openvino_files_keep_decoding(int8_file: Path, pictures: NDArray[np.uint8], tmp_path: Path) -> None:
    convert_file(int8_file, ConvertSettings(tmp_path / "a.xml"))
    engine = load_engine(tmp_path / "a.xml", threads=1)
    assert (engine.decode, load_engine(int8_file, threads=1).decode) == ("peaks", "peaks")
    for index in range(2):
        expected = people_of(load_engine(int8_file, engine="openvino", threads=1), pictures, index)
        assert not disagreements(expected, people_of(engine, pictures, index), 0.05)
    with pytest.raises(UsageError, match="no output 'heatmap_out'"):
        convert_file(int8_file, ConvertSettings(tmp_path / "b.xml", outputs=("heatmap_out", "peaks")))


def test_a_float_file_becomes_int8_or_half_and_decodes_on(network: OnnxNetwork, ranges, tmp_path: Path) -> None:
    decoding = decoding_network(network)
    write_cache(tmp_path / "cal.bin", ranges, "minmax", network.model_hash)
    for precision in ("int8", "fp16"):
        changed = with_precision(decoding, precision, tmp_path / "cal.bin")
        assert (changed.signature.decode, changed.signature.precision) == ("peaks", precision)
        part = [node for node in changed.model.graph.node if node.name.startswith("decode/")]
        before = [node for node in decoding.model.graph.node if node.name.startswith("decode/")]
        assert part == before
        assert not {node.op_type for node in part} & {"QuantizeLinear", "DequantizeLinear"}


def test_a_graph_that_cannot_complete_people_or_average_scales_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, weak = tmp_path / "model.tlt", replace(EASY, weak_heatmap_threshold=0.03)
    save_model(path, lively_model(), ModelInfo(STICK, input_size=(64, 96), decoder=weak, scales=(0.5, 1.0)))
    for decode, built_in, scales in (("none", 0.03, (0.5, 1.0)), ("peaks", None, (1.0,))):
        caplog.clear()
        export_file(path, tmp_path / f"{decode}.onnx", ExportSettings(decode=decode, threads=1))
        info = load_engine(tmp_path / f"{decode}.onnx").info
        assert (info.decoder.weak_heatmap_threshold, info.scales) == (built_in, scales)
        assert ("fewer joints" in caplog.text) == ("sees scale 1 alone" in caplog.text) == (decode == "peaks")


def test_what_such_a_file_cannot_do(int8_file: Path) -> None:
    engine = load_engine(int8_file, threads=1)
    for wish in ({"flip": True}, {"scales": (0.5, 1.0)}):
        with pytest.raises(SpecError, match="decodes inside its graph: maps of several scales") as error:
            PoseEstimator(engine, **wish)
        assert "--decode none" in error.value.todo
    with pytest.raises(SpecError, match=r"cannot change paf_threshold 0\.2 \(built in: 0\.05\)"):
        PoseEstimator.from_spec(engine, InferenceSpec(paf_threshold=0.2))
    with pytest.raises(SpecError, match=r"cannot change weak_heatmap_threshold 0\.03 \(built in: None\)"):
        PoseEstimator.from_spec(engine, InferenceSpec(weak_heatmap_threshold=0.03))
    with pytest.raises(SpecError, match="cannot change heatmap_threshold"):
        PoseEstimator.from_spec(engine, InferenceSpec(heatmap_threshold=0.05))
    with pytest.raises(SpecError, match="there are no maps"):
        PoseEstimator(engine).maps(np.zeros((64, 96, 3), np.uint8))
    stricter = PoseEstimator.from_spec(engine, InferenceSpec(heatmap_threshold=0.4))
    assert stricter.settings.heatmap_threshold == 0.4


def test_commands_need_no_flag(
    int8_file: Path, image_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Streams, batches and every stage of a profile, through the command line."""
    results = tmp_path / "results"
    words = ["inference", "-m", str(int8_file), "--input", str(image_dir), "-r", str(results), "--device", "cpu"]
    assert main([*words, "-l", "warning"]) == 0
    entries = json.loads((results / "detections.json").read_text())["images"]
    assert sum(len(entry["keypoints"]) for entry in entries) > 20
    words = ["profile", str(int8_file), "--engine", "openvino-throughput", "--sizes", "64x96", "--batch", "2"]
    words += ["--rounds", "2", "--seconds", "0", "--people", "1", "-r", str(results), "--json"]
    assert main([*words, "-l", "warning"]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["stages_ms"]["decode"]["p50"] < row["stages_ms"]["end to end"]["p50"]


def test_more_peaks_than_the_cap_are_a_warning(
    network: OnnxNetwork, pictures: NDArray[np.uint8], caplog: pytest.LogCaptureFixture
) -> None:
    info = replace(network.info, decoder=replace(EASY, max_peaks=2))
    estimator = PoseEstimator(OnnxRuntimeEngine(decoding_network(replace(network, info=info)), threads=1))
    with caplog.at_level(logging.WARNING):
        estimator(pictures[0])
    assert "max_peaks = 2" in caplog.text


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (ExportSettings(decode="peaks", sdk_compatible=True), "returns maps, which they decode"),
        (ExportSettings(max_peaks=8), "built into files that decode only"),
    ],
)
def test_contradictions(easy_checkpoint: Path, tmp_path: Path, settings: ExportSettings, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        export_file(easy_checkpoint, tmp_path / "a.onnx", settings)
    assert not (tmp_path / "a.onnx").exists()


class Nudged:
    """An engine whose peaks lie a pixel off."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.info, self.name = engine, engine.info, engine.name

    def run(self, images: NDArray[np.uint8]) -> PeakTables:
        tables = self.engine.run(images)
        assert isinstance(tables, PeakTables)
        return replace(tables, peaks=tables.peaks + np.float32([1, 0, 0, 0]) * (tables.peaks[..., 3:] > 0))


def test_a_file_that_finds_others_is_refused(network: OnnxNetwork, pictures: NDArray[np.uint8]) -> None:
    network = replace(network, info=replace(network.info, decoder=EASY))
    engine, decoder = (OnnxRuntimeEngine(one, threads=1) for one in (network, decoding_network(network)))
    reference = TorchEngine(lively_model(), network.info)
    named = [(f"{number}.jpg", picture) for number, picture in enumerate(pictures)]
    good = compare(reference, engine, named, decoder=decoder)
    assert set((good.decoded or {}).values()) == {"same"}
    check_decoding(good)
    bad = compare(reference, engine, named, decoder=Nudged(decoder))  # type: ignore[arg-type]
    assert "different" in (bad.decoded or {}).values()
    with pytest.raises(ModelFileError, match="other people on onnxruntime fp32 than the host's decoder"):
        check_decoding(bad)


@pytest.mark.parametrize(("value", "says"), [(0.1 * (1 + 1e-6), "tie"), (0.3, "different")])
def test_a_tie_is_no_mistake(value: float, says: str) -> None:
    """A hand is missing whose peak lies just above the threshold, or well above it."""
    info = ModelInfo(STICK, decoder=EASY)
    joints = np.array([[(60.3, 28.9), (61.2, 60.1), (90.7, 60.3), (np.nan, np.nan)]])
    heatmaps, pafs = render(joints, STICK, (16, 16))
    peak = Maps(heatmaps[None], pafs[None]).people(0, info, EASY).joint_scores[0, 2]
    heatmaps[2] *= np.float32(value / peak)
    maps = Maps(heatmaps[None], pafs[None])
    found = maps.people(0, info, EASY)
    assert np.isfinite(found.keypoints[0, 2]).all()
    assert agreement(maps, 0, found, info) == "same"
    found.keypoints[0, 2] = np.nan
    assert agreement(maps, 0, found, info) == says
