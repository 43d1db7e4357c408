"""Open any model file as an engine: what a file is follows from its content, never from its name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from limbnet.errors import ModelFileError, UsageError, nearest
from limbnet.models.filekinds import FileKind, read_model_file, recognise
from limbnet.models.info import ModelInfo
from limbnet.models.shipped import DEFAULT_MODEL, runnable_file, trainable_file
from limbnet.runtime.engine import Engine

if TYPE_CHECKING:
    from limbnet.runtime.predictor import PoseEstimator

#: The runtimes, by the name that `engine=` and `--engine` take: the module and its function that opens a file.
ENGINES: dict[str, str] = {
    "torch": "limbnet.runtime.torch_engine:open_engine",
    "onnxruntime": "limbnet.runtime.onnxruntime_engine:open_engine",
    "onnxruntime-tensorrt": "limbnet.runtime.onnxruntime_engine:open_tensorrt",
    "openvino": "limbnet.runtime.openvino_engine:open_engine",
    "openvino-throughput": "limbnet.runtime.openvino_engine:open_throughput",
    "tensorrt": "limbnet.runtime.tensorrt_engine:open_engine",
}

#: The runtime that opens each kind of file when none is asked for.
DEFAULT_ENGINE: dict[FileKind, str] = {
    FileKind.LIMBNET: "torch",
    FileKind.ONNX: "onnxruntime",
    FileKind.OPENVINO: "openvino",
    FileKind.ENGINE: "tensorrt",
}


def load_engine(
    path: Path | str,
    *,
    key: str | None = None,
    device: str | None = None,
    engine: str | None = None,
    threads: int | None = None,
    output_stage: int | None = None,
    fallback: Callable[[], ModelInfo] | None = None,
) -> Engine:
    """Open a model file with the runtime that suits it.

    Args:
        path: the model file, of any kind that limbnet writes, or the name of a model that comes with limbnet.
        key: opens an encrypted one.
        device: `cpu`, `cuda`, `cuda:1`, ...; the best that the runtime has when None.
        engine: the runtime, found out from the file when None.
        threads: threads on a CPU; None for OMP_NUM_THREADS, or one for each core this process may use.
        output_stage: 1-based refinement stage whose maps are returned, the last when None.
        fallback: asked for what is known about a file that says nothing about itself.

    Raises:
        ModelFileError: the file is missing, damaged, no network that runs by itself, or needs another key.
        DeviceError: the device or the runtime is not there.
        SpecError: there is no such stage, or the runtime cannot stop at a stage.
    """
    path = trainable_file(path) if engine == "torch" else runnable_file(path)
    if engine is None:
        engine = _engine_for(path, key)
    if engine not in ENGINES:
        raise UsageError(f"There is no engine '{engine}'.{nearest(engine, ENGINES)}", f"Engines: {', '.join(ENGINES)}.")
    module, _, function = ENGINES[engine].partition(":")
    opened = getattr(import_module(module), function)(
        path, key=key, device=device, threads=threads, output_stage=output_stage, fallback=fallback
    )
    return cast(Engine, opened)


def _engine_for(path: Path, key: str | None) -> str:
    """Return the runtime for a file, looking into it with the key if it is encrypted."""
    kind = recognise(path)
    if kind is FileKind.ENCRYPTED:
        kind, _ = read_model_file(path, key)
    if kind in DEFAULT_ENGINE:
        return DEFAULT_ENGINE[kind]
    weights = kind in (FileKind.KERAS, FileKind.TORCH, FileKind.SAFETENSORS)
    raise ModelFileError(
        f"'{path}' is {kind.described}, no network that runs by itself.",
        "Give it as pretrained_weights in a train spec, and run the model that training writes."
        if weights
        else "Give a model that limbnet train, prune or export wrote. NVIDIA's encrypted files cannot be read: how "
        "they are encrypted is not public.",
    )


def load(
    path: Path | str = DEFAULT_MODEL,
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
        path: a file written by `limbnet train`, `prune` or `export`, or the name of a model that comes with limbnet;
            `limbnet-s` when nothing is named.
        device: `cpu`, `cuda`, `cuda:1`, ...; the best there is when None.
        engine: the runtime, found out from the file when None.
        key: opens an encrypted file.
        threads: threads on a CPU.
        output_stage: 1-based refinement stage whose maps are used, the last when None.
        overrides: `input_size`, `fit_mode`, `settings`, `scales`, `flip` of `PoseEstimator`; else the model's own.
    """
    from limbnet.runtime.predictor import PoseEstimator

    opened = load_engine(path, key=key, device=device, engine=engine, threads=threads, output_stage=output_stage)
    return PoseEstimator(opened, **overrides)
