"""How far network and decoder are from what this processor can do, on one core, in processor time.

The limits are measured, not read from a data sheet: multiply-adds a second of large matrix products in FP32 and in
INT8, and bytes a second of copying more than the caches hold. Beside them stand BodyPoseNet's 3-stage Lite network at
288x384 on OpenVINO, and decoding, whose least work is to read its maps once.

Run: python benchmarks/limits.py
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from int8 import random_checkpoint
from limbnet.benchmark.crowds import crowd_maps
from limbnet.console import set_up_logging
from limbnet.decode.bottomup import decode_maps
from limbnet.export.exporting import ExportSettings, export_file
from limbnet.export.int8 import Calibration
from limbnet.models.checkpoint import load_model
from limbnet.models.counting import count_cost
from limbnet.runtime.load import load_engine
from limbnet.runtime.openvino_engine import compiled_model
from limbnet.runtime.signature import Precision
from limbnet.skeleton import BODY_18
from reporting import report

EXAMPLES = Path(__file__).resolve().parent.parent / "examples/images"
SIZE, STRIDE, PEOPLE = (288, 384), 8, 5
MATRIX, COPIED = 1536, 256 << 20


def main() -> None:
    set_up_logging("ERROR")
    torch.set_num_threads(1)
    kinds: tuple[Precision, ...] = ("fp32", "int8")
    peaks = {kind: max(MATRIX**3 / seconds(product) for product in products(kind)) for kind in kinds}
    source = np.zeros(COPIED, np.uint8)
    target = np.empty_like(source)
    bandwidth = 2 * COPIED / seconds(lambda: np.copyto(target, source))
    rows = [(f"{kind} matrix product", f"{1e-9 * peak:.0f} G multiply-adds/s", "") for kind, peak in peaks.items()]
    rows.append(("copying", f"{1e-9 * bandwidth:.0f} GB/s", ""))
    result: dict[str, float] = {f"{kind}_peak": peak for kind, peak in peaks.items()} | {"bandwidth": bandwidth}
    for precision in kinds:
        rate = network(precision)
        result |= {precision: rate}
        share = f"{100 * rate / peaks[precision]:.0f} % of the matrix product's"
        rows.append((f"3-stage network, {precision}", f"{1e-9 * rate:.0f} G multiply-adds/s", share))
    maps = crowd_maps(PEOPLE, BODY_18, SIZE, STRIDE)
    spent, least = (
        seconds(lambda: decode_maps(*maps, BODY_18, STRIDE), 200),
        sum(one.nbytes for one in maps) / bandwidth,
    )
    result |= {"decode_seconds": spent, "reading_seconds": least}
    rows.append(
        (f"decoding {PEOPLE} people", f"{1000 * spent:.2f} ms", f"reading the maps once: {1000 * least:.3f} ms")
    )
    report("limits", ("what", "measured", "share of the limit"), rows, result)


def products(precision: Precision) -> list[Callable[[], object]]:
    """Return a large matrix product by the libraries that may be quick here.

    Those are oneDNN, through OpenVINO or torch, and for INT8 also ONNX Runtime's kernels: oneDNN has none of its own
    for processors without dot-product instructions.
    """
    rng = np.random.default_rng(0)
    if precision == "int8":
        whole = torch.randint(-127, 128, (2, MATRIX, MATRIX), dtype=torch.int8)
        left = rng.integers(0, 256, (MATRIX, MATRIX), np.uint8)
        right = rng.integers(-64, 65, (MATRIX, MATRIX), np.int8)
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        model = one_product("MatMulInteger", TensorProto.UINT8, TensorProto.INT32, right).SerializeToString()
        session = ort.InferenceSession(model, options, ["CPUExecutionProvider"])
        return [lambda: torch._int_mm(whole[0], whole[1]), lambda: session.run(None, {"left": left})]
    left, right = rng.standard_normal((2, MATRIX, MATRIX)).astype(np.float32)
    request = compiled_model(one_product("MatMul", TensorProto.FLOAT, TensorProto.FLOAT, right)).create_infer_request()
    return [lambda: request.infer({"left": left}, share_inputs=True)]


def one_product(operator: str, given: int, made: int, right: NDArray[np.generic]) -> ModelProto:
    """Return a graph that multiplies its input by a constant matrix."""
    value = partial(helper.make_tensor_value_info, shape=(MATRIX, MATRIX))
    node = helper.make_node(operator, ["left", "right"], ["product"])
    constant = numpy_helper.from_array(right, "right")
    graph = helper.make_graph([node], "product", [value("left", given)], [value("product", made)], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def network(precision: Precision) -> float:
    """Return multiply-adds a second of one core."""
    with tempfile.TemporaryDirectory() as temporary:
        model, path = Path(temporary) / "model.tlt", Path(temporary) / "model.onnx"
        random_checkpoint(model)
        export_file(
            model, path, ExportSettings(precision, SIZE), calibration=Calibration(image_dir=EXAMPLES, batches=2)
        )
        engine = load_engine(path, engine="openvino", device="cpu", threads=1)
        cost = count_cost(load_model(model).model, SIZE).multiply_adds
    picture = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), dtype=np.uint8)
    return cost / seconds(lambda: engine.run(picture), 8)


def seconds(work: Callable[[], object], rounds: int = 8) -> float:
    """Return the median processor time of a call."""
    work()
    times = []
    for _ in range(rounds):
        begun = time.process_time()
        work()
        times.append(time.process_time() - begun)
    return statistics.median(times)


if __name__ == "__main__":
    main()
