"""Narrow weights: no sum of INT8 products is lost, whatever the processor adds them in."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from limbnet.runtime import onnxruntime_engine, openvino_engine, overflow
from limbnet.runtime.onnxruntime_engine import start_session
from limbnet.runtime.openvino_engine import compiled_model
from limbnet.runtime.unsigned import with_unsigned_activations

#: Weight shapes (out, in / groups, h, w) and groups of the convolutions that are tried; the last one is depthwise.
KINDS = {
    "1x1": ((8, 32, 1, 1), 1),
    "3x3": ((8, 32, 3, 3), 1),
    "colours": ((8, 3, 3, 3), 1),
    "grouped": ((8, 8, 3, 3), 4),
    "depthwise": ((32, 1, 3, 3), 32),
}
ENGINES = ("onnxruntime", "openvino")


def convolution(shape: tuple[int, ...], groups: int, least: int, activation: str = "Identity") -> ModelProto:
    """An INT8 convolution with weights from `least` to 127; its output is quantised too."""
    rng = np.random.default_rng(0)
    reach = shape[2] // 2
    constants: dict[str, NDArray] = {
        "step": np.array(0.02, np.float32),
        "zero": np.array(0, np.int8),
        "kernel": rng.integers(least, 128, shape).astype(np.int8),
        "kernel_step": rng.uniform(0.01, 0.02, shape[0]).astype(np.float32),
        "kernel_zero": np.zeros(shape[0], np.int8),
        "made_step": np.array(np.prod(shape[1:]) * 127 * 0.02 * 127 * 0.02 / 127, np.float32),
    }
    nodes = [
        helper.make_node(activation, ["x"], ["active"]),
        helper.make_node("QuantizeLinear", ["active", "step", "zero"], ["stored"]),
        helper.make_node("DequantizeLinear", ["stored", "step", "zero"], ["read"]),
        helper.make_node("DequantizeLinear", ["kernel", "kernel_step", "kernel_zero"], ["weight"], axis=0),
        helper.make_node("Conv", ["read", "weight"], ["sums"], pads=[reach] * 4, group=groups),
        helper.make_node("QuantizeLinear", ["sums", "made_step", "zero"], ["made"]),
        helper.make_node("DequantizeLinear", ["made", "made_step", "zero"], ["y"]),
    ]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "convolution",
        [value("x", TensorProto.FLOAT, [1, shape[1] * groups, 8, 8])],
        [value("y", TensorProto.FLOAT, [1, shape[0], 8, 8])],
        [numpy_helper.from_array(constant, name) for name, constant in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def bright(model: ModelProto) -> NDArray[np.float32]:
    """Values of 100 to 125 steps, which unsigned activations store as 228 to 253 where there is no ReLU."""
    shape = [side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim]
    return np.random.default_rng(1).uniform(2, 2.5, shape).astype(np.float32)


def exact(model: ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the graph says with unsigned activations, computed in floats."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    content = with_unsigned_activations(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": values})[0])


def run(engine: str, model: ModelProto, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """What limbnet lets a runtime compute."""
    if engine == "openvino":
        return np.asarray(compiled_model(model)(values)[0])
    return np.asarray(start_session(model, "int8", threads=1).run(None, {"x": values})[0])


@pytest.fixture(params=[False, True], ids=["as it is", "narrow"])
def narrow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether weights are narrow: as this processor wants it, and always."""
    if request.param:
        for module in (onnxruntime_engine, openvino_engine):
            monkeypatch.setattr(module, "products_overflow", lambda: True)
    return request.param


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("least", [-127, 120])
@pytest.mark.usefixtures("narrow")
def test_nothing_is_lost(engine: str, kind: str, least: int) -> None:
    model = convolution(*KINDS[kind], least=least)
    values = bright(model)
    expected = exact(model, values)
    step = 2 * numpy_helper.to_array(model.graph.initializer[-1])  # the output's; half one weight's on both sides
    np.testing.assert_allclose(run(engine, model, values), expected, atol=step + 0.02 * np.abs(expected).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("narrow")
def test_behind_a_relu_weights_keep_their_eight_bits(engine: str, kind: str) -> None:
    model = convolution(*KINDS[kind], least=-127, activation="Relu")
    values = bright(model)
    step = numpy_helper.to_array(model.graph.initializer[-1])
    np.testing.assert_allclose(run(engine, model, values), exact(model, values), atol=1.01 * step)
    assert not overflow.reads_int8_weights(with_unsigned_activations(model))


@pytest.mark.parametrize(
    ("name", "asked"),
    [("ONNX Runtime", onnxruntime_engine.products_overflow), ("OpenVINO", openvino_engine.products_overflow)],
)
def test_what_the_runtime_says_is_so(name: str, asked: Callable[[], bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without narrow weights the sums are wrong exactly where the runtime was seen to overflow."""
    overflowed = asked()
    for module in (onnxruntime_engine, openvino_engine):
        monkeypatch.setattr(module, "products_overflow", lambda: False)
    model = convolution(*KINDS["1x1"], least=120)
    values = bright(model)
    expected = exact(model, values)
    found = run("openvino" if name == "OpenVINO" else "onnxruntime", model, values)
    assert (np.abs(found - expected).max() > 0.2 * np.ptp(expected)) == overflowed


def test_narrow_weights_are_the_nearest_of_half_as_many() -> None:
    model = convolution(*KINDS["grouped"], least=-127)
    narrow = overflow.with_narrow_weights(model)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in narrow.graph.initializer}
    before, after = constants["kernel"].astype(int), constants["kernel/narrow"].astype(int)
    assert np.abs(after).max() <= 64
    assert np.abs(2 * after - before).max() == 1
    np.testing.assert_array_equal(constants["kernel_step/narrow"], 2 * constants["kernel_step"])
    assert 255 * 2 * np.abs(after).max() <= 32767
    assert not overflow.reads_int8_weights(convolution(*KINDS["depthwise"], least=-127))


def test_weights_that_two_layers_share_are_narrowed_once() -> None:
    model = convolution(*KINDS["1x1"], least=-127)
    again = [type(node).FromString(node.SerializeToString()) for node in model.graph.node[3:5]]
    again[0].output[0] = again[1].input[1] = "weight again"
    again[1].output[0] = "y2"
    model.graph.node.extend(again)
    narrow = overflow.with_narrow_weights(model)
    readers = [node for node in narrow.graph.node if node.input[0].startswith("kernel")]
    assert [list(node.input) for node in readers] == [["kernel/narrow", "kernel_step/narrow", "kernel_zero"]] * 2
    assert np.abs(numpy_helper.to_array(narrow.graph.initializer[-2])).max() == 64
