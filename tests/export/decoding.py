"""The decoding part of a graph alone: maps in, peaks and limb scores out."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from limbnet.decode.people import People
from limbnet.export.decoder_graph import with_decoding
from limbnet.models.info import ModelInfo
from limbnet.runtime.candidates import PeakTables
from limbnet.runtime.signature import Signature

SIGNATURE = Signature(data_format="channels_first", input_name="heatmaps", decode="peaks")


def decoder_model(info: ModelInfo) -> onnx.ModelProto:
    """A graph whose network is nothing: it takes heatmaps (B, K + 1, h, w) and pafs (B, 2 L, h, w)."""
    channels = {"heatmaps": info.skeleton.heat_channels, "pafs": info.skeleton.paf_channels}
    outputs = dict(zip(channels, (SIGNATURE.heatmap_name, SIGNATURE.paf_name), strict=True))
    sides = {name: ["batch", count, "height", "width"] for name, count in channels.items()}
    graph = helper.make_graph(
        [helper.make_node("Identity", [name], [outputs[name]], name=name) for name in channels],
        "maps",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, sides[name]) for name in channels],
        [helper.make_tensor_value_info(outputs[name], TensorProto.FLOAT, sides[name]) for name in channels],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    decoded = with_decoding(model, info, SIGNATURE)
    onnx.checker.check_model(decoded, full_check=True)
    return decoded


class Decoder:
    """Runs such a graph on one thread of ONNX Runtime or OpenVINO, as the engines do (`trimmed`) or as it stands."""

    def __init__(self, info: ModelInfo, runtime: str = "onnxruntime", *, trimmed: bool = True) -> None:
        from limbnet.runtime.trimming import with_trimmed_decoding

        self.info = info
        model = decoder_model(info)
        content = (with_trimmed_decoding(model) if trimmed else model).SerializeToString()
        if runtime == "onnxruntime":
            import onnxruntime as ort

            options = ort.SessionOptions()
            options.intra_op_num_threads, options.log_severity_level = 1, 3
            self._session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            self._run = lambda given: self._session.run(list(SIGNATURE.output_names), given)
        else:
            from limbnet.runtime.openvino_engine import openvino_core

            config = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
            compiled = openvino_core().compile_model(openvino_core().read_model(content, b""), "CPU", config)
            request = compiled.create_infer_request()

            def run(given: dict[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
                found = request.infer(given)
                return [np.array(found[name]) for name in SIGNATURE.output_names]

            self._run = run

    def tables(self, heatmaps: NDArray[np.float32], pafs: NDArray[np.float32]) -> PeakTables:
        return PeakTables(*self._run({"heatmaps": heatmaps, "pafs": pafs}))

    def people(self, heatmaps: NDArray[np.float32], pafs: NDArray[np.float32]) -> People:
        """Decode one picture's maps (C, h, w)."""
        return self.tables(heatmaps[None], pafs[None]).people(0, self.info, self.info.decoder)
