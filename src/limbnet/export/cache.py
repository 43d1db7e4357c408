"""The calibration cache: TensorRT's text layout, one scale a tensor, so that a second export skips calibration.

    TRT-<version>-EntropyCalibration2
    <tensor>: <the float32 scale's bit pattern, big-endian hexadecimal>

One more line of the same form, `limbnet.model.<hash>: 3f800000`, names the model whose ranges these are. Caches without
it (TensorRT's own) are taken when they hold every tensor that is asked for.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from limbnet.errors import DataError
from limbnet.export.calibrate import input_range
from limbnet.export.quantise import STEPS
from limbnet.export.ranges import Method
from limbnet.files import write_text
from limbnet.models.info import ModelInfo

#: TensorRT's names of calibration algorithms.
ALGORITHMS: dict[Method, str] = {
    "entropy": "EntropyCalibration2",
    "minmax": "MinMaxCalibration",
    "percentile": "LegacyCalibration",
}

#: Stands where TensorRT writes its own version; its parsers take any.
WRITER = "limbnet"

_HASH = "limbnet.model."


@dataclass(frozen=True)
class CalibrationCache:
    """Content of a cache.

    Attributes:
        ranges: by tensor, the absolute value that 127 steps stand for.
        algorithm: as TensorRT calls it.
        model_hash: of the model the ranges were found on, "" when the cache does not say.
    """

    ranges: Mapping[str, float]
    algorithm: str
    model_hash: str = ""


def as_cached(ranges: Mapping[str, float]) -> dict[str, float]:
    """Return ranges as a cache gives them back, its scales being float32: so a second export writes the same graph."""
    return {tensor: float(np.float32(limit / STEPS)) * STEPS for tensor, limit in ranges.items()}


def write_cache(path: Path | str, ranges: Mapping[str, float], method: Method, model_hash: str) -> None:
    """Write a cache, whole or not at all."""
    lines = [f"TRT-{WRITER}-{ALGORITHMS[method]}", f"{_HASH}{model_hash}: {_to_hex(1.0)}"]
    lines += [f"{tensor}: {_to_hex(limit / STEPS)}" for tensor, limit in ranges.items()]
    write_text(path, "\n".join(lines) + "\n")


def read_cache(path: Path | str) -> CalibrationCache:
    """Read a cache, limbnet's or TensorRT's.

    Raises:
        DataError: it is missing or of another layout. Every wrong line is named.
    """
    try:
        lines = Path(path).read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise DataError(f"Cannot read the calibration cache '{path}': {reason}.") from error
    head = re.fullmatch(r"TRT-(.+)-(\w+)", lines[0].strip() if lines else "")
    if head is None:
        raise DataError(
            f"'{path}' is no calibration cache: its first line is not like 'TRT-<version>-EntropyCalibration2'.",
            "Name another file with --cal_cache_file, or delete this one to calibrate anew.",
        )
    ranges: dict[str, float] = {}
    model_hash, wrong = "", []
    for number, line in enumerate(lines[1:], 2):
        entry = re.fullmatch(r"(.+): ([0-9a-fA-F]{8})", line.strip())
        if entry is None:
            wrong += [f"line {number}: found '{line.strip()[:60]}'"] if line.strip() else []
        elif entry[1].startswith(_HASH):
            model_hash = entry[1].removeprefix(_HASH)
        else:
            ranges[entry[1]] = _from_hex(entry[2]) * STEPS
    wrong += [f"'{tensor}' has the scale {limit / STEPS}" for tensor, limit in ranges.items() if not 0 <= limit < 1e30]
    if wrong:
        raise DataError(
            f"The calibration cache '{path}' is damaged (expected '<tensor>: <8 hexadecimal digits>'):\n  "
            + "\n  ".join(wrong),
            "Delete it to calibrate anew.",
        )
    return CalibrationCache(ranges, head[2], model_hash)


def check_cache(
    cache: CalibrationCache, path: Path | str, model_hash: str, tensors: Iterable[str], method: Method | None
) -> None:
    """Raise a `DataError` unless a cache fits a model and the calibration method that was asked for, if any was."""
    anew = "Name another file with --cal_cache_file, or delete this one to calibrate anew."
    if cache.model_hash and cache.model_hash != model_hash:
        raise DataError(
            f"The calibration cache '{path}' belongs to another model "
            f"({cache.model_hash[:12]}, this one is {model_hash[:12] or 'not by limbnet'}).",
            anew,
        )
    missing = [tensor for tensor in tensors if tensor not in cache.ranges]
    if missing:
        named = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"The calibration cache '{path}' belongs to another model: it lacks {len(missing)} tensors ({named}).", anew
        )
    if method is not None and cache.algorithm != ALGORITHMS[method]:
        raise DataError(
            f"The calibration cache '{path}' was made by {cache.algorithm}, but {ALGORITHMS[method]} ({method}) was "
            "asked for.",
            anew,
        )


def cached_ranges(
    cache: CalibrationCache,
    path: Path | str,
    tensors: Sequence[str],
    info: ModelInfo,
    *,
    model_hash: str,
    method: Method | None = None,
) -> dict[str, float]:
    """Check a cache as `check_cache` does and return the ranges of `calibrated_tensors`.

    The first is the input, whose name depends on the file's layout and whose range is known without measuring: a cache
    serves every layout.
    """
    first, *others = tensors
    check_cache(cache, path, model_hash, others, method)
    return {first: cache.ranges.get(first, input_range(info)), **{name: cache.ranges[name] for name in others}}


def _to_hex(value: float) -> str:
    return struct.pack(">f", value).hex()


def _from_hex(digits: str) -> float:
    return float(struct.unpack(">f", bytes.fromhex(digits))[0])
