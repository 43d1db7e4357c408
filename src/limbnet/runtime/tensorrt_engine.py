"""The TensorRT engine: plans of TensorRT or TensorRT-RTX on an NVIDIA GPU, with torch's memory as their buffers."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from limbnet.errors import DeviceError, ModelFileError, UsageError, missing_package
from limbnet.runtime.engine import Output
from limbnet.runtime.engine_file import EngineHeader, Flavour, check_runs_here, check_source, read_engine
from limbnet.runtime.onnx_file import Fallback, refuse_stage


def open_engine(
    path: Path,
    *,
    key: str | None = None,
    device: str | None = None,
    threads: int | None = None,  # noqa: ARG001 - the work is the GPU's
    output_stage: int | None = None,
    fallback: Fallback | None = None,  # noqa: ARG001 - an engine file always says what it is
) -> TensorRtEngine:
    """Read an engine file and start it on a GPU; see `limbnet.runtime.load.load_engine` for the arguments."""
    refuse_stage(output_stage, path)
    header, plan = read_engine(path, key)
    check_source(header, path, key)
    return TensorRtEngine(header, plan, path, device or "cuda:0")


class TensorRtEngine:
    """Run a TensorRT plan.

    Args:
        header: of the engine file.
        plan: TensorRT's own bytes.
        path: of the file, for messages.
        device: `cuda` or `cuda:N`.

    Raises:
        DeviceError: there is no such GPU, the library is missing, or the plan was built for another GPU architecture or
            by another version.
        ModelFileError: TensorRT refuses the plan.
    """

    def __init__(self, header: EngineHeader, plan: bytes, path: Path, device: str = "cuda:0") -> None:
        trt = import_flavour(header.flavour)
        self._device = torch.device(device)
        check_runs_here(header, path, str(trt.__version__), gpu_architecture(self._device))
        self.info, self.signature = header.info, header.signature
        self.decode = header.signature.decode
        self.name = f"{header.flavour} {header.signature.precision}"
        self.device = str(self._device)
        smallest, _, largest = header.shapes
        rows, columns = (1, 2) if self.signature.data_format == "channels_last" else (2, 3)
        fixed = smallest[rows] == largest[rows] and smallest[columns] == largest[columns]
        self.fixed_size = (largest[rows], largest[columns]) if fixed else None
        self._smallest, self._largest = smallest, largest
        self.max_batch = self.preferred_batch = largest[0]
        self._trt = trt
        self._runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
        with torch.cuda.device(self._device):
            engine = self._runtime.deserialize_cuda_engine(plan)
            if engine is None:
                raise ModelFileError(
                    f"{header.flavour} {trt.__version__} refuses the engine '{path}'.",
                    f"Build it anew: {header.rebuild_command(path)}",
                )
            self._engine, self._context = engine, engine.create_execution_context()
            self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def run(self, images: NDArray[np.uint8]) -> Output:
        """Run the network on (B, H, W, 3) uint8 RGB pictures.

        Raises:
            UsageError: the pictures are smaller or larger than the shapes the engine was built for.
        """
        values = self.signature.network_input(images, self.info)
        self._check_shape(values.shape)
        names = self.signature.output_names
        with torch.cuda.device(self._device), torch.cuda.stream(self._stream):
            given = torch.from_numpy(values).to(self._device, non_blocking=True)
            self._context.set_input_shape(self.signature.input_name, tuple(values.shape))
            self._context.set_tensor_address(self.signature.input_name, given.data_ptr())
            outputs = {}
            for name in names:
                shape = tuple(self._context.get_tensor_shape(name))
                outputs[name] = torch.empty(shape, dtype=torch.float32, device=self._device)
                self._context.set_tensor_address(name, outputs[name].data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise DeviceError(f"{self.name} failed to run on {self.device}: see TensorRT's message above.")
            answer = [outputs[name].cpu().numpy() for name in names]
        return self.signature.output(answer, len(images))

    def _check_shape(self, shape: tuple[int, ...]) -> None:
        bounds = zip(self._smallest, shape, self._largest, strict=True)
        if not all(low <= side <= high for low, side, high in bounds):
            low, high = ("x".join(map(str, shape)) for shape in (self._smallest, self._largest))
            raise UsageError(
                f"The engine takes inputs of {low} to {high}, got {'x'.join(map(str, shape))}.",
                "Set input_shape and keep_aspect_ratio_mode: pad_image_input, or build it with a wider -p profile.",
            )


def import_flavour(flavour: Flavour) -> Any:
    """Import `tensorrt` or `tensorrt_rtx`."""
    try:
        return import_module(flavour)
    except ImportError:
        if flavour == "tensorrt_rtx":
            raise missing_package("tensorrt-rtx-cu12", "A TensorRT-RTX engine", "tensorrt") from None
        raise DeviceError("A TensorRT engine needs the package 'tensorrt'.", "Run: pip install tensorrt") from None


def gpu_architecture(device: torch.device) -> str:
    """Return a GPU's architecture as `sm86`.

    Raises:
        DeviceError: there is no such GPU.
    """
    if not torch.cuda.is_available():
        raise DeviceError(
            "A TensorRT engine runs on an NVIDIA GPU, and there is none here (or torch was built without CUDA).",
            "Run the ONNX file instead: --engine onnxruntime or --engine openvino.",
        )
    try:
        major, minor = torch.cuda.get_device_capability(device)
    except (AssertionError, RuntimeError) as error:
        raise DeviceError(f"There is no GPU '{device}': {error}.") from error
    return f"sm{major}{minor}"
