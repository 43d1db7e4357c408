"""The models that come with limbnet. Their names stand wherever a model file is asked for."""

from __future__ import annotations

from pathlib import Path

#: The model that runs where none is named.
DEFAULT_MODEL = Path("limbnet-s")

_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def shipped_models() -> tuple[str, ...]:
    """Return the names of the models that come with limbnet."""
    return tuple(sorted(path.stem for path in _WEIGHTS.glob("*.tlt")))


def trainable_file(model: Path | str) -> Path:
    """Return the file with the half-precision weights of a shipped model; any other path stays.

    A file or folder of that name in the working directory comes first.
    """
    return _file_of(Path(model), ".tlt")


def runnable_file(model: Path | str) -> Path:
    """Return the INT8 ONNX file of a shipped model; any other path stays, as for `trainable_file`."""
    return _file_of(Path(model), ".int8.onnx")


def _file_of(model: Path, suffix: str) -> Path:
    if str(model) != model.name or model.name not in shipped_models() or model.exists():
        return model
    return _WEIGHTS / f"{model.name}{suffix}"
