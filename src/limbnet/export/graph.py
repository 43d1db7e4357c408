"""From a torch network to a tidy ONNX graph whose tensors are called after the network's layers."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import re
import warnings
from collections import Counter
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from limbnet import __version__
from limbnet.errors import ModelFileError, missing_package
from limbnet.export.deployable import Deployable
from limbnet.export.wiring import Wiring, needed_nodes, replace_nodes
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import INFO_KEY, MODEL_HASH_KEY, SIGNATURE_KEY
from limbnet.runtime.refusal import EngineRefusal
from limbnet.runtime.signature import Signature

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from onnx import ModelProto, NodeProto

#: Per-channel DequantizeLinear came with 13; 18 is the oldest that torch writes, and every runtime reads it.
OPSET = 18

#: Sizes of the example that the graph is traced with; only its strides matter.
_EXAMPLE = (2, 64, 96)


def build_graph(network: nn.Module, info: ModelInfo, signature: Signature) -> ModelProto:
    """Export a network to an ONNX graph in memory, batch norms folded, padding inside the convolutions.

    A convolution's output is called after its layer, a ReLU's `<layer>/relu`, and so on; the input and the outputs
    carry the signature's names. Batch, height and width are open unless the signature fixes them.

    Args:
        network: in evaluation or training mode; exported as in evaluation.
        info: goes into the metadata.
        signature: what the graph takes and returns; `precision` is written down only: the graph is float32.

    Raises:
        DeviceError: onnx or onnxscript is missing.
        ModelFileError: torch cannot express the network in ONNX.
    """
    module = Deployable(network, info, signature)
    example = torch.zeros(signature.input_shape(_EXAMPLE[0], _EXAMPLE[1:]))
    if signature.input_type == "uint8":
        example = example.to(torch.uint8)
    rows, columns = (1, 2) if signature.data_format == "channels_last" else (2, 3)
    outputs = [signature.heatmap_name, signature.paf_name]
    model = trace(module, example, [signature.input_name], outputs, open_axes=(0, rows, columns))
    _name_sides(model, signature, info.stride)
    set_signature(model, info, signature, model_hash(network, info))
    check_graph(model)
    return model


def trace(
    module: nn.Module, example: torch.Tensor, inputs: Sequence[str], outputs: Sequence[str], open_axes: Collection[int]
) -> ModelProto:
    """Trace a module whose network is its attribute `net` into a tidy graph.

    Args:
        module: in evaluation mode.
        example: its input; only its strides matter along `open_axes`.
        inputs: names of the graph's inputs.
        outputs: and of its outputs.
        open_axes: axes of the input that may have any length.

    Raises:
        DeviceError: onnx or onnxscript is missing.
        EngineRefusal: torch cannot express the module in ONNX.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401 (torch's exporter needs it)
    except ImportError as error:
        raise missing_package(error.name or "onnx", "Exporting to ONNX") from None
    try:
        with quiet():
            program = torch.onnx.export(
                module, (example,), dynamo=True, verbose=False, external_data=False, opset_version=OPSET,
                input_names=list(inputs), output_names=list(outputs),
                dynamic_shapes=(dict.fromkeys(open_axes, torch.export.Dim.AUTO),),
            )  # fmt: skip
    except torch.onnx.OnnxExporterError as error:
        raise EngineRefusal(f"The ONNX exporter of torch {torch.__version__}", error) from error
    assert program is not None  # dynamo=True always returns one
    model = program.model_proto
    _tidy(model)
    return model


def check_graph(model: ModelProto) -> None:
    """Let ONNX's own checker look at a graph; what it finds is a mistake of the exporter."""
    import onnx

    onnx.checker.check_model(model, full_check=True)


def model_hash(network: nn.Module, info: ModelInfo) -> str:
    """Return a hash of all that decides what a network computes: its weights and its normalisation."""
    digest = hashlib.sha256(repr((info.image_scale, info.image_offset, info.colour_order, info.stride)).encode())
    for name, tensor in sorted(network.state_dict().items()):
        values = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.reshape(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return digest.hexdigest()


def set_signature(model: ModelProto, info: ModelInfo, signature: Signature, network_hash: str) -> None:
    """Write into the metadata what the file is: all that `read_onnx` reads."""
    content = {
        INFO_KEY: json.dumps(info.to_dict()),
        SIGNATURE_KEY: json.dumps(signature.to_dict()),
        MODEL_HASH_KEY: network_hash,
    }
    others = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    for key, value in (others | content).items():
        model.metadata_props.add(key=key, value=value)


@contextmanager
def quiet() -> Iterator[None]:
    """Silence torch's exporter, which reports progress and other packages' absence on every channel there is."""
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
        levels = [logger.level for logger in loggers]
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def _tidy(model: ModelProto) -> None:
    """Name nodes and tensors after the layers, and drop the tracer's notes."""
    graph = model.graph
    left = sorted({node.op_type for node in graph.node if node.op_type in ("BatchNormalization", "If", "Loop")})
    if left:
        raise ModelFileError(f"The exported graph still holds {', '.join(left)}: onnxscript did not fold it.")
    _fold_constants(model)
    _take_sizes_from_partners(model)
    _give_each_use_its_weights(model)
    _rename(model, _tensor_names(model))
    model.producer_name, model.producer_version = "limbnet", __version__
    model.doc_string = ""
    del model.metadata_props[:], graph.metadata_props[:], graph.value_info[:]
    graph.name, graph.doc_string = "limbnet", ""
    described: tuple[Any, ...] = (*graph.node, *graph.initializer, *graph.input, *graph.output)
    for item in described:
        del item.metadata_props[:]
        item.doc_string = ""
    for node in graph.node:
        node.name = node.output[0]


def _fold_constants(model: ModelProto) -> None:
    """Compute what hangs on constants alone, such as an attention's three weights that are cut out of one tensor."""
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    wiring = Wiring(model)
    known, folded, others = {""}, [], []
    for node in model.graph.node:
        if node.input and all(wiring.is_constant(name) or name in known for name in node.input):
            known |= set(node.output)
            folded.append(node)
        else:
            others.append(node)
    if not folded:
        return
    wanted = sorted(known & {name for node in others for name in node.input if name})
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    part = helper.make_graph(folded, "constants", [], outputs, list(model.graph.initializer))
    values = ReferenceEvaluator(helper.make_model(part, opset_imports=model.opset_import)).run(None, {})
    for name, value in zip(wanted, values, strict=True):
        wiring.set_constant(name, value)
    replace_nodes(model, others)
    wiring.drop_unused_constants()


def _take_sizes_from_partners(model: ModelProto) -> None:
    """Let features that are enlarged to be added to finer ones take their size from those.

    The tracer computes it from the sides of the input instead, which ties every such place to the graph's beginning.
    """
    from onnx import helper

    wiring = Wiring(model)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        users = wiring.consumers.get(node.output[0], [])
        if node.op_type == "Resize" and len(node.input) == 4 and [user.op_type for user in users] == ["Add"]:
            (partner,) = (name for name in users[0].input if name != node.output[0])
            sizes = f"{node.output[0]}/sizes"
            nodes.append(helper.make_node("Shape", [partner], [sizes]))
            node.input[3] = sizes
        nodes.append(node)
    replace_nodes(model, needed_nodes(nodes, wiring.outputs))
    Wiring(model).drop_unused_constants()


def _give_each_use_its_weights(model: ModelProto) -> None:
    """Copy the weights of convolutions that run more than once: the second use of `<layer>` is called `level2/<layer>`.

    What quantisation does to weights depends on the activations, which differ from use to use (an image pyramid's
    levels). `runtime.sharing` puts together again what stayed alike.
    """
    wiring = Wiring(model)
    uses: Counter[str] = Counter()
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        weight = node.input[1]
        uses[weight] += 1
        for place in range(1, len(node.input)) if uses[weight] > 1 else ():
            name = node.input[place]
            node.input[place] = f"level{uses[weight]}/{name.removeprefix('net.')}"
            wiring.set_constant(node.input[place], wiring.constant(name))


def each_use(model: ModelProto, layers: Collection[str]) -> list[str]:
    """Return the names of convolutions in a graph, those of their further uses too, in the order in which they run."""
    return [name for name in Wiring(model).convolutions() if re.sub(r"^level\d/", "", name) in layers]


def _tensor_names(model: ModelProto) -> dict[str, str]:
    """Plan the new name of every tensor inside the graph: `<layer>` or `<layer>/<operation>`."""
    names = {weight.name: re.sub(r"^net\.", "", weight.name) for weight in model.graph.initializer}
    names = {old: re.sub(r"\.weight_bias$", ".bias", new) for old, new in names.items()}
    fixed = [value.name for value in (*model.graph.input, *model.graph.output)]
    taken = {*fixed, *names.values()}
    layer = {value.name: "input" for value in model.graph.input}
    for node in model.graph.node:
        conv = node.op_type == "Conv"
        source = re.sub(r"\.weight$", "", names[node.input[1]]) if conv else _layer_before(node, layer)
        for output in node.output:
            layer[output] = source
            if output in taken:
                continue
            plain = source if conv and source not in taken else f"{source}/{node.op_type.lower()}"
            name = next(name for name in (plain, *(f"{plain}_{n}" for n in range(2, 1000))) if name not in taken)
            taken.add(name)
            names[output] = name
    return names


def _layer_before(node: NodeProto, layer: Mapping[str, str]) -> str:
    """Return the layer whose output a node works on; what is made of constants alone belongs to none."""
    return next((layer[name] for name in node.input if name in layer), "constant")


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    for node in model.graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                tensors[index] = names.get(name, name)
    for weight in model.graph.initializer:
        weight.name = names[weight.name]


def _name_sides(model: ModelProto, signature: Signature, stride: int) -> None:
    """Call the open sides batch, height and width, and fix those that the signature fixes."""
    last = signature.data_format == "channels_last"
    height, width = signature.fixed_size or (None, None)
    step = {signature.heatmap_name: stride, signature.paf_name: stride // signature.paf_upsampling}
    for value in (*model.graph.input, *model.graph.output):
        cells = step.get(value.name, 1)
        sides: list[Any] = [
            signature.fixed_batch or "batch",
            height // cells if height else ("height" if cells == 1 else f"height/{cells}"),
            width // cells if width else ("width" if cells == 1 else f"width/{cells}"),
        ]
        dims = value.type.tensor_type.shape.dim
        for dim, side in zip((dims[0], dims[1], dims[2]) if last else (dims[0], dims[2], dims[3]), sides, strict=True):
            dim.Clear()
            if isinstance(side, int):
                dim.dim_value = side
            else:
                dim.dim_param = side
