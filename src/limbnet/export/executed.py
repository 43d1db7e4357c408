"""How much of a network really runs in INT8: read off the graph that an engine executes, not off the file."""

from __future__ import annotations

import tempfile
from collections.abc import Collection
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from limbnet.export.wiring import Wiring, layer_of
from limbnet.runtime.openvino_engine import compiled_model
from limbnet.runtime.unsigned import with_unsigned_activations

if TYPE_CHECKING:
    from onnx import ModelProto

#: ONNX Runtime's operations that multiply in INT8.
_INT8_OPERATIONS = ("QLinearConv", "ConvInteger")


@dataclass(frozen=True)
class Int8Share:
    """What one engine computes in INT8.

    Attributes:
        engine: runtime and version.
        share: multiply-adds in INT8 over all multiply-adds of convolutions.
        float_layers: convolutions that ran in float.
    """

    engine: str
    share: float
    float_layers: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.engine}: {100 * self.share:.1f} % of the multiply-adds in INT8"


def multiply_adds(model: ModelProto) -> dict[str, int]:
    """Count the multiply-adds of each convolution, by layer, up to one common factor: the size of the input's map.

    Sizes follow from the strides; the padding of every layer is "same". Where maps of several sizes meet, the coarser
    ones have been enlarged.
    """
    wiring = Wiring(model)
    spacing: dict[str, int] = {value.name: 1 for value in model.graph.input}
    counts: dict[str, tuple[int, int]] = {}
    for node in model.graph.node:
        known = [spacing[name] for name in node.input if name in spacing]
        if not known:  # of constants alone, as a weight that is dequantised
            continue
        stride = next((item.ints[0] for item in node.attribute if item.name == "strides"), 1)
        for name in node.output:
            finest = min(known)
            spacing[name] = finest // stride if node.op_type == "ConvTranspose" else finest * stride
        if node.op_type == "Conv":
            counts[layer_of(node)] = (_weight_size(wiring, node.input[1]), spacing[node.output[0]])
    coarsest = max((step for _, step in counts.values()), default=1)
    return {name: size * (coarsest // step) ** 2 for name, (size, step) in counts.items()}


def _weight_size(wiring: Wiring, name: str) -> int:
    stored = name if wiring.is_constant(name) else wiring.producer[name].input[0]
    return int(wiring.constant(stored).size)


def shares(model: ModelProto) -> list[Int8Share]:
    """Count the INT8 share of a graph in ONNX Runtime, and in OpenVINO where it is installed."""
    found = [share_in_onnxruntime(model)]
    return [*found, share_in_openvino(model)] if find_spec("openvino") is not None else found


def share_in_openvino(model: ModelProto) -> Int8Share:
    """Compile a graph with OpenVINO for this CPU and count what its executable graph runs in INT8."""
    import openvino

    compiled = compiled_model(model)
    integer: set[str] = set()
    for operation in compiled.get_runtime_model().get_ops():
        facts = operation.get_rt_info()
        if facts["layerType"].astype(str) == "Convolution" and facts["runtimePrecision"].astype(str) in ("i8", "u8"):
            integer |= set(facts["originalLayersNames"].astype(str).split(","))
    return _share(model, integer, f"OpenVINO {openvino.__version__.split('-')[0]}")


def share_in_onnxruntime(model: ModelProto) -> Int8Share:
    """Let ONNX Runtime optimise a graph for this CPU and count what the optimised graph runs in INT8."""
    import onnx
    import onnxruntime as ort

    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        content = with_unsigned_activations(model).SerializeToString()
        ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        optimised = onnx.load(options.optimized_model_filepath)
    made = {node.input[3] for node in optimised.graph.node if node.op_type in _INT8_OPERATIONS}
    convolutions = Wiring(model).convolutions().items()
    weights = {layer: node.input[1].replace("/dequantized", "/quantized") for layer, node in convolutions}
    integer = {layer for layer, weight in weights.items() if any(name.startswith(weight) for name in made)}
    return _share(model, integer, f"ONNX Runtime {ort.__version__}")


def _share(model: ModelProto, integer: Collection[str], engine: str) -> Int8Share:
    counts = multiply_adds(model)
    inside = sum(count for layer, count in counts.items() if layer in integer)
    left = tuple(layer for layer in counts if layer not in integer)
    return Int8Share(engine, inside / max(sum(counts.values()), 1), left)
