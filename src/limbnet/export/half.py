"""FP16 on the graph itself: from the normalised input of the first convolution to the last convolutions' outputs.

The pixels' normalisation stays in float32 and so do the outputs, so that a file is used alike in either precision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbnet.data.calibration import normalised
from limbnet.errors import ModelFileError
from limbnet.export.calibrate import calibrate
from limbnet.export.wiring import Wiring, copy_model, replace_nodes
from limbnet.models.info import ModelInfo

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

#: Largest float16.
LARGEST = float(np.finfo(np.float16).max)

#: Share of that range which the pictures of the check may use; others may go further.
HEADROOM = 0.5


def check_half_range(model: ModelProto, images: NDArray[np.uint8], info: ModelInfo) -> None:
    """Raise a `ModelFileError` when a convolution's values on real pictures come near the end of float16.

    A CPU computes float16 graphs in float32 and hides what happens on a GPU: values beyond 65504 become infinite, and
    people disappear.

    Args:
        model: the float32 graph.
        images: (B, H, W, 3) uint8 RGB that fill the input.
        info: the model's normalisation.
    """
    tensors = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    batches = (normalised(image[None], info) for image in images)
    largest = calibrate(model, tensors, batches, info, method="minmax")
    wide = {name: value for name, value in largest.items() if value > LARGEST * HEADROOM}
    if wide:
        listed = ", ".join(f"'{name}' ({value:.0f})" for name, value in wide.items())
        raise ModelFileError(
            f"The network's values leave the range of float16 (up to {LARGEST:.0f}) behind {listed}.",
            "Export fp32 or int8 instead. Batch norm in the backbone keeps values small.",
        )


def to_half(model: ModelProto) -> ModelProto:
    """Return a copy of a float32 graph that computes in float16.

    Raises:
        ModelFileError: a weight is too large for float16.
    """
    from onnx import TensorProto, helper

    changed = copy_model(model)
    wiring = Wiring(changed)
    first = next(node for node in changed.graph.node if node.op_type == "Conv").input[0]
    inside = _inside(wiring, first)
    for name in {name for node in inside for name in node.input if wiring.is_constant(name)}:
        values = wiring.constant(name)
        if values.dtype == np.float32 and not _is_scale(name, inside):
            if np.abs(values).max(initial=0) > LARGEST:
                raise ModelFileError(f"The weights of '{name}' do not fit into float16.", "Export fp32 or int8.")
            wiring.set_constant(name, values.astype(np.float16))
    cast, members = f"{first}/half", [node.output[0] for node in inside]
    nodes: list[NodeProto] = []
    for node in changed.graph.node:
        if node.output[0] not in members:
            nodes.append(node)
            continue
        if node.output[0] == members[0]:
            nodes.append(helper.make_node("Cast", [first], [cast], name=cast, to=TensorProto.FLOAT16))
        for index, name in enumerate(node.input):
            node.input[index] = cast if name == first else name
        nodes.append(node)
        if node.output[0] in wiring.outputs:
            name = node.output[0]
            node.name = node.output[0] = f"{name}/half"
            nodes.append(helper.make_node("Cast", [node.name], [name], name=name, to=TensorProto.FLOAT))
    replace_nodes(changed, nodes)
    return changed


def _inside(wiring: Wiring, first: str) -> list[NodeProto]:
    """Return the nodes behind the first convolution's input, in order."""
    reached, nodes = {first}, []
    for node in wiring.model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            nodes.append(node)
    return nodes


def _is_scale(name: str, nodes: list[NodeProto]) -> bool:
    """Tell whether a constant is a Resize node's scale, which is float32 whatever it resizes."""
    return all(node.op_type == "Resize" for node in nodes if name in node.input)
