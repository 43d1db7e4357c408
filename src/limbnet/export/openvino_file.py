"""OpenVINO's own files: an `.xml` that says about itself what the ONNX file says, and the `.bin` of its weights."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from limbnet.encryption import seal
from limbnet.errors import missing_package
from limbnet.files import write_bytes
from limbnet.runtime.onnx_file import OnnxNetwork
from limbnet.runtime.openvino_engine import RT_INFO, read_network


def write_openvino(path: Path, network: OnnxNetwork, key: str | None = None) -> None:
    """Convert an ONNX network and write `path` (.xml) and the `.bin` beside it; with a key both are encrypted.

    Weights of fp16 networks are stored in float16. The weights are written first, so an `.xml` never points at nothing.
    """
    try:
        import openvino
    except ImportError:
        raise missing_package("openvino", "Writing an OpenVINO file") from None
    model = read_network(network)
    said = {
        "info": network.info.to_dict(),
        "signature": network.signature.to_dict(),
        "source_digest": network.digest,
        "model_hash": network.model_hash,
    }
    model.set_rt_info(json.dumps(said), list(RT_INFO))
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "model.xml"
        openvino.save_model(model, plain, compress_to_fp16=network.signature.precision == "fp16")
        for part in (".bin", ".xml"):
            content = plain.with_suffix(part).read_bytes()
            write_bytes(path.with_suffix(part), seal(content, key) if key is not None else content)
