"""`limbnet convert`: the manual's lines, TensorRT-RTX ahead of time for real, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lively import SIZE, lively_model

from limbnet.cli import main
from limbnet.commands.flags import byte_count
from limbnet.encryption import seal
from limbnet.errors import DataError, DeviceError, ModelFileError, SpecError, UsageError
from limbnet.export.cache import write_cache
from limbnet.export.converting import ConvertSettings, convert_file, with_precision
from limbnet.export.graph import build_graph
from limbnet.export.tensorrt_build import Profile, build_engine
from limbnet.files import write_bytes
from limbnet.runtime.engine_file import check_runs_here, check_source, read_engine
from limbnet.runtime.load import load_engine
from limbnet.runtime.onnx_file import network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.signature import Signature

trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu12 is not installed: pip install limbnet[tensorrt]")


@pytest.fixture
def float_file(network, tmp_path: Path) -> Path:
    write_bytes(tmp_path / "float.onnx", network.model.SerializeToString())
    return tmp_path / "float.onnx"


@pytest.fixture
def cache_file(network, ranges, tmp_path: Path) -> Path:
    write_cache(tmp_path / "cal.bin", ranges, "minmax", network.model_hash)
    return tmp_path / "cal.bin"


def test_manuals_line_builds_an_int8_engine(float_file: Path, cache_file: Path, network, tmp_path: Path) -> None:
    engine = tmp_path / "model.int8.engine"
    line = [
        "convert", str(float_file), "-k", "secret", "-t", "int8", "-c", str(cache_file), "-e", str(engine),
        "-p", "input_1:0,1x64x96x3,1x64x96x3,2x64x96x3", "-w", "1<<30", "-b", "8", "-m", "16", "-i", "nhwc",
        "-o", "heatmap_out,paf_out", "-s", "--gpu_arch", "sm86", "sm120",
    ]  # fmt: skip
    assert main(line) == 0
    header, plan = read_engine(engine, "secret")
    assert header.architectures == ("sm86", "sm120")
    assert header.shapes == ((1, 64, 96, 3), (1, 64, 96, 3), (2, 64, 96, 3))
    assert (header.signature.precision, header.flavour) == ("int8", "tensorrt_rtx")
    assert header.library_version == trt.__version__
    assert header.model_hash == network.model_hash
    assert len(plan) > 10_000
    with pytest.raises(ModelFileError, match=r"(?i)key"):
        read_engine(engine, "wrong")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_every_precision_is_accepted_by_the_builder(network, int8_network, precision: str) -> None:
    given = int8_network if precision == "int8" else with_precision(network, precision, None)
    header, plan = build_engine(given, Profile.strict(given.signature, SIZE, 1, 4), architectures=["sm89"])
    assert header.signature.precision == precision
    assert len(plan) > 10_000


def test_engines_of_another_machine_are_refused_with_the_rebuilding_command(network, tmp_path: Path) -> None:
    header, _ = build_engine(network, Profile.strict(network.signature, SIZE, 1, 1), architectures=["sm86"])
    check_runs_here(header, tmp_path / "a.engine", header.library_version, "sm86")
    with pytest.raises(DeviceError, match="built for sm86, this GPU is sm75") as error:
        check_runs_here(header, tmp_path / "a.engine", header.library_version, "sm75")
    assert "limbnet convert network.onnx -e" in error.value.todo
    assert "-p input_1:0,1x64x96x3,1x64x96x3,1x64x96x3 --gpu_arch sm75 --overwrite" in error.value.todo
    with pytest.raises(DeviceError, match=r"built by tensorrt_rtx .*, installed is 9\.9"):
        check_runs_here(header, tmp_path / "a.engine", "9.9", "sm86")


def test_an_engine_without_a_gpu_says_what_to_run_instead(float_file: Path, tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    convert_file(float_file, ConvertSettings(tmp_path / "a.engine", architectures=("sm86",)))
    with pytest.raises(DeviceError, match="none here") as error:
        load_engine(tmp_path / "a.engine")
    assert "--engine onnxruntime" in error.value.todo
    with pytest.raises(DeviceError, match="no NVIDIA GPU here to build") as error:
        convert_file(float_file, ConvertSettings(tmp_path / "b.engine"))
    assert "--gpu_arch" in error.value.todo
    assert not (tmp_path / "b.engine").exists()


def test_an_engine_of_a_network_that_was_exported_anew_is_refused(float_file: Path, info, tmp_path: Path) -> None:
    engine = tmp_path / "a.engine"
    convert_file(float_file, ConvertSettings(engine, architectures=("sm86", "sm89")))
    header, _ = read_engine(engine)
    check_source(header, engine)
    other = build_graph(lively_model(7), info, Signature())
    write_bytes(float_file, other.SerializeToString())
    with pytest.raises(ModelFileError, match="built from another network") as error:
        load_engine(engine)
    assert f"limbnet convert {float_file} -e {engine} -t fp32" in error.value.todo
    assert error.value.todo.endswith("--gpu_arch sm86 sm89 --overwrite")
    float_file.unlink()  # nothing to compare with, as on the device that the engine was copied to
    check_source(header, engine)


@pytest.mark.gpu
def test_an_engine_runs_on_the_gpu(network, pictures, tmp_path: Path) -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    from limbnet.export.engines import EngineRequest, write_engine_file

    write_engine_file(network, EngineRequest(tmp_path / "a.engine", max_batch=4), SIZE)
    expected = OnnxRuntimeEngine(network, threads=1).run(pictures)
    found = load_engine(tmp_path / "a.engine").run(pictures)
    np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=2e-3 * np.ptp(expected.heatmaps))


def test_openvino_files_run(float_file: Path, network, pictures, tmp_path: Path) -> None:
    convert_file(float_file, ConvertSettings(tmp_path / "model.xml"))
    expected = OnnxRuntimeEngine(network, threads=1).run(pictures)
    for name in ("openvino", "openvino-throughput"):
        found = load_engine(tmp_path / "model.xml", engine=name, threads=2).run(pictures)
        np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=1e-4 * np.ptp(expected.heatmaps))
        np.testing.assert_allclose(found.pafs, expected.pafs, atol=1e-4 * np.ptp(expected.pafs))


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"precision": "int8"}, UsageError, "needs the scales of a calibration cache"),
        ({"outputs": ("heatmap_out", "pafout")}, UsageError, "no output 'pafout'. Did you mean 'paf_out'"),
        ({"dims": "288,384"}, UsageError, "no size of pictures"),
        ({"dims": "3,64,96", "order": "nhwc"}, UsageError, "no size of pictures"),
        ({"dims": "64,100,3"}, SpecError, "no multiple of the stride 8"),
        ({"profile": "input_1:0,1x64x96x3"}, UsageError, "is not like"),
        ({"profile": "input:0,1x64x96x3,1x64x96x3,1x64x96x3"}, UsageError, "network's input is 'input_1:0'"),
        ({"profile": "input_1:0,1x3x64x96,1x3x64x96,1x3x64x96"}, UsageError, "no shape of channels_last pictures"),
        ({"profile": "input_1:0,1x60x96x3,1x64x96x3,1x64x96x3"}, SpecError, "no multiple of the stride 8"),
        ({"profile": "input_1:0,2x64x96x3,1x64x96x3,2x64x96x3"}, UsageError, "must not shrink"),
        ({"architectures": ("sm35",)}, DeviceError, "for no GPU architecture 'sm35'"),
    ],
)
def test_bad_input(float_file: Path, tmp_path: Path, options, error, says: str) -> None:
    target = tmp_path / "bad.engine"
    settings = ConvertSettings(target, **{"architectures": ("sm86",), **options})
    with pytest.raises(error, match=says):
        convert_file(float_file, settings)
    assert not target.exists()


def test_another_models_cache_is_refused(float_file: Path, ranges, tmp_path: Path) -> None:
    write_cache(tmp_path / "other.bin", ranges, "minmax", "00" * 32)
    with pytest.raises(DataError, match="belongs to another model"):
        convert_file(float_file, ConvertSettings(tmp_path / "x.xml", "int8", tmp_path / "other.bin"))


def test_a_cache_serves_every_layout(model, info, network, cache_file: Path, pictures) -> None:
    """The manual's SDK export, TAO's float input and the channels' order change nothing that was calibrated."""
    expected = OnnxRuntimeEngine(with_precision(network, "int8", cache_file), threads=1).run(pictures)
    for options in ({"data_format": "channels_first"}, {"input_type": "float32"}, {"paf_upsampling": 4}):
        other = network_of(build_graph(model, info, Signature(**options)), Path("other.onnx"))
        found = OnnxRuntimeEngine(with_precision(other, "int8", cache_file), threads=1).run(pictures)
        np.testing.assert_allclose(found.heatmaps, expected.heatmaps, atol=1e-3 * np.ptp(expected.heatmaps))
        np.testing.assert_allclose(found.pafs, expected.pafs, atol=1e-3 * np.ptp(expected.pafs))


def test_half_precision_stays_and_outputs_stay_whole(network, int8_network, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is fp16 and cannot be made int8"):
        with_precision(with_precision(network, "fp16", None), "int8", None)
    assert with_precision(int8_network, "int8", None) is int8_network
    (tmp_path / "x.xml").write_text("mine")
    write_bytes(tmp_path / "i.onnx", int8_network.model.SerializeToString())
    with pytest.raises(UsageError, match="exists"):
        convert_file(tmp_path / "i.onnx", ConvertSettings(tmp_path / "x.xml"))
    assert (tmp_path / "x.xml").read_text() == "mine"


def test_half_precision_of_a_file(network, pictures) -> None:
    half = with_precision(network, "fp16", None)
    expected, found = (OnnxRuntimeEngine(one, threads=1).run(pictures) for one in (network, half))
    difference = np.abs(expected.heatmaps - found.heatmaps).max() / np.ptp(expected.heatmaps)
    assert 1e-6 < difference < 2e-2
    assert len(half.model.SerializeToString()) < 0.6 * len(network.model.SerializeToString())


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_int8_files_become_float_again(network, int8_network, pictures, precision: str, caplog) -> None:
    """The manual exports INT8 and converts that file to FP16: what is lost then are only the weights' last bits."""
    back = with_precision(int8_network, precision, None)
    assert "weights stay rounded to int8" in caplog.text
    operations = {node.op_type for node in back.model.graph.node}
    assert not {"QuantizeLinear", "DequantizeLinear"} & operations
    assert back.signature.precision == precision
    whole, quantised, found = (
        OnnxRuntimeEngine(one, threads=1).run(pictures).heatmaps for one in (network, int8_network, back)
    )
    lost, before = (np.abs(maps - whole).mean() / np.ptp(whole) for maps in (found, quantised))
    assert 1e-6 < lost < before


def test_the_manuals_fp16_line_takes_an_int8_file(int8_network, tmp_path: Path) -> None:
    source, engine = tmp_path / "bpnet_model.deploy.etlt", tmp_path / "bpnet_model.fp16.deploy.engine"
    write_bytes(source, seal(int8_network.model.SerializeToString(), "secret"))
    shape = "1x64x96x3"
    line = ["convert", str(source), "-k", "secret", "-t", "fp16", "-e", str(engine), "-p"]
    assert main([*line, f"input_1:0,{shape},{shape},{shape}", "--gpu_arch", "sm89"]) == 0
    assert read_engine(engine, "secret")[0].signature.precision == "fp16"


def test_workspace_is_read_as_the_manual_writes_it() -> None:
    assert byte_count("1<<30") == byte_count("1073741824") == 2**30
    assert byte_count("(1<<30)") == 2**30
