"""The calibration cache: TensorRT's text layout, keyed to the model."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from limbnet.errors import DataError
from limbnet.export.cache import as_cached, check_cache, read_cache, write_cache

RANGES = {"input_1:0": 0.49609375, "stage1/conv1/relu": 3.25}


def test_layout_is_tensorrts(tmp_path: Path) -> None:
    path = tmp_path / "cal.bin"
    write_cache(path, RANGES, "entropy", "ab" * 32)
    lines = path.read_text().splitlines()
    assert lines[0] == "TRT-limbnet-EntropyCalibration2"
    assert lines[2] == "input_1:0: 3b800000"  # 1/256
    assert lines[3] == f"stage1/conv1/relu: {struct.pack('>f', 3.25 / 127).hex()}"


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cal.bin"
    write_cache(path, RANGES, "minmax", "cd" * 32)
    cache = read_cache(path)
    assert (cache.model_hash, cache.algorithm) == ("cd" * 32, "MinMaxCalibration")
    assert {name: np.float32(limit / 127) for name, limit in cache.ranges.items()} == {
        name: np.float32(limit / 127) for name, limit in RANGES.items()
    }
    check_cache(cache, path, "cd" * 32, RANGES, "minmax")
    check_cache(cache, path, "cd" * 32, RANGES, None)


@given(st.floats(0, 1e6))
def test_cached_ranges_are_a_fixed_point(limit: float) -> None:
    once = as_cached({"a": limit})
    assert as_cached(once) == once
    assert np.float32(once["a"] / 127) == np.float32(limit / 127)


def test_a_cache_of_tensorrt_is_read(tmp_path: Path) -> None:
    path = tmp_path / "cal.bin"
    path.write_text("TRT-7220-EntropyCalibration2\ninput_1:0: 3c010a14\nblock_1a_relu/Relu:0: 3c8121d0\n")
    cache = read_cache(path)
    assert cache.ranges["input_1:0"] == pytest.approx(1.0, abs=1e-3)
    assert cache.model_hash == ""
    check_cache(cache, path, "ef" * 32, ["input_1:0"], "entropy")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("00" * 32, RANGES, None), "belongs to another model"),
        (("cd" * 32, {**RANGES, "stage9/conv1/relu": 1.0}, None), "lacks 1 tensors \\(stage9/conv1/relu\\)"),
        (("cd" * 32, RANGES, "percentile"), "was made by MinMaxCalibration"),
    ],
)
def test_another_models_cache_is_refused(tmp_path: Path, arguments, says: str) -> None:
    path = tmp_path / "cal.bin"
    write_cache(path, RANGES, "minmax", "cd" * 32)
    with pytest.raises(DataError, match=says) as error:
        check_cache(read_cache(path), path, *arguments)
    assert "--cal_cache_file" in error.value.todo


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "is no calibration cache"),
        ("hello\n", "is no calibration cache"),
        ("TRT-8-EntropyCalibration2\na: 3c010a14\nb: xyz\nc 3c010a14\n", "line 3.*\n.*line 4"),
        ("TRT-8-EntropyCalibration2\na: ffc00000\n", "'a' has the scale nan"),
        ("TRT-8-EntropyCalibration2\na: bf800000\n", "'a' has the scale -1.0"),
    ],
)
def test_damaged_caches_are_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "cal.bin"
    path.write_text(content)
    with pytest.raises(DataError, match=says):
        read_cache(path)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No such file"):
        read_cache(tmp_path / "none.bin")
    (tmp_path / "binary.bin").write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DataError, match="no text"):
        read_cache(tmp_path / "binary.bin")
