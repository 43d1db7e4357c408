"""The OpenVINO engine: an ONNX file or OpenVINO's own pair of `.xml` and `.bin`, on a CPU unless asked otherwise.

Two modes. Latency runs one picture at a time on all cores. Throughput cuts the cores into streams, each with a
picture of its own; single pictures take longer, many pictures less.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.devices import cpu_threads
from limbnet.errors import DeviceError, ModelFileError, missing_package
from limbnet.models.filekinds import FileKind, read_model_file
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Output
from limbnet.runtime.onnx_file import Fallback, OnnxNetwork, read_onnx, refuse_stage
from limbnet.runtime.overflow import has_int8_weights, narrow_weights, overflows
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.sharing import with_own_constants
from limbnet.runtime.signature import Signature
from limbnet.runtime.trimming import with_trimmed_decoding
from limbnet.runtime.unsigned import with_unsigned_activations

if TYPE_CHECKING:
    import openvino
    from onnx import ModelProto

Mode = Literal["latency", "throughput"]

#: Pictures started for each stream in throughput mode: the one it works on, and those that it finds when that is done.
STARTED_PER_STREAM = 3

#: Where an `.xml` of limbnet's keeps what ONNX files keep in their metadata.
RT_INFO = ("limbnet", "content")


def open_engine(
    path: Path,
    *,
    key: str | None = None,
    device: str | None = None,
    threads: int | None = None,
    output_stage: int | None = None,
    fallback: Fallback | None = None,
    mode: Mode = "latency",
) -> OpenVinoEngine:
    """Read an ONNX or OpenVINO file and compile it; see `limbnet.runtime.load.load_engine` for the arguments."""
    refuse_stage(output_stage, path)
    device = device or "cpu"
    model, info, signature = read_openvino(path, key, fallback, static=device != "cpu")
    return OpenVinoEngine(model, info, signature, device=device, mode=mode, threads=threads)


def open_throughput(path: Path, **options: Any) -> OpenVinoEngine:
    """Open a file in throughput mode."""
    return open_engine(path, mode="throughput", **options)


class OpenVinoEngine:
    """Run a network with OpenVINO.

    Args:
        model: the network, read by OpenVINO.
        info: what its file says about it.
        signature: its tensors.
        device: `cpu`, or a device of OpenVINO's such as `gpu` (Intel's) and `npu`.
        mode: see the module's docstring.
        threads: threads in all on a CPU, the default of `cpu_threads` when None.

    Raises:
        DeviceError: OpenVINO has no such device here.
    """

    def __init__(
        self,
        model: openvino.Model,
        info: ModelInfo,
        signature: Signature,
        *,
        device: str = "cpu",
        mode: Mode = "latency",
        threads: int | None = None,
    ) -> None:
        self.info = info
        self.signature = signature
        self.decode = signature.decode
        self.name = f"openvino{'' if mode == 'latency' else ' throughput'} {signature.precision}"
        self.device = device
        self.fixed_size = signature.fixed_size
        self.max_batch = signature.fixed_batch
        self.compiled = compile_network(model, device, mode, threads)
        streams, self.most_started = 1, 1
        if mode == "throughput":
            streams = int(self.compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS"))
            self.most_started = STARTED_PER_STREAM
        self.preferred_batch = self.max_batch or streams  # one at a time costs more: its other stages find cold caches
        self._one_by_one = mode == "throughput" and self.max_batch is None
        self._requests = deque(_Request(self.compiled, signature) for _ in range(streams * self.most_started))

    def run(self, images: NDArray[np.uint8]) -> Output:
        """Run the network on (B, H, W, 3) uint8 RGB pictures: at once, or one after the other in throughput mode."""
        return self.start(images)()

    def start(self, images: NDArray[np.uint8]) -> Callable[[], Output]:
        """Start the network on pictures as `run` takes them; see `limbnet.runtime.engine.OverlappingEngine`."""
        values = self.signature.network_input(images, self.info)
        parts = np.split(values, len(values)) if self._one_by_one else [values]
        answers = [self._next().start(part) for part in parts]

        def fetch() -> Output:
            each = [answer() for answer in answers]
            joined = each[0] if len(each) == 1 else [np.concatenate(values) for values in zip(*each, strict=True)]
            return self.signature.output(joined, len(images))

        return fetch

    def _next(self) -> _Request:
        """Return the request that was started the longest time ago."""
        self._requests.rotate(-1)
        return self._requests[-1]


class _Request:
    """One of OpenVINO's requests, which works on one input at a time."""

    def __init__(self, compiled: openvino.CompiledModel, signature: Signature) -> None:
        from openvino import Tensor

        self._tensor = partial(Tensor, shared_memory=True)
        self._request = compiled.create_infer_request()
        self._signature = signature
        self._values: NDArray[Any] | None = None
        self._answer: Future[list[NDArray[Any]]] = Future()
        self._answer.set_result([])

    def start(self, values: NDArray[Any]) -> Callable[[], list[NDArray[Any]]]:
        """Start on one input when what was started before is done; the call that is returned waits for the outputs."""
        self._settle()
        self._values = values  # read where it lies
        # `start_async` takes inputs too, and needs 40 microseconds more to find out what they are.
        self._request.set_tensor(self._signature.input_name, self._tensor(values))
        self._request.start_async()
        answer = self._answer = Future()

        def fetch() -> list[NDArray[Any]]:
            if not answer.done():
                self._settle()
            return answer.result()

        return fetch

    def _settle(self) -> None:
        """Wait until the input is worked off, and copy the outputs: the next start uses their buffers again."""
        if self._answer.done():
            return
        try:
            self._request.wait()
            self._answer.set_result([np.array(self._request.get_tensor(n).data) for n in self._signature.output_names])
        except Exception as error:  # raised where the outputs are fetched
            self._answer.set_exception(error)


def read_openvino(
    path: Path, key: str | None = None, fallback: Fallback | None = None, *, static: bool = False
) -> tuple[openvino.Model, ModelInfo, Signature]:
    """Read an ONNX file, or an `.xml` whose `.bin` lies beside it, and what it says about itself.

    `static` leaves the shapes inside an ONNX file that decodes as they are, for other devices than CPUs.
    """
    core = openvino_core()
    kind, content = read_model_file(path, key)
    try:
        if kind is not FileKind.OPENVINO:
            network = read_onnx(path, key, fallback)
            return read_network(network, static=static), network.info, network.signature
        _, weights = read_model_file(path.with_suffix(".bin"), key)
        model = core.read_model(content, weights)
    except RuntimeError as error:
        raise EngineRefusal(_version(), error, f"'{path}'") from error
    if not model.has_rt_info(list(RT_INFO)):
        raise ModelFileError(
            f"'{path}' says nothing about its skeleton and its input.",
            "Write it with 'limbnet export' or 'limbnet convert', from a checkpoint or an ONNX file.",
        )
    said = json.loads(model.get_rt_info(list(RT_INFO)).astype(str))
    return model, ModelInfo.from_dict(said["info"]), Signature.from_dict(said["signature"])


def read_network(network: OnnxNetwork, *, static: bool = False) -> openvino.Model:
    """Let OpenVINO read an ONNX network; see `read_openvino`."""
    return read_graph(network.model if static else with_trimmed_decoding(network.model), f"'{network.path}'")


def read_graph(model: ModelProto, named: str = "the network") -> openvino.Model:
    """Let OpenVINO read an ONNX graph, which errors call `named`, with unsigned activations where it has INT8.

    Raises:
        EngineRefusal: it cannot.
    """
    try:
        return openvino_core().read_model(with_own_constants(with_unsigned_activations(model)).SerializeToString(), b"")
    except RuntimeError as error:
        raise EngineRefusal(_version(), error, named) from error


def from_network(network: OnnxNetwork, mode: Mode = "latency", threads: int | None = None) -> OpenVinoEngine:
    """Compile an ONNX network that has been read."""
    return OpenVinoEngine(read_network(network), network.info, network.signature, mode=mode, threads=threads)


def compiled_model(model: ModelProto) -> openvino.CompiledModel:
    """Compile an ONNX graph for this machine's CPU as `OpenVinoEngine` does."""
    return compile_network(read_graph(model))


def openvino_core() -> openvino.Core:
    """Return the one OpenVINO core of this process.

    It is never freed: each core's CPU plugin gives its thread a signal stack, and when two are not freed in the reverse
    order, the thread is left with one that no longer exists; the next signal (a Ctrl-C, a worker's end) then kills it.

    Raises:
        DeviceError: OpenVINO is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise missing_package("openvino", "Running a network with OpenVINO") from None
    return _only(openvino.Core)


@cache
def _only(make: Callable[[], openvino.Core]) -> openvino.Core:
    return make()


def compile_network(
    model: openvino.Model, device: str = "cpu", mode: Mode = "latency", threads: int | None = None
) -> openvino.CompiledModel:
    """Compile a network that has been read; see `OpenVinoEngine` for the arguments and the errors."""
    core = openvino_core()
    kind, _, number = device.upper().partition(":")
    name = f"{kind}.{number}" if number else kind
    if kind not in {present.partition(".")[0] for present in core.available_devices}:
        raise DeviceError(
            f"OpenVINO has no device '{device}' here; it has {', '.join(core.available_devices).lower()}.",
            "Leave --device out, or run the ONNX file with --engine onnxruntime.",
        )
    # Without the hint OpenVINO would take bfloat16 where the processor has it: another precision than was exported.
    config: dict[str, Any] = {"PERFORMANCE_HINT": mode.upper(), "INFERENCE_PRECISION_HINT": "f32"}
    if kind == "CPU":
        config["INFERENCE_NUM_THREADS"] = cpu_threads(threads)
        if has_int8_weights(model) and products_overflow():
            model = model.clone()
            narrow_weights(model)
    try:
        return core.compile_model(model, name, config)
    except RuntimeError as error:
        raise EngineRefusal(_version(), error) from error


@cache
def products_overflow() -> bool:
    """Tell whether INT8 products overflow in OpenVINO on this processor."""
    core = openvino_core()

    def run(model: ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU")(values)[0])

    return overflows(_version(), run)


def _version() -> str:
    import openvino

    return f"OpenVINO {openvino.__version__.split('-')[0]}"
