"""Every network through torch's ONNX exporter and ONNX Runtime, in FP32 against torch."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from zoo_lively import enliven

from limbnet.models.zoo import CATALOGUE, create_model

#: Operators a network needs beyond convolutions and arithmetic.
SPECIAL = {
    "dekr_w32_512": {"GridSample": 34},
    "dekr_w48_640": {"GridSample": 34},
    "openpose_body25": {"PRelu": 99},
    "transpose_r_a3_256x192": {"LayerNormalization": 6, "Softmax": 3, "ConvTranspose": 1},
    "transpose_h_a6_256x192": {"LayerNormalization": 12, "Softmax": 6},
    "higherhrnet_w32_512": {"ConvTranspose": 1},
}


#: One name for each architecture; FPD's and DarkPose's are HRNet's.
ARCHITECTURES = {entry.fingerprint: name for name, entry in reversed(CATALOGUE.items())}


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("name", ARCHITECTURES.values())
@pytest.mark.filterwarnings("ignore")
def test_exported_network_agrees_with_torch(name: str, tmp_path: Path) -> None:
    size = (64, 96)
    entry = CATALOGUE[name]
    network = enliven(create_model(name, input_size=size if name.startswith("transpose") else None))
    shape = (3, 74) if entry.input_size is None else (1, 3, *size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(images)

    path = tmp_path / "network.onnx"
    names = list(type(expected)._fields)
    torch.onnx.export(network, (images,), path, dynamo=True, input_names=["images"], output_names=names, verbose=False)
    graph = onnx.load(path, load_external_data=False).graph
    operators = Counter(node.op_type for node in graph.node)
    assert {kind: operators[kind] for kind in SPECIAL.get(name, {})} == SPECIAL.get(name, {})

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [output.name for output in session.get_outputs()] == names
    for found, wanted in zip(session.run(None, {"images": images.numpy()}), expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() <= 1e-4 * wanted.abs().max()
