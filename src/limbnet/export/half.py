"""FP16 on the graph itself: from the normalised input of the first convolution to the last convolutions' outputs.

The pixels' normalisation stays in float32 and so do the outputs, so that a file is used alike in either precision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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


def check_half_range(
    model: ModelProto,
    batches: Iterable[NDArray[np.float32]],
    info: ModelInfo,
    *,
    threads: int | None = None,
    done: Callable[[], None] | None = None,
) -> None:
    """Raise a `ModelFileError` when a convolution's values on real pictures come near the end of float16.

    A CPU computes float16 graphs in float32 and hides what happens on a GPU: values beyond 65504 become infinite, and
    people disappear.

    Args:
        model: the float32 graph.
        batches: (B, H, W, 3) float32, normalised.
        info: the model's normalisation.
        threads: CPU threads.
        done: called after each batch.
    """
    tensors = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    largest = calibrate(model, tensors, batches, info, method="minmax", threads=threads, done=done)
    wide = {name: value for name, value in largest.items() if value > LARGEST * HEADROOM}
    if wide:
        listed = ", ".join(f"'{name}' ({value:.0f})" for name, value in wide.items())
        raise ModelFileError(
            f"The network's values leave the range of float16 (up to {LARGEST:.0f}) behind {listed}.",
            "Export fp32 or int8 instead. Batch norm in the backbone keeps values small.",
        )


def to_half(model: ModelProto) -> ModelProto:
    """Return a copy of a float32 graph that computes in float16.

    The places at which a GridSample reads stay in float32: on a large map a step of float16 is a good part of a cell.

    Raises:
        ModelFileError: a weight is too large for float16.
    """
    from onnx import TensorProto, helper

    changed = copy_model(model)
    wiring = Wiring(changed)
    half = _half_nodes(wiring)
    _convert_constants(wiring, half)
    floats, casts = _float_tensors(model), dict[tuple[str, bool], str]()
    types = {True: TensorProto.FLOAT16, False: TensorProto.FLOAT}
    nodes: list[NodeProto] = []
    for node in changed.graph.node:
        wanted = node.output[0] in half
        for index, name in enumerate(node.input):
            if name not in floats or (name in half) == wanted or (node.op_type == "GridSample" and index == 1):
                continue
            if (name, wanted) not in casts:
                casts[name, wanted] = cast = f"{name}/{'half' if wanted else 'float'}"
                nodes.append(helper.make_node("Cast", [name], [cast], name=cast, to=types[wanted]))
            node.input[index] = casts[name, wanted]
        nodes.append(node)
    replace_nodes(changed, _with_float_outputs(nodes, [name for name in wiring.outputs if name in half]))
    return changed


def _half_nodes(wiring: Wiring) -> set[str]:
    """Return the outputs of the nodes that shall compute in float16: all behind the first convolution's input but those
    that compute where a GridSample reads, or turn a size into a float.
    """
    from onnx import TensorProto

    reached = {next(node for node in wiring.model.graph.node if node.op_type == "Conv").input[0]}
    half: set[str] = set()
    for node in wiring.model.graph.node:
        if reached & set(node.input):
            reached |= set(node.output)
            if node.op_type != "Cast" or node.attribute[0].i != TensorProto.FLOAT:
                half |= set(node.output)
    places = [node.input[1] for node in wiring.model.graph.node if node.op_type == "GridSample"]
    while places:
        made = wiring.producer.get(places.pop())
        if made is not None and made.op_type != "Conv" and half & set(made.output):
            half -= set(made.output)
            places += made.input
    return half


def _convert_constants(wiring: Wiring, half: Collection[str]) -> None:
    """Store the constants that nodes in float16 read as float16; what others read too is stored twice."""
    nodes = wiring.model.graph.node
    inside = [node for node in nodes if node.output[0] in half]
    others = {name for node in nodes if node.output[0] not in half for name in node.input}
    for name in {name for node in inside for name in node.input if wiring.is_constant(name)}:
        values = wiring.constant(name)
        if values.dtype != np.float32 or _is_scale(name, inside):
            continue
        if np.abs(values).max(initial=0) > LARGEST:
            raise ModelFileError(f"The weights of '{name}' do not fit into float16.", "Export fp32 or int8.")
        stored = f"{name}/half" if name in others else name
        wiring.set_constant(stored, values.astype(np.float16))
        for node in inside if stored != name else ():
            for index, used in enumerate(node.input):
                node.input[index] = stored if used == name else used


def _float_tensors(model: ModelProto) -> set[str]:
    """Return the float32 tensors that nodes make; the others hold sizes and places."""
    from onnx import TensorProto, shape_inference

    inferred = shape_inference.infer_shapes(model).graph
    values = (*inferred.value_info, *inferred.output)
    return {value.name for value in values if value.type.tensor_type.elem_type == TensorProto.FLOAT}


def _with_float_outputs(nodes: Sequence[NodeProto], outputs: Collection[str]) -> list[NodeProto]:
    """Let nodes make these outputs of the graph in float16 under other names, and cast them to float32 behind."""
    from onnx import TensorProto, helper

    changed: list[NodeProto] = []
    for node in nodes:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                names[index] = f"{name}/half" if name in outputs else name
        if node.name in outputs:
            node.name = f"{node.name}/half"
        changed.append(node)
        for name in node.output:
            if (plain := name.removesuffix("/half")) in outputs:
                changed.append(helper.make_node("Cast", [name], [plain], name=plain, to=TensorProto.FLOAT))
    return changed


def _is_scale(name: str, nodes: Sequence[NodeProto]) -> bool:
    """Tell whether a constant is a Resize node's scale, which is float32 whatever it resizes."""
    return all(node.op_type == "Resize" for node in nodes if name in node.input)
