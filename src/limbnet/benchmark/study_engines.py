"""The runtimes of a study's published networks."""

from __future__ import annotations

from importlib.util import find_spec

from limbnet.errors import missing_package
from limbnet.models.zoo import ZooEntry, create_model
from limbnet.models.zoo.weights import load_weights
from limbnet.runtime.zoo.network import TorchZooNetwork, ZooNetwork
from limbnet.specs.study import StudyEngine, StudyRow

#: Packages that runtimes need, and the extra of limbnet that installs them, if any.
PACKAGES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "onnxruntime": (("onnxruntime", "onnx", "onnxscript"), None),
    "onnxruntime-tensorrt": (("onnxruntime",), None),
    "openvino": (("openvino",), None),
    "openvino-throughput": (("openvino",), None),
    "tensorrt": (("tensorrt_rtx",), "tensorrt"),
}


def check_engine(engine: StudyEngine | None) -> None:
    """Raise a `DeviceError` when a runtime is not installed."""
    packages, extra = PACKAGES.get(engine or "torch", ((), None))
    for package in packages:
        if find_spec(package) is None:
            raise missing_package(package, f"The engine '{engine}'", extra)


def open_zoo_network(entry: ZooEntry, row: StudyRow, device: str, seed: int) -> ZooNetwork:
    """Build a published network with the row's weights, or initial ones, on the row's runtime."""
    network = create_model(entry.name, input_size=entry.input_size, seed=seed)
    if row.checkpoint is not None:
        load_weights(network, entry, row.checkpoint)
    return TorchZooNetwork(network, entry, device)
