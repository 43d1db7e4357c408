"""Where INT8 ranges come from: quantisation-aware training, a cache, a tensor file, or a folder of pictures."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limbnet.console import progress
from limbnet.data.calibration import CalibrationPictures, TensorFile, choose_pictures, write_tensor_file
from limbnet.errors import DataError, UsageError
from limbnet.export.cache import CalibrationCache, as_cached, cached_ranges, check_cache, read_cache, write_cache
from limbnet.export.calibrate import calibrate
from limbnet.export.quantise import calibrated_tensors
from limbnet.export.ranges import DEFAULT_METHOD, Method
from limbnet.export.stored_ranges import stored_ranges, trained_ranges
from limbnet.files import write_text
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import MODEL_HASH_KEY

if TYPE_CHECKING:
    from onnx import ModelProto

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Calibration:
    """Where INT8 ranges come from, the first that is there: the checkpoint, the cache, the tensor file, the folder.

    Attributes:
        cache_file: read when it exists, written otherwise; None for neither.
        data_file: tensor file, read when it exists, written from the folder otherwise; None for neither.
        image_dir: folder of pictures.
        batches, batch_size: how many pictures are drawn from the folder.
        method: how a range follows from the values; None means percentile, or whatever the cache was
            made by.
        percentile: for the method of that name.
        seed: of the draw.
        anew: pass over the ranges that a checkpoint of quantisation-aware training holds.
    """

    cache_file: Path | None = None
    data_file: Path | None = None
    image_dir: Path | None = None
    batches: int = 10
    batch_size: int = 1
    method: Method | None = None
    percentile: float = 99.99
    seed: int = 42
    anew: bool = False


@dataclass(frozen=True)
class Source:
    """A source of ranges that was found and looks right: training, a cache, or batches of pictures.

    Attributes:
        calibration: what was asked for.
        cache: of the same model, or None.
        batches: pictures, or None where there is another source.
        trained: ranges by tensor that the checkpoint's own training found, or None.
    """

    calibration: Calibration
    cache: CalibrationCache | None
    batches: CalibrationPictures | TensorFile | None
    trained: Mapping[str, float] | None = None


def find_source(calibration: Calibration, size: tuple[int, int], info: ModelInfo, model_hash: str) -> Source:
    """Find where ranges are to come from, before any long work.

    Raises:
        UsageError: there is no source.
        DataError: the cache is of another model, the tensor file is damaged or of another size, the folder holds too
            few pictures or some that cannot be read.
    """
    trained = None if calibration.anew else stored_ranges(info, model_hash)
    if trained is not None:
        return Source(calibration, None, None, trained)
    cache_file = calibration.cache_file
    if cache_file is not None and cache_file.exists():
        cache = read_cache(cache_file)
        check_cache(cache, cache_file, model_hash, (), calibration.method)
        return Source(calibration, cache, None)
    return Source(calibration, None, _batches(calibration, size, info))


def int8_ranges(
    graph: ModelProto, info: ModelInfo, source: Source, *, threads: int | None = None
) -> tuple[dict[str, float], dict[str, Any]]:
    """Return the ranges of `calibrated_tensors`, and in plain values where they came from.

    Raises:
        DataError: the cache lacks some of them.
        ModelFileError: the network's values are not finite.
    """
    tensors = calibrated_tensors(graph)
    model_hash = next((entry.value for entry in graph.metadata_props if entry.key == MODEL_HASH_KEY), "")
    calibration, cache_file = source.calibration, source.calibration.cache_file
    if source.trained is not None:
        log.info("Calibration is skipped: training has found the ranges.")
        return trained_ranges(source.trained, tensors, info), {"source": "training"}
    if source.cache is not None and cache_file is not None:
        kept = cached_ranges(
            source.cache, cache_file, tensors, info, model_hash=model_hash, method=calibration.method
        )  # fmt: skip
        log.info("Calibration is skipped: its ranges are in '%s' (%s).", cache_file, source.cache.algorithm)
        return kept, {"source": "cache", "algorithm": source.cache.algorithm}
    assert source.batches is not None
    method, batches = calibration.method or DEFAULT_METHOD, source.batches
    with progress() as bars:
        task = bars.add_task(f"calibrate ({method})", total=len(batches))
        ranges = calibrate(
            graph, tensors, batches, info, method=method, percentile=calibration.percentile, threads=threads,
            done=lambda: bars.advance(task),
        )  # fmt: skip
    ranges = as_cached(ranges)
    if cache_file is not None:
        write_cache(cache_file, ranges, method, model_hash)
        write_text(pictures_list(cache_file), "\n".join(_used(batches)) + "\n")
    kind = "pictures" if isinstance(batches, CalibrationPictures) else "tensor file"
    return ranges, {"source": kind, "algorithm": method, "pictures": len(batches) * batches.batch_size}


def pictures_list(cache_file: Path) -> Path:
    """Return the file beside a cache that lists the pictures it was made from."""
    return cache_file.with_name(cache_file.name + ".pictures.txt")


def _batches(calibration: Calibration, size: tuple[int, int], info: ModelInfo) -> CalibrationPictures | TensorFile:
    data_file = calibration.data_file
    if data_file is not None and data_file.exists():
        file = TensorFile(data_file, size)
        if len(file) * file.batch_size < calibration.batches * calibration.batch_size:
            raise DataError(
                f"Calibration is to use {calibration.batches * calibration.batch_size} pictures, but '{data_file}' "
                f"holds {len(file) * file.batch_size}.",
                f"Use --batches {len(file)} --batch_size {file.batch_size}, or delete the file to write it anew.",
            )
        return file
    if calibration.image_dir is None:
        raise UsageError(
            "INT8 needs to see which values the network's tensors take.",
            "Give a folder of pictures with --cal_image_dir, an existing tensor file with --cal_data_file, or an "
            "existing cache with --cal_cache_file.",
        )
    chosen = choose_pictures(
        calibration.image_dir, calibration.batches, calibration.batch_size, size, info, seed=calibration.seed
    )
    chosen.check()
    if data_file is None:
        return chosen
    with progress() as bars:
        task = bars.add_task("write tensor file", total=len(chosen))
        write_tensor_file(data_file, chosen, done=lambda: bars.advance(task))
    write_text(pictures_list(data_file), "\n".join(str(path) for path in chosen.paths) + "\n")
    return TensorFile(data_file, size)


def _used(batches: CalibrationPictures | TensorFile) -> list[str]:
    """List the pictures behind the ranges, as far as they are known."""
    if isinstance(batches, CalibrationPictures):
        return [str(path) for path in batches.paths]
    listed = pictures_list(batches.path)
    known = listed.read_text().splitlines() if listed.is_file() else []
    return known or [f"{batches.path}: {len(batches) * batches.batch_size} pictures"]
