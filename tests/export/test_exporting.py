"""`limbnet export` end to end on a small network: what is written, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from lively import SIZE, lively_model

from limbnet.cli import main
from limbnet.errors import DataError, ModelFileError, SpecError, UsageError
from limbnet.export import exporting
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.models.checkpoint import save_model
from limbnet.runtime.load import load_engine
from limbnet.runtime.onnx_file import read_onnx
from limbnet.runtime.torch_engine import TorchEngine


def test_int8_command_end_to_end(
    checkpoint: Path, image_dir: Path, pictures, tmp_path: Path, capsys, monkeypatch
) -> None:
    """The manual's INT8 line: cache, tensor file, engine files, report; then a second export that skips calibration."""
    monkeypatch.chdir(tmp_path)
    line = [
        "export", "-m", str(checkpoint), "-o", "int8.etlt", "-k", "secret", "-d", "64,96,3", "-t", "tfonnx",
        "--data_type", "int8", "--cal_image_dir", str(image_dir), "--cal_cache_file", "cal.bin",
        "--cal_data_file", "cal.tensorfile", "--batch_size", "2", "--batches", "3", "--max_batch_size", "1",
        "--data_format", "channels_last", "--engine_file", "model.xml", "--verbose", "-s", "--force_ptq",
        "--sensitivity",
    ]  # fmt: skip
    assert main(line) == 0
    printed = capsys.readouterr()
    assert "% of the multiply-adds in INT8" in printed.out
    assert "stage1/conv1: mean deviation" in printed.out
    assert "Written: int8.etlt" in printed.out
    assert "skipped" not in printed.err
    names = {path.name for path in Path().iterdir()}
    assert {"cal.bin", "cal.bin.pictures.txt", "cal.tensorfile", "int8.etlt", "int8.etlt.report.json"} <= names
    assert {"model.xml", "model.bin"} <= names
    assert len(Path("cal.bin.pictures.txt").read_text().splitlines()) == 6
    report = json.loads(Path("int8.etlt.report.json").read_text())
    assert report["calibration"] == {"source": "tensor file", "algorithm": "percentile", "pictures": 6}
    assert len(report["sensitivity"]) == 28  # one line for each convolution
    assert all(share["share"] > 0.9 for share in report["int8_shares"])
    assert {one["engine"] for one in report["deviations"]} == {"onnxruntime int8", "openvino int8"}
    with pytest.raises(ModelFileError, match=r"(?i)key"):
        load_engine("int8.etlt", key="wrong")
    engine = load_engine("int8.etlt", key="secret", threads=1)
    assert (engine.name, engine.info.input_size) == ("onnxruntime int8", SIZE)
    assert engine.info.extra["int8"]["algorithm"] == "percentile"
    openvino = load_engine("model.xml", key="secret", threads=1)
    assert openvino.name == "openvino int8"
    near = np.abs(engine.run(pictures).heatmaps - openvino.run(pictures).heatmaps).mean()
    assert near < 5e-3 * np.ptp(engine.run(pictures).heatmaps)

    before, graph = Path("cal.bin").read_bytes(), read_onnx("int8.etlt", "secret").model.graph.SerializeToString()
    assert main([*line[:-1], "--overwrite"]) == 0
    assert "Calibration is skipped" in capsys.readouterr().err
    assert Path("cal.bin").read_bytes() == before
    assert read_onnx("int8.etlt", "secret").model.graph.SerializeToString() == graph


def test_float_command_writes_beside_the_model(checkpoint: Path, pictures, info, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.tlt").write_bytes(checkpoint.read_bytes())
    assert main(["export", "-m", "m.tlt", "--data_type", "fp16", "--input_type", "float32"]) == 0
    engine = load_engine("m.tlt.etlt", threads=1)
    expected = TorchEngine(lively_model(), info).run(pictures)
    np.testing.assert_allclose(engine.run(pictures).heatmaps, expected.heatmaps, atol=2e-2 * np.ptp(expected.heatmaps))
    report = json.loads(Path("m.tlt.etlt.report.json").read_text())
    assert report["deviations"][0]["pictures"] == 8  # the examples
    assert main(["export", "-m", "m.tlt"]) == 2  # it exists, and --overwrite was not given


INT8 = ExportSettings(precision="int8", threads=1)


def few_pictures(folder: Path, image_dir: Path, count: int) -> Path:
    folder.mkdir()
    for path in sorted(image_dir.iterdir())[:count]:
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def refuse(error, match: str, checkpoint: Path, output: Path, settings: ExportSettings, **options) -> None:
    with pytest.raises(error, match=match) as raised:
        export_file(checkpoint, output, settings, **options)
    assert raised.value.todo
    assert not output.exists()
    assert not output.with_name(output.name + ".report.json").exists()


def test_bad_input_before_any_work(checkpoint: Path, image_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    refuse(SpecError, "no multiple of the stride 8", checkpoint, output, ExportSettings(size=(60, 96)))
    refuse(
        DataError, "There is no folder", checkpoint, output, INT8, calibration=Calibration(image_dir=tmp_path / "no")
    )
    assert main(["export", "-m", str(tmp_path / "none.tlt"), "-o", str(output)]) == 1
    assert main(["export", "-m", str(checkpoint), "-o", str(output), "--max_ap_drop", "0.01"]) == 2
    assert main(["export", "-m", str(checkpoint), "-o", str(output), "--data_type", "int4"]) == 2
    for percentile in ("0", "150", "nan"):
        assert main(["export", "-m", str(checkpoint), "-o", str(output), "--percentile", percentile]) == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--gpu_arch", "sm35"], "builds for no GPU architecture 'sm35'"),
        (["--gpu_arch", "sm86", "--opt_batch_size", "4"], "Use --max_batch_size 4"),
    ],
)
def test_an_engine_that_cannot_be_built_stops_the_export_before_it_begins(
    words: list[str], says: str, checkpoint: Path, image_dir: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx-cu12 is not installed: pip install limbnet[tensorrt]")
    monkeypatch.chdir(tmp_path)
    line = ["export", "-m", str(checkpoint), "-o", "o.onnx", "--data_type", "int8", "--engine_file", "o.engine"]
    assert main([*line, "--cal_image_dir", str(image_dir), *words]) != 0
    assert says in capsys.readouterr().err
    assert not [path for path in tmp_path.iterdir() if path.name != "results"]


def test_bad_calibration(checkpoint: Path, image_dir: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.onnx"
    folder = few_pictures(tmp_path / "few", image_dir, 3)
    (folder / "broken.JPG").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "empty.png").touch()

    def calibration(**options) -> Calibration:
        return Calibration(image_dir=folder, **options)

    refuse(DataError, "needs 6 pictures .* holds 5", checkpoint, output, INT8, calibration=calibration(batches=6))
    refuse(
        DataError,
        "(?s)cannot be read.*(broken.JPG|empty.png)",
        checkpoint,
        output,
        INT8,
        calibration=calibration(batches=5),
    )
    good = few_pictures(tmp_path / "good", image_dir, 3)
    for layers, says in ((("stage1/conv99",), "no layer 'stage1/conv99'"),):
        settings = replace(INT8, float_layers=layers)
        refuse(SpecError, says, checkpoint, output, settings, calibration=Calibration(image_dir=good, batches=2))
    cache = tmp_path / "cal.bin"
    cache.write_text(f"TRT-limbnet-EntropyCalibration2\nlimbnet.model.{'00' * 32}: 3f800000\n")
    refuse(
        DataError,
        "belongs to another model",
        checkpoint,
        output,
        INT8,
        calibration=Calibration(cache_file=cache, image_dir=good),
    )


def test_int8_without_a_source_says_what_to_give(checkpoint: Path, tmp_path: Path) -> None:
    refuse(UsageError, "INT8 needs to see", checkpoint, tmp_path / "out.onnx", INT8)


def test_without_pictures_nothing_is_exported(checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(exporting, "__file__", str(tmp_path / "a" / "b" / "c" / "d.py"))  # an installed wheel
    refuse(UsageError, "compared with the model on real pictures", checkpoint, tmp_path / "out.onnx", ExportSettings())


def test_a_network_that_leaves_float16_is_refused(info, tmp_path: Path) -> None:
    model = lively_model(5)
    model["stage1/conv1"].weight.data *= 1e5  # its values leave float16, its weights do not
    model["stage1/conv2"].weight.data *= 1e-5
    save_model(tmp_path / "wide.tlt", model, info)
    refuse(
        ModelFileError,
        r"range of float16 \(up to 65504\) behind 'stage1/conv1' ",
        tmp_path / "wide.tlt",
        tmp_path / "o.onnx",
        ExportSettings(precision="fp16"),
    )


def test_pictures_for_the_check_come_from_the_tensor_file(info, image_dir: Path, tmp_path: Path) -> None:
    from limbnet.data.calibration import choose_pictures, write_tensor_file

    chosen = choose_pictures(image_dir, 3, 1, SIZE, info)
    write_tensor_file(tmp_path / "t.h5", chosen)
    named = exporting.check_pictures(Calibration(data_file=tmp_path / "t.h5"), SIZE, info)
    assert [name for name, _ in named] == ["t.h5[0]", "t.h5[1]", "t.h5[2]"]
    np.testing.assert_array_equal(named[1][1], chosen.images(1, 2)[0])
    assert cv2.Laplacian(named[1][1], cv2.CV_64F).std() > 1  # a real picture
