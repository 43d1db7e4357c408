"""The runtimes of a study's published networks: torch, or ONNX Runtime and OpenVINO on an exported graph."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limbnet import __version__
from limbnet.devices import cpu_threads
from limbnet.errors import DeviceError, ModelFileError, missing_package
from limbnet.export.graph import OPSET, quiet
from limbnet.files import write_bytes
from limbnet.models.zoo import ZooEntry, create_model
from limbnet.models.zoo.weights import load_weights
from limbnet.runtime.openvino_engine import openvino_core
from limbnet.runtime.zoo.network import NORMALISATIONS, Tensors, TorchZooNetwork, ZooNetwork
from limbnet.specs.study import StudyEngine, StudyRow

log = logging.getLogger(__name__)

#: Packages that runtimes need, and the extra of limbnet that installs them.
PACKAGES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "onnxruntime": (("onnxruntime", "onnx", "onnxscript"), None),
    "onnxruntime-tensorrt": (("onnxruntime",), None),
    "openvino": (("openvino", "onnx", "onnxscript"), None),
    "openvino-throughput": (("openvino",), None),
    "tensorrt": (("tensorrt_rtx",), "tensorrt"),
}

#: A runtime's outputs may be so far from torch's, as a share of their largest value.
TOLERANCE = 1e-3

#: Input that bottom-up networks are traced and checked with; any other size works afterwards.
TRACED = (128, 192)


def check_engine(engine: StudyEngine | None) -> None:
    """Raise a `DeviceError` when a runtime is not installed."""
    packages, extra = PACKAGES.get(engine or "torch", ((), None))
    for package in packages:
        if find_spec(package) is None:
            raise missing_package(package, f"The engine '{engine}'", extra)


def open_zoo_network(
    entry: ZooEntry, row: StudyRow, device: str, *, seed: int, weights: str, exported: Path
) -> ZooNetwork:
    """Build a published network with the row's weights, or initial ones, on the row's runtime.

    Args:
        entry: the network, at the input size wanted.
        row: names weights and runtime.
        device: where it runs.
        seed: of initial weights.
        weights: hash of the weight file, "" for initial weights.
        exported: folder of graphs; what is there is used again.

    Raises:
        DeviceError: the runtime has no such device.
        ModelFileError: the graph cannot be exported, or says something else than torch.
    """
    network = create_model(entry.name, input_size=entry.input_size, seed=seed)
    if row.checkpoint is not None:
        load_weights(network, entry, row.checkpoint)
    if row.engine in (None, "torch"):
        return TorchZooNetwork(network, entry, device)
    if device != "cpu":
        raise DeviceError(
            f"Published networks run on {row.engine} on the CPU only, and '{device}' was asked for.",
            "Leave 'engine' out for torch, or run the study with --device cpu.",
        )
    content = _graph(network, entry, seed if row.checkpoint is None else None, weights, exported)
    start = _start_onnxruntime if row.engine == "onnxruntime" else _start_openvino
    opened = ExportedZooNetwork(entry, f"{row.engine} fp32", start(content, cpu_threads(row.threads)))
    _compare(opened, network, entry)
    return opened


class Normalised(nn.Module):
    """A published network of pictures (B, H, W, 3) uint8 RGB."""

    mean: torch.Tensor
    factor: torch.Tensor

    def __init__(self, network: nn.Module, entry: ZooEntry) -> None:
        super().__init__()
        self.network = network
        self.swapped = entry.normalisation.endswith("bgr")
        mean, deviation = NORMALISATIONS[entry.normalisation]
        self.register_buffer("mean", torch.tensor(mean))
        self.register_buffer("factor", 1 / torch.tensor(deviation))

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return the head's tensors."""
        values = images.flip(-1) if self.swapped else images
        values = (values.to(torch.float32) - self.mean) * self.factor
        return tuple(self.network(values.permute(0, 3, 1, 2)))


class ExportedZooNetwork:
    """A published network that a runtime runs from its graph.

    Args:
        entry: what the catalogue says about it.
        name: runtime and precision.
        run: from pictures (B, H, W, 3) uint8 RGB to the tensors of the head.
    """

    def __init__(self, entry: ZooEntry, name: str, run: Callable[[NDArray[np.uint8]], Tensors]) -> None:
        self.entry = entry
        self.name = name
        self._run = run

    def run(self, images: NDArray[np.uint8]) -> Tensors:
        """Return the tensors of the head, in its order, for (B, H, W, 3) uint8 RGB pictures of the network's input."""
        return self._run(np.ascontiguousarray(images))


def _size(entry: ZooEntry) -> tuple[int, int]:
    return entry.input_size or TRACED if entry.head == "joint_maps" else TRACED


def _graph(network: nn.Module, entry: ZooEntry, seed: int | None, weights: str, folder: Path) -> bytes:
    """Return the network as ONNX: of any batch, and of any size unless it works on crops."""
    says = [entry.name, entry.input_size, seed, weights, torch.__version__, __version__]
    path = folder / f"{entry.name}.{hashlib.sha256(json.dumps(says).encode()).hexdigest()[:12]}.onnx"
    if path.is_file():
        return path.read_bytes()
    log.info("Exporting %s to ONNX", entry.name)
    example = torch.zeros(2, *_size(entry), 3, dtype=torch.uint8)
    open_dims = (0,) if entry.head == "joint_maps" else (0, 1, 2)
    try:
        with quiet():
            program = torch.onnx.export(
                Normalised(network, entry).eval(), (example,), dynamo=True, verbose=False, external_data=False,
                opset_version=OPSET, input_names=["images"],
                dynamic_shapes=(dict.fromkeys(open_dims, torch.export.Dim.AUTO),),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise ModelFileError(f"torch {torch.__version__} cannot express {entry.name} in ONNX: {error}") from error
    assert program is not None  # dynamo=True always returns one
    content = program.model_proto.SerializeToString()
    write_bytes(path, content)
    return content


def _start_onnxruntime(content: bytes, threads: int) -> Callable[[NDArray[np.uint8]], Tensors]:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: tuple(session.run(None, {"images": images}))


def _start_openvino(content: bytes, threads: int) -> Callable[[NDArray[np.uint8]], Tensors]:
    core = openvino_core()
    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    request = core.compile_model(core.read_model(content, b""), "CPU", config).create_infer_request()

    def run(images: NDArray[np.uint8]) -> Tensors:
        request.infer([images], share_inputs=True)
        return tuple(np.array(tensor.data) for tensor in request.output_tensors)

    return run


def _compare(opened: ZooNetwork, network: nn.Module, entry: ZooEntry) -> None:
    """Refuse a runtime that says something else than torch about a noisy picture."""
    pictures = np.random.default_rng(0).integers(0, 256, (1, *_size(entry), 3), np.uint8)
    expected = TorchZooNetwork(network, entry).run(pictures)
    for number, (ours, theirs) in enumerate(zip(opened.run(pictures), expected, strict=True)):
        apart = float(np.abs(ours - theirs).max() / max(float(np.abs(theirs).max()), 1e-12))
        if not apart <= TOLERANCE:
            raise ModelFileError(
                f"{opened.name} says something else than torch: output {number} of '{entry.name}' is off by "
                f"{apart:.2g} of its largest value, more than {TOLERANCE:g}.",
                "Run this row on torch: leave 'engine' out.",
            )
