"""Unsigned activations: the same values as the signed ones of the file, and what OpenVINO makes of them."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from limbnet.runtime.openvino_engine import compiled_model, products_overflow
from limbnet.runtime.overflow import with_narrow_weights
from limbnet.runtime.unsigned import with_unsigned_activations

PARTS = (8, 3, 5)


def joined(rng: np.random.Generator) -> ModelProto:
    """Three 1x1 convolutions whose outputs are joined, quantised and read by one in INT8; the shapes are fixed."""
    channels = sum(PARTS)
    constants: dict[str, NDArray] = {
        "scale": np.array(0.02, np.float32),
        "zero": np.array(0, np.int8),
        "kernel": rng.integers(-127, 128, (4, channels, 3, 3)).astype(np.int8),
        "kernel_scale": np.full(4, 0.01, np.float32),
        "kernel_zero": np.zeros(4, np.int8),
    }
    nodes = []
    for number, width in enumerate(PARTS):
        constants[f"part{number}"] = rng.normal(size=(width, 3, 1, 1)).astype(np.float32)
        nodes.append(helper.make_node("Conv", ["x", f"part{number}"], [f"made{number}"]))
    nodes += [
        helper.make_node("Concat", [f"made{number}" for number in range(len(PARTS))], ["joined"], axis=1),
        helper.make_node("QuantizeLinear", ["joined", "scale", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "scale", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["kernel", "kernel_scale", "kernel_zero"], ["weight"], axis=0),
        helper.make_node("Conv", ["read", "weight"], ["y"], pads=[1, 1, 1, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "joined",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 8, 8])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def plain(model: ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What ONNX Runtime computes without changing the graph."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    (result,) = session.run(None, {"x": values})
    return np.asarray(result)


@pytest.mark.parametrize("seed", range(3))
def test_openvino_keeps_the_scale_behind_a_concatenation(seed: int) -> None:
    """Read as signed integers, with fixed shapes, OpenVINO 2026.4 took 1 for it: off by 3 % of the range and more."""
    rng = np.random.default_rng(seed)
    model, values = joined(rng), rng.normal(size=(1, 3, 8, 8)).astype(np.float32)
    expected = plain(model, values)
    np.testing.assert_allclose(plain(with_unsigned_activations(model), values), expected, atol=1e-4)
    if products_overflow():
        expected = plain(with_narrow_weights(model), values)
    (found,) = compiled_model(model)(values).values()
    np.testing.assert_allclose(found, expected, atol=1e-3 * np.ptp(expected))
