"""The runtimes of a study's published networks: torch, or ONNX Runtime and OpenVINO on an exported graph."""

from __future__ import annotations

import hashlib
import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from numpy.typing import NDArray
from torch import nn

from limbnet import __version__
from limbnet.benchmark.memory import give_memory_back
from limbnet.benchmark.study_data import StudyData
from limbnet.benchmark.study_inputs import compared, study_inputs
from limbnet.console import progress
from limbnet.errors import DeviceError, ModelFileError, missing_package
from limbnet.export.zoo import compare_zoo, in_precision, zoo_graph
from limbnet.files import write_bytes
from limbnet.models.zoo import ZooEntry, create_model
from limbnet.models.zoo.weights import load_weights
from limbnet.runtime.onnx_file import parse_onnx
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.signature import Precision
from limbnet.runtime.zoo.exported import ExportedZooNetwork, ZooEngine
from limbnet.runtime.zoo.network import TorchZooNetwork, ZooNetwork
from limbnet.specs.study import StudyEngine, StudyRow

if TYPE_CHECKING:
    from onnx import ModelProto

log = logging.getLogger(__name__)

#: Packages that runtimes need, and the extra of limbnet that installs them.
PACKAGES: dict[str, tuple[tuple[str, ...], str | None]] = {
    "onnxruntime": (("onnxruntime", "onnx", "onnxscript"), None),
    "onnxruntime-tensorrt": (("onnxruntime",), None),
    "openvino": (("openvino", "onnx", "onnxscript"), None),
    "openvino-throughput": (("openvino",), None),
    "tensorrt": (("tensorrt_rtx",), "tensorrt"),
}


def check_engine(engine: StudyEngine | None, precision: Precision = "fp32") -> None:
    """Raise a `DeviceError` when a runtime is not installed, or what makes a graph of another precision for it."""
    packages, extra = PACKAGES.get(engine or "torch", ((), None))
    calibrated = engine == "openvino" and precision != "fp32"
    for package in (*packages, "onnxruntime") if calibrated else packages:
        if find_spec(package) is None:
            raise missing_package(package, f"The engine '{engine}'", extra)


def open_zoo_network(
    entry: ZooEntry, row: StudyRow, device: str, data: StudyData, *, seed: int, weights: str, exported: Path
) -> tuple[ZooNetwork, dict[str, Any]]:
    """Build a published network with the row's weights, or initial ones, on the row's runtime.

    Args:
        entry: the network, with the joints and at the input size wanted.
        row: names weights, runtime and precision.
        device: where it runs.
        data: pictures for ranges and for the comparison with torch.
        seed: of initial weights.
        weights: hash of the weight file, "" for initial weights.
        exported: folder of graphs; what is there is used again.

    Returns:
        The network, and for an exported one how far it is from torch.

    Raises:
        DeviceError: the runtime has no such device.
        EngineRefusal: the graph cannot be exported, or the runtime cannot run it or says something else than torch.
    """
    network = create_model(entry.name, joints=entry.joints, input_size=entry.input_size, seed=seed)
    if row.checkpoint is not None:
        load_weights(network, entry, row.checkpoint)
    if row.engine in (None, "torch"):
        return TorchZooNetwork(network, entry, device), {}
    if device != "cpu":
        raise DeviceError(
            f"Published networks run on {row.engine} on the CPU only, and '{device}' was asked for.",
            "Leave 'engine' out for torch, or run the study with --device cpu.",
        )
    reference = TorchZooNetwork(network, entry)
    inputs = study_inputs(reference, data, row.boxes)
    made_of = [weights or f"seed {seed}", torch.__version__, __version__]
    graph = _graph(network, entry, row, inputs, exported, made_of=made_of, pictures=data.fingerprint)
    opened = ExportedZooNetwork(graph, entry, cast(ZooEngine, row.engine), row.threads)
    deviation = compare_zoo(reference, opened, row.precision, compared(reference, inputs), strict=bool(weights))
    del network, reference, graph, inputs
    give_memory_back()
    return opened, {"from_torch": {"largest": deviation.largest, "mean": deviation.mean}}


def _graph(
    network: nn.Module,
    entry: ZooEntry,
    row: StudyRow,
    inputs: list[NDArray[Any]],
    folder: Path,
    *,
    made_of: list[str],
    pictures: str,
) -> ModelProto:
    """Return a network in the row's precision. Float graphs do not depend on the pictures, so studies share them.

    Initial weights may leave the range of float16. That says nothing about trained ones, so nothing is refused.
    """
    path = _path(folder, entry, "fp32", made_of)
    graph = _stored(path)
    if graph is None:
        log.info("Exporting %s to ONNX", entry.name)
        graph = zoo_graph(network, entry)
        write_bytes(path, graph.SerializeToString())
    if row.precision == "fp32":
        return graph
    calibrated = row.precision == "int8"
    path = _path(folder, entry, row.precision, [*made_of, *((pictures, row.boxes) if calibrated else ())])
    kept = _stored(path)
    if kept is not None:
        return kept
    shown = inputs if calibrated or row.checkpoint is not None else []
    try:
        with progress() as bars:
            task = bars.add_task(f"{entry.name} to {row.precision}", total=len(shown))
            graph = in_precision(graph, entry, row.precision, shown, done=lambda: bars.advance(task))
    except EngineRefusal:
        raise
    except ModelFileError as error:
        raise EngineRefusal(f"{row.engine} {row.precision}", error.what, f"'{entry.name}'") from error
    write_bytes(path, graph.SerializeToString())
    return graph


def _path(folder: Path, entry: ZooEntry, precision: Precision, made_of: list[Any]) -> Path:
    digest = hashlib.sha256(json.dumps([entry.name, entry.input_size, precision, *made_of]).encode()).hexdigest()
    return folder / f"{entry.name}.{precision}.{digest[:12]}.onnx"


def _stored(path: Path) -> ModelProto | None:
    return parse_onnx(path.read_bytes(), path) if path.is_file() else None
