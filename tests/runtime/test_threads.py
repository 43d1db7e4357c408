"""One default of CPU threads for every runtime: what was asked for, OMP_NUM_THREADS, or the cores that may be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limbnet import devices
from limbnet.devices import cpu_threads
from limbnet.export.graph import build_graph
from limbnet.models.checkpoint import load_model
from limbnet.runtime.load import load_engine
from limbnet.runtime.onnx_file import OnnxNetwork, network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.openvino_engine import from_network
from limbnet.runtime.predictor import PoseEstimator
from limbnet.runtime.signature import Signature


@pytest.fixture(scope="module")
def network(tiny_model: Path) -> OnnxNetwork:
    loaded = load_model(tiny_model)
    return network_of(build_graph(loaded.model, loaded.info, Signature()), Path("network.onnx"))


@pytest.mark.parametrize(
    ("asked", "variable", "cores", "processes", "expected"),
    [
        (3, "7", 64, 1, 3),
        (None, "7", 64, 1, 7),
        (None, "", 64, 1, 64),
        (None, "two", 2, 1, 2),
        (None, "", 8, 2, 4),
        (None, "", 1, 2, 1),
    ],
)
def test_how_many_threads(
    asked: int | None, variable: str, cores: int, processes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", variable)
    monkeypatch.setattr(devices, "available_cores", lambda: cores)
    assert cpu_threads(asked, processes) == expected


@pytest.mark.parametrize(("asked", "expected"), [(None, 1), (2, 2)])
def test_every_runtime_takes_as_many(
    tiny_model: Path, network: OnnxNetwork, asked: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    session = OnnxRuntimeEngine(network, threads=asked)._session
    assert session.get_session_options().intra_op_num_threads == expected
    assert from_network(network, threads=asked).compiled.get_property("INFERENCE_NUM_THREADS") == expected
    before = torch.get_num_threads()
    try:
        load_engine(tiny_model, device="cpu", threads=asked)
        assert torch.get_num_threads() == expected
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "loaders"), [(1, 1), (2, 2), (8, 5), (64, 8)])
def test_loaders_follow_the_cores_that_may_be_used(
    tiny_model: Path, cores: int, loaders: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = load_engine(tiny_model, device="cpu", threads=1)
    monkeypatch.setattr("limbnet.runtime.predictor.available_cores", lambda: cores)
    assert PoseEstimator(engine).loaders == loaders
