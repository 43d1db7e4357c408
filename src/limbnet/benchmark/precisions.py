"""A checkpoint in other precisions, exported for the time of a profile."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from limbnet.errors import UsageError
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.models.filekinds import FileKind, read_model_file
from limbnet.runtime.signature import Precision

log = logging.getLogger(__name__)


def export_precisions(
    models: Sequence[Path],
    precisions: Sequence[Precision],
    folder: Path,
    pictures: Sequence[Path],
    *,
    size: tuple[int, int] | None = None,
    key: str | None = None,
    threads: int | None = None,
) -> list[Path]:
    """Export every checkpoint among the models in every precision, compared with torch as `limbnet export` does.

    Args:
        models: files of any kind; those that are no checkpoints have their precision and are passed over.
        precisions: of the exported files.
        folder: where they are written, as `<model>.<precision>.onnx`.
        pictures: calibrate INT8, and are what the files are compared on.
        size: (height, width) to calibrate and compare at; the model's own when None.
        key: opens encrypted models, and seals the exported ones.
        threads: CPU threads.

    Raises:
        UsageError: none of the models is a checkpoint.
        ModelFileError: a file is not what torch computes, or a model cannot be read.
    """
    checkpoints = [path for path in models if read_model_file(path, key)[0] is FileKind.LIMBNET]
    if not checkpoints:
        raise UsageError(
            "None of the models can be exported in other precisions: their files have theirs already.",
            "Give the checkpoint, or leave --precision out and give a file for each precision.",
        )
    linked = folder / "pictures"
    linked.mkdir(parents=True)
    for number, path in enumerate(pictures):
        (linked / f"{number:04d}{path.suffix}").symlink_to(path.resolve())
    calibration = Calibration(image_dir=linked, batches=len(pictures))
    made = []
    for number, path in enumerate(checkpoints):
        for precision in precisions:
            log.info("Exporting %s in %s", path.name, precision)
            target = folder / str(number) / f"{path.stem}.{precision}.onnx"
            settings = ExportSettings(precision=precision, size=size, threads=threads)
            export_file(path, target, settings, calibration=calibration, key=key)
            made.append(target)
    return made
