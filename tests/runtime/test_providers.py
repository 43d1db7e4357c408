"""What was asked for and is not there is an error, never something else instead."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
from test_onnx_file import BODY_OUTPUTS, tao_file, written

from limbnet.encryption import seal
from limbnet.errors import DeviceError, ModelFileError, UsageError
from limbnet.export.graph import build_graph
from limbnet.models.checkpoint import load_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine_file import EngineHeader, read_engine, write_engine
from limbnet.runtime.load import load_engine
from limbnet.runtime.openvino_engine import openvino_core
from limbnet.runtime.signature import Signature
from limbnet.skeleton import BODY_18

INFO = ModelInfo(BODY_18)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return written(tao_file(BODY_OUTPUTS), tmp_path / "tao.onnx")


@pytest.mark.parametrize(
    ("options", "provider"),
    [({"device": "cuda"}, "CUDAExecutionProvider"), ({"engine": "onnxruntime-tensorrt"}, "TensorrtExecutionProvider")],
)
def test_missing_providers_stop_the_command(path: Path, options, provider: str) -> None:
    if provider in ort.get_available_providers():
        pytest.skip(f"this ONNX Runtime has the {provider}")
    with pytest.raises(DeviceError, match=f"has no {provider}") as error:
        load_engine(path, fallback=lambda: INFO, **options)
    assert "onnxruntime-gpu" in error.value.todo


def test_missing_openvino_devices_stop_the_command(path: Path) -> None:
    if "GPU" in openvino_core().available_devices:
        pytest.skip("OpenVINO has a GPU here")
    with pytest.raises(DeviceError, match=r"OpenVINO has no device 'gpu' here; it has .*cpu"):
        load_engine(path, fallback=lambda: INFO, engine="openvino", device="gpu")


@pytest.mark.parametrize(("engine", "package"), [("onnxruntime", "onnxruntime"), ("openvino", "openvino")])
def test_a_missing_runtime_says_what_to_install(path: Path, monkeypatch, engine: str, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DeviceError, match=f"package '{package}'") as error:
        load_engine(path, fallback=lambda: INFO, engine=engine)
    assert "pip install" in error.value.todo


def test_unknown_engines_are_named(path: Path) -> None:
    with pytest.raises(UsageError, match="Did you mean 'openvino'"):
        load_engine(path, engine="openvno")


def test_a_graph_that_the_runtime_refuses(tmp_path: Path) -> None:
    model = tao_file(BODY_OUTPUTS)
    model.graph.node[0].op_type = "NoSuchOperation"
    broken = written(model, tmp_path / "broken.onnx")
    for engine in ("onnxruntime", "openvino"):
        with pytest.raises(ModelFileError, match="refuses"):
            load_engine(broken, fallback=lambda: INFO, engine=engine)


def header() -> EngineHeader:
    shape = (1, 64, 96, 3)
    return EngineHeader(
        INFO,
        Signature(precision="int8"),
        "tensorrt_rtx",
        "1.2.3",
        ("sm86",),
        (shape, shape, shape),
        "ab",
        "m.onnx",
        "cd",
    )


def test_engine_files_keep_what_they_say(tmp_path: Path) -> None:
    write_engine(tmp_path / "a.engine", header(), b"plan")
    assert read_engine(tmp_path / "a.engine") == (header(), b"plan")
    write_engine(tmp_path / "b.engine", header(), b"plan", "secret")
    assert read_engine(tmp_path / "b.engine", "secret") == (header(), b"plan")


def test_other_engine_files_are_refused(tmp_path: Path, path: Path) -> None:
    (tmp_path / "raw.engine").write_bytes(b"ftrt" + bytes(100))
    with pytest.raises(ModelFileError, match="says nothing about its skeleton") as error:
        load_engine(tmp_path / "raw.engine")
    assert "limbnet convert" in error.value.todo
    write_engine(tmp_path / "cut.engine", header(), b"")
    (tmp_path / "cut.engine").write_bytes((tmp_path / "cut.engine").read_bytes()[:200])
    with pytest.raises(ModelFileError, match="damaged"):
        load_engine(tmp_path / "cut.engine")
    with pytest.raises(ModelFileError, match="an ONNX model, not a TensorRT engine"):
        read_engine(path)
    (tmp_path / "sealed.engine").write_bytes(seal(b"ftrt", "secret"))
    with pytest.raises(ModelFileError, match="says nothing"):
        load_engine(tmp_path / "sealed.engine", key="secret")


SIGNAL_AFTER_ENGINES = """
import os, signal, sys
from limbnet.runtime.load import load_engine
first, second = (load_engine(sys.argv[1], engine="openvino", device="cpu") for _ in range(2))
del first
del second
signal.signal(signal.SIGUSR1, lambda *_: print("handled", flush=True))
os.kill(os.getpid(), signal.SIGUSR1)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_a_signal_after_engines_were_freed_in_their_order_does_not_kill(tiny_model: Path, tmp_path: Path) -> None:
    loaded = load_model(tiny_model)
    model = tmp_path / "model.onnx"
    onnx.save(build_graph(loaded.model, loaded.info, Signature()), model)
    run = subprocess.run(
        [sys.executable, "-c", SIGNAL_AFTER_ENGINES, str(model)], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout.strip()) == (0, "handled"), run.stderr
