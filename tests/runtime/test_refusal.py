"""What runtimes really say about operators that they do not have, and what limbnet makes of it."""

from __future__ import annotations

import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from torch import nn

from limbnet.export.graph import trace
from limbnet.runtime.onnxruntime_engine import start_session
from limbnet.runtime.openvino_engine import read_graph
from limbnet.runtime.refusal import EngineRefusal, named_operators


def graph(operator: str, domain: str = "") -> ModelProto:
    """A graph of a single node."""
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", [3, 3]), ("y", None))
    ]
    node = helper.make_node(operator, ["x"], ["y"], name="node", domain=domain)
    opsets = [helper.make_opsetid("", 18), *([helper.make_opsetid(domain, 1)] if domain else [])]
    return helper.make_model(
        helper.make_graph([node], "graph", values[:1], values[1:]), opset_imports=opsets, ir_version=10
    )


def test_openvino_names_an_operator_that_onnx_has_and_it_has_not() -> None:
    start_session(graph("Det"), "fp32", threads=1)  # ONNX Runtime has it
    with pytest.raises(EngineRefusal, match="No conversion rule found for operations: Det") as raised:
        read_graph(graph("Det"))
    assert raised.value.operators == ("Det",)
    assert raised.value.reason == "No conversion rule found for operations: Det-18"
    assert raised.value.engine.startswith("OpenVINO 20")


@pytest.mark.parametrize(
    ("operator", "domain", "named"), [("Knows", "nobody", "nobody:Knows"), ("Nonsense", "", "Nonsense")]
)
def test_onnx_runtime_names_an_operator_that_nobody_has(operator: str, domain: str, named: str) -> None:
    with pytest.raises(EngineRefusal) as raised:
        start_session(graph(operator, domain), "fp32", threads=1, named="'file.onnx'")
    assert raised.value.operators == (named,)
    assert "refuses 'file.onnx'" in raised.value.what


class Eigenvalues(nn.Module):
    """ONNX has no operator for them."""

    def forward(self, matrices: torch.Tensor) -> torch.Tensor:
        return torch.linalg.eigvalsh(matrices)


def test_torchs_exporter_names_an_operator_that_onnx_has_not() -> None:
    with pytest.raises(EngineRefusal) as raised:
        trace(Eigenvalues().eval(), torch.eye(3)[None].repeat(2, 1, 1), ["x"], ["y"], (0,))
    assert any("eig" in name for name in raised.value.operators), raised.value.said


@pytest.mark.parametrize(
    ("message", "operators"),
    [
        ("NOT_IMPLEMENTED : Could not find an implementation for GridSample(20) node with name 'a'", ("GridSample",)),
        ("Non-zero status code returned while running Conv node. Name:'a' Status Message: b", ("Conv",)),
        ("Type 'tensor(int8)' of input parameter (x) of operator (Conv) in node (n) is invalid.", ("Conv",)),
        ("-- No conversion rule found for operations: Det-18, my.Deform", ("Det", "my.Deform")),
        ("its answer is off by 1e-1 of the range of torch's", ()),
    ],
)
def test_operators_in_messages(message: str, operators: tuple[str, ...]) -> None:
    assert named_operators(message) == operators
