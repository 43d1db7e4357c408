"""Choosing devices and counting cores; the choice among GPUs is checked with torch's answers replaced."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch

from limbnet import devices
from limbnet.devices import available_cores, choose_device, choose_devices, set_threads
from limbnet.errors import DeviceError, LimbnetError, UsageError


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """Let torch report so many GPUs."""
    count = int(request.param)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Test GPU")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    return count


@pytest.mark.parametrize(
    ("gpus", "device", "number", "index", "expected"),
    [
        (0, None, None, None, ["cpu"]),
        (2, None, None, None, ["cuda:0"]),
        (2, "cpu", None, None, ["cpu"]),
        (0, "cpu", 2, None, ["cpu", "cpu"]),
        (4, None, 2, None, ["cuda:0", "cuda:1"]),
        (4, None, 2, [3, 1], ["cuda:3", "cuda:1"]),
        (4, "cuda", None, [3], ["cuda:3"]),
        (4, "cuda:2", None, None, ["cuda:2"]),
        (4, "CUDA:2", 1, [2], ["cuda:2"]),
        (1, None, 1, None, ["cuda:0"]),
    ],
    indirect=["gpus"],
)
def test_chosen_devices(
    gpus: int, device: str | None, number: int | None, index: list[int] | None, expected: list[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level(logging.INFO):
        assert [str(item) for item in choose_devices(device, number, index)] == expected
    assert "Device: " in caplog.text
    assert all(name in caplog.text for name in expected)


@pytest.mark.parametrize(
    ("gpus", "device", "number", "index", "kind", "message"),
    [
        (0, "cuda", None, None, DeviceError, "A GPU was asked for, but"),
        (0, None, 1, None, DeviceError, "A GPU was asked for, but"),
        (0, None, None, [0], DeviceError, "A GPU was asked for, but"),
        (1, None, 2, None, DeviceError, "GPU 1 was asked for, but this machine has 1"),
        (2, None, None, [1, 5], DeviceError, "GPU 5 was asked for"),
        (2, "cuda:7", None, None, DeviceError, "GPU 7 was asked for"),
        (0, "mps", None, None, DeviceError, "no Metal device"),
        (2, None, 1, [0, 1], UsageError, "disagree"),
        (2, None, None, [1, 1], UsageError, "names a GPU twice"),
        (2, "cuda:1", 2, None, UsageError, "contradicts"),
        (2, "cuda:1", None, [0], UsageError, "contradicts"),
        (2, "cpu", None, [0], UsageError, "--gpu_index was given with --device cpu"),
        (2, "gpu", None, None, UsageError, "There is no device 'gpu'"),
        (2, "cpu:1", None, None, UsageError, "There is no device 'cpu:1'"),
        (2, "cuda:x", None, None, UsageError, "There is no device 'cuda:x'"),
        (2, "", None, None, UsageError, "There is no device ''"),
    ],
    indirect=["gpus"],
)
def test_a_missing_device_is_never_replaced(
    gpus: int, device: str | None, number: int | None, index: list[int] | None, kind: type[LimbnetError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        choose_devices(device, number, index)


def test_a_command_of_one_process_takes_one_device() -> None:
    assert choose_device("cpu").type == "cpu"
    with pytest.raises(UsageError, match="works on one"):
        choose_device(None, 2)


@pytest.mark.gpu
def test_a_real_gpu_is_chosen() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device on this machine")
    assert torch.zeros(1, device=choose_device()).is_cuda


@pytest.mark.parametrize(
    ("files", "quota"),
    [
        ({"cpu.max": "150000 100000\n"}, 1.5),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "400000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.max": "nonsense"}, None),
        ({}, None),
    ],
)
def test_quota_of_the_control_group(tmp_path: Path, files: dict[str, str], quota: float | None) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert devices._group_quota(tmp_path) == quota


def test_cores_are_cut_down_to_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_group_quota", lambda: 0.2)
    assert available_cores() == 1


def test_threads_by_flag_environment_and_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    try:
        monkeypatch.setattr(devices, "available_cores", lambda: 8)
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert set_threads() == torch.get_num_threads() == 3
        assert set_threads(2) == torch.get_num_threads() == 2
        monkeypatch.delenv("OMP_NUM_THREADS")
        assert set_threads() == 8
        assert set_threads(processes=3) == 2
        assert set_threads(processes=20) == 1
    finally:
        torch.set_num_threads(before)
