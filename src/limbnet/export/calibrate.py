"""Calibration: run a float graph on real pictures and see which values its tensors take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from limbnet.errors import ModelFileError, missing_package
from limbnet.export.quantise import STEPS
from limbnet.export.ranges import DEFAULT_METHOD, Histogram, Method
from limbnet.export.wiring import Wiring, copy_model, needed_nodes, replace_nodes
from limbnet.models.info import ModelInfo

if TYPE_CHECKING:
    from onnx import ModelProto


def calibrate(
    model: ModelProto,
    tensors: Sequence[str],
    batches: Iterable[NDArray[np.float32]],
    info: ModelInfo,
    *,
    method: Method = DEFAULT_METHOD,
    percentile: float = 99.99,
    threads: int | None = None,
    done: Callable[[], None] | None = None,
    first_range: float | None = None,
) -> dict[str, float]:
    """Return, by tensor, the absolute value that the largest int8 step should stand for.

    Args:
        model: the float32 graph.
        tensors: those of `calibrated_tensors`.
        batches: (B, H, W, 3) float32, normalised, in the network's colour order.
        info: its normalisation gives the range of the input, which is not measured.
        method: how a range follows from the values.
        percentile: of the absolute values, for the method of that name.
        threads: CPU threads.
        done: called after each batch.
        first_range: of the first convolution's input, where that is no picture.

    Raises:
        ModelFileError: the network's values are not finite on some picture.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        raise missing_package("onnxruntime", "Calibration") from None
    first, tapped = _tapped(model, tensors)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    if threads is not None:
        options.intra_op_num_threads = threads
    session = ort.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in tapped.graph.output]
    histograms = {name: Histogram() for name in names}
    for batch in batches:
        values = session.run(names, {first: np.ascontiguousarray(batch.transpose(0, 3, 1, 2))})
        for name, value in zip(names, values, strict=True):
            try:
                histograms[name].add(value)
            except ValueError as error:
                raise ModelFileError(
                    f"The network gives {error} behind '{name}' on a calibration picture.",
                    "Its training diverged: use an earlier checkpoint.",
                ) from error
        if done:
            done()
    ranges = {name: histogram.range(method, percentile) for name, histogram in histograms.items()}
    if first not in ranges:
        ranges[first] = input_range(info) if first_range is None else first_range
    return {name: ranges[name] for name in tensors}


def input_range(info: ModelInfo) -> float:
    """Return the range of the normalised pixels.

    When every pixel value lies on an int8 step of size 1 / scale, as with BodyPoseNet's (x - 128) / 256, this is the
    range of these steps: the input is then quantised without any loss.
    """
    pixels = np.arange(256)[:, None]
    scale, offset = np.array(info.image_scale), np.array(info.image_offset)
    steps = pixels - offset * scale
    if (
        np.ptp(scale) == 0
        and np.array_equal(steps, np.rint(steps))
        and steps.min() >= -STEPS - 1
        and steps.max() <= STEPS
    ):
        return float(STEPS / scale[0])
    return float(np.abs(pixels / scale - offset).max())


def _tapped(model: ModelProto, tensors: Sequence[str]) -> tuple[str, ModelProto]:
    """Return the graph from the first convolution on, with the tensors as its outputs, and its input's name.

    Sizes that were read off the pictures are read off the first convolution's input instead.
    """
    from onnx import TensorProto, helper

    tapped = copy_model(model)
    graph = tapped.graph
    conv = next(node for node in graph.node if node.op_type == "Conv")
    first, channels = conv.input[0], Wiring(model).constant(conv.input[1]).shape[1]
    pictures = graph.input[0]
    last = pictures.type.tensor_type.shape.dim[-1].dim_value == 3
    layout = helper.make_node("Transpose", [first], [pictures.name], perm=[0, 2, 3, 1] if last else [0, 1, 2, 3])
    nodes = [layout, *(node for node in graph.node if first not in node.output)]
    replace_nodes(tapped, needed_nodes(nodes, tensors))
    del graph.input[:], graph.output[:], graph.value_info[:]
    graph.input.append(helper.make_tensor_value_info(first, TensorProto.FLOAT, ["batch", channels, "height", "width"]))
    for name in tensors:
        if name != first:
            graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return first, tapped
