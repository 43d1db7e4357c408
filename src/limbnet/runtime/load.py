"""Open any model file as an engine: what a file is follows from its content, never from its name."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from limbnet.errors import ModelFileError, nearest
from limbnet.runtime.engine import Engine

if TYPE_CHECKING:
    from limbnet.runtime.predictor import PoseEstimator

#: The runtimes, by the name `engine=` and `--engine` take: the module whose `open_engine` builds one.
ENGINES: dict[str, str] = {
    "torch": "limbnet.runtime.torch_engine",
}

#: The runtime that opens each kind of file when none is asked for.
DEFAULT_ENGINE: dict[str, str] = {
    "limbnet": "torch",
    "encrypted": "torch",
}


def load_engine(
    path: Path | str,
    *,
    key: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    **options: Any,
) -> Engine:
    """Open a model file with the runtime that suits it.

    Args:
        path: the model file.
        key: opens an encrypted one.
        device: `cpu`, `cuda`, `cuda:1`, ...; the best there is when None.
        engine: the runtime, found out from the file when None.
        threads: threads on a CPU, the runtime's choice when None.
        options: handed to the runtime, `output_stage` for instance.

    Raises:
        ModelFileError: the file is missing, damaged, no model, or not for this runtime.
        DeviceError: the device or the runtime is not there.
    """
    from limbnet.models.checkpoint import recognise

    path = Path(path)
    if not path.is_file():
        raise ModelFileError(f"There is no model file '{path}'.", "Check the path given with -m or model_path.")
    kind = str(recognise(path))
    if engine is None:
        engine = DEFAULT_ENGINE.get(kind)
        if engine is None:
            raise ModelFileError(
                f"'{path}' is {_KINDS.get(kind, 'no model file that limbnet knows')}: it cannot be run as it is.",
                "Give a model that limbnet trained, pruned or exported.",
            )
    if engine not in ENGINES:
        raise ModelFileError(
            f"There is no engine '{engine}'.{nearest(engine, ENGINES)}", f"Engines: {', '.join(ENGINES)}."
        )
    module = import_module(ENGINES[engine])
    return cast(Engine, module.open_engine(path, key=key, device=device, threads=threads, **options))


#: Words for kinds of files that are recognised but hold no network that runs by itself.
_KINDS: dict[str, str] = {
    "keras": "a Keras HDF5 file (weights to start training from)",
    "torch": "a PyTorch checkpoint (weights to start training from)",
    "onnx": "an ONNX file",
    "openvino": "an OpenVINO model",
    "engine": "a TensorRT engine",
}


def load(
    path: Path | str,
    *,
    device: str | None = None,
    engine: str | None = None,
    key: str | None = None,
    threads: int | None = None,
    output_stage: int | None = None,
    **overrides: Any,
) -> PoseEstimator:
    """Open a model file and return an estimator that finds people in pictures.

    Args:
        path: a file written by `limbnet train`, `prune` or `export`.
        device: `cpu`, `cuda`, `cuda:1`, ...; the best there is when None.
        engine: the runtime, found out from the file when None.
        key: opens an encrypted file.
        threads: threads on a CPU.
        output_stage: 1-based refinement stage whose maps are used, the last when None.
        overrides: `input_size`, `fit_mode`, `settings`, `scales`, `flip` of `PoseEstimator`; else the model's own.
    """
    from limbnet.runtime.predictor import PoseEstimator

    options = {} if output_stage is None else {"output_stage": output_stage}
    opened = load_engine(path, key=key, device=device, engine=engine, threads=threads, **options)
    return PoseEstimator(opened, **overrides)
