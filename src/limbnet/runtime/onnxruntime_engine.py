"""The ONNX Runtime engine: an ONNX file on the CPU, or on a GPU through the CUDA and TensorRT providers."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.devices import cpu_threads
from limbnet.errors import DeviceError, missing_package
from limbnet.runtime.engine import Output
from limbnet.runtime.onnx_file import Fallback, OnnxNetwork, read_onnx, refuse_stage
from limbnet.runtime.overflow import overflows, reads_int8_weights, with_narrow_weights
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.signature import Precision
from limbnet.runtime.trimming import with_trimmed_decoding
from limbnet.runtime.unsigned import with_unsigned_activations

if TYPE_CHECKING:
    from onnx import ModelProto

Provider = Literal["cpu", "cuda", "tensorrt"]

PROVIDERS: dict[Provider, str] = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}

#: Pictures per batch on a GPU; a CPU gains nothing from batches.
GPU_BATCH = 8


def open_engine(
    path: Path,
    *,
    key: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    output_stage: int | None = None,
    fallback: Fallback | None = None,
    provider: Provider | None = None,
) -> OnnxRuntimeEngine:
    """Read an ONNX file and start a session; see `limbnet.runtime.load.load_engine` for the arguments.

    Without a device this is the CPU, unless a GPU provider is asked for.
    """
    refuse_stage(output_stage, path)
    device = device or ("cpu" if provider in (None, "cpu") else "cuda")
    return OnnxRuntimeEngine(read_onnx(path, key, fallback), device, provider, threads)


def open_tensorrt(path: Path, **options: Any) -> OnnxRuntimeEngine:
    """Open a file with the TensorRT provider."""
    return open_engine(path, provider="tensorrt", **options)


class OnnxRuntimeEngine:
    """Run an ONNX file with ONNX Runtime.

    Args:
        network: the file, read.
        device: `cpu`, `cuda` or `cuda:N`.
        provider: what runs the graph there; None means the device's own: `cpu` or `cuda`.
        threads: threads of one operation on a CPU, the default of `cpu_threads` when None.

    Raises:
        DeviceError: ONNX Runtime or the provider is not installed, or the provider does not start: nothing is run
            elsewhere instead.
        ModelFileError: ONNX Runtime refuses the graph.
    """

    def __init__(
        self,
        network: OnnxNetwork,
        device: str = "cpu",
        provider: Provider | None = None,
        threads: int | None = None,
    ) -> None:
        provider = provider or ("cpu" if device == "cpu" else "cuda")
        self.info = network.info
        self.signature = network.signature
        self.decode = network.signature.decode
        self.name = f"onnxruntime{'' if provider != 'tensorrt' else ' tensorrt'} {network.signature.precision}"
        self.device = device
        self.fixed_size = network.signature.fixed_size
        self.max_batch = network.signature.fixed_batch
        self.preferred_batch = self.max_batch or (1 if provider == "cpu" else GPU_BATCH)
        self._session = start_session(
            network.model, network.signature.precision, device, provider, threads, named=f"'{network.path}'"
        )
        self.provider = PROVIDERS[provider]

    def run(self, images: NDArray[np.uint8]) -> Output:
        """Run the network on (B, H, W, 3) uint8 RGB pictures."""
        signature = self.signature
        given = {signature.input_name: signature.network_input(images, self.info)}
        return signature.output(self._session.run(list(signature.output_names), given), len(images))


@cache
def products_overflow() -> bool:
    """Tell whether INT8 products overflow in ONNX Runtime on this processor."""
    import onnxruntime as ort

    def run(model: ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        session = ort.InferenceSession(model.SerializeToString(), options, providers=[PROVIDERS["cpu"]])
        return np.asarray(session.run(None, {"x": values})[0])

    return overflows(f"ONNX Runtime {ort.__version__}", run)


def start_session(
    model: ModelProto,
    precision: Precision,
    device: str = "cpu",
    provider: Provider = "cpu",
    threads: int | None = None,
    *,
    named: str = "the network",
) -> Any:
    """Start ONNX Runtime on a graph, which errors call `named`; see `OnnxRuntimeEngine` for the rest."""
    try:
        import onnxruntime as ort
    except ImportError:
        raise missing_package("onnxruntime", "Running an ONNX file with ONNX Runtime") from None
    wanted, present = PROVIDERS[provider], ort.get_available_providers()
    if wanted not in present:
        raise DeviceError(
            f"The installed ONNX Runtime {ort.__version__} has no {wanted}; it has {', '.join(present)}.",
            "Run: pip uninstall onnxruntime && pip install onnxruntime-gpu",
        )
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if provider == "cpu":
        options.intra_op_num_threads = cpu_threads(threads)
        model = with_trimmed_decoding(with_unsigned_activations(model))
        if reads_int8_weights(model) and products_overflow():
            model = with_narrow_weights(model)
    arguments: dict[str, Any] = {}
    if provider != "cpu":
        arguments["device_id"] = int(device.partition(":")[2] or 0)
    if provider == "tensorrt":
        arguments["trt_fp16_enable"] = precision != "fp32"
        arguments["trt_int8_enable"] = precision == "int8"
    try:
        session = ort.InferenceSession(
            model.SerializeToString(), options, providers=[(wanted, arguments)] if arguments else [wanted]
        )
    except Exception as error:  # ONNX Runtime's own exceptions share no base class but this one
        raise EngineRefusal(f"ONNX Runtime {ort.__version__}", error, named) from error
    if session.get_providers()[0] != wanted:  # ONNX Runtime itself falls back to the CPU with a mere warning
        raise DeviceError(
            f"ONNX Runtime's {wanted} did not start on {device}.",
            "See its log above: a CUDA or TensorRT library is missing or of another version.",
        )
    return session
