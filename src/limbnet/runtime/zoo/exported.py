"""A published network as an ONNX graph, run by ONNX Runtime or OpenVINO."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from limbnet.models.zoo.catalogue import ZooEntry
from limbnet.runtime.onnxruntime_engine import start_session
from limbnet.runtime.openvino_engine import compile_network, read_graph
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.signature import Precision
from limbnet.runtime.zoo.network import Tensors

if TYPE_CHECKING:
    from onnx import ModelProto

#: The metadata entry, JSON, that says which network a graph is and what was done to it.
ZOO_KEY = "limbnet.zoo"

ZooEngine = Literal["onnxruntime", "openvino"]

#: From what a graph takes to the tensors of the head.
Run = Callable[[NDArray[Any]], Tensors]


class ExportedZooNetwork:
    """A published network that a runtime runs from its graph, on the CPU.

    Args:
        graph: with `ZOO_KEY` in its metadata.
        entry: what the catalogue says about the network.
        engine: the runtime.
        threads: CPU threads, the default of `cpu_threads` when None.

    Raises:
        DeviceError: the runtime is not installed.
        EngineRefusal: it cannot run the graph.
    """

    def __init__(self, graph: ModelProto, entry: ZooEntry, engine: ZooEngine, threads: int | None = None) -> None:
        self.entry = entry
        precision: Precision = zoo_facts(graph)["precision"]
        self.name = f"{engine} {precision}"
        named = f"'{entry.name}' in {precision}"
        self._run = _START[engine](graph, precision, threads, named)

    def run(self, images: NDArray[np.uint8]) -> Tensors:
        """Return the tensors of the head, in its order, for (B, H, W, 3) uint8 RGB pictures of the network's input.

        DEKR's rescoring network takes features (B, F) float32 instead.

        Raises:
            EngineRefusal: the runtime finds while it runs that it cannot.
        """
        try:
            return self._run(np.ascontiguousarray(images))
        except EngineRefusal:
            raise
        except Exception as error:  # the runtimes' own exceptions share no base class but this one
            raise EngineRefusal(self.name, error, f"'{self.entry.name}'") from error


def zoo_facts(graph: ModelProto) -> dict[str, Any]:
    """Return what a graph says about itself: network, precision, size of its input, ..."""
    facts: dict[str, Any] = json.loads(next(one.value for one in graph.metadata_props if one.key == ZOO_KEY))
    return facts


def set_zoo_facts(graph: ModelProto, facts: Mapping[str, Any]) -> None:
    """Write into a graph what it says about itself."""
    del graph.metadata_props[:]
    graph.metadata_props.add(key=ZOO_KEY, value=json.dumps(dict(facts)))


def _onnxruntime(graph: ModelProto, precision: Precision, threads: int | None, named: str) -> Run:
    session = start_session(graph, precision, threads=threads, named=named)
    given, outputs = graph.graph.input[0].name, [value.name for value in graph.graph.output]
    return lambda values: tuple(session.run(outputs, {given: values}))


def _openvino(graph: ModelProto, precision: Precision, threads: int | None, named: str) -> Run:
    del precision  # the graph's own
    compiled = compile_network(read_graph(graph, named), threads=threads)
    request, outputs = compiled.create_infer_request(), [value.name for value in graph.graph.output]

    def run(values: NDArray[Any]) -> Tensors:
        request.infer([values], share_inputs=True)
        return tuple(np.array(request.get_tensor(name).data) for name in outputs)  # its buffers are used again

    return run


_START: dict[ZooEngine, Callable[[ModelProto, Precision, int | None, str], Run]] = {
    "onnxruntime": _onnxruntime,
    "openvino": _openvino,
}
