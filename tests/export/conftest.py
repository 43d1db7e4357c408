"""What the export tests share: a small network and real pictures of its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lively import SIZE, STICK, lively_model
from numpy.typing import NDArray

from limbnet.data.calibration import CalibrationPictures, choose_pictures
from limbnet.data.pictures import read_picture
from limbnet.export.calibrate import calibrate
from limbnet.export.graph import build_graph, set_signature
from limbnet.export.quantise import calibrated_tensors, head_layers, quantise
from limbnet.geometry import fit
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.checkpoint import save_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.onnx_file import OnnxNetwork, network_of
from limbnet.runtime.signature import Signature


@pytest.fixture(scope="session")
def model() -> BodyPoseNet:
    return lively_model()


@pytest.fixture(scope="session")
def info() -> ModelInfo:
    return ModelInfo(STICK, input_size=SIZE)


@pytest.fixture(scope="session")
def image_dir(root: Path) -> Path:
    return root / "examples" / "images"


@pytest.fixture(scope="session")
def pictures(image_dir: Path) -> NDArray[np.uint8]:
    """(4, H, W, 3): real pictures that fill the network's input."""
    paths = sorted(image_dir.glob("*.jpg"))[:4]
    loaded = [read_picture(path) for path in paths]
    return np.stack([fit(picture.shape[:2], SIZE, "pad_image_input", 8).image(picture) for picture in loaded])


@pytest.fixture(scope="session")
def checkpoint(model: BodyPoseNet, info: ModelInfo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "model.tlt"
    save_model(path, model, info)
    return path


@pytest.fixture(scope="session")
def network(model: BodyPoseNet, info: ModelInfo) -> OnnxNetwork:
    """The float32 export."""
    return network_of(build_graph(model, info, Signature()), Path("network.onnx"))


@pytest.fixture(scope="session")
def calibration_pictures(image_dir: Path, info: ModelInfo) -> CalibrationPictures:
    return choose_pictures(image_dir, 6, 1, SIZE, info)


@pytest.fixture(scope="session")
def ranges(network: OnnxNetwork, info: ModelInfo, calibration_pictures: CalibrationPictures) -> dict[str, float]:
    """Of every tensor that may be quantised, by the largest value."""
    tensors = calibrated_tensors(network.model)
    return calibrate(network.model, tensors, calibration_pictures, info, method="minmax", threads=1)


@pytest.fixture(scope="session")
def int8_network(network: OnnxNetwork, ranges: dict[str, float], info: ModelInfo) -> OnnxNetwork:
    """The INT8 network with float heads."""
    quantised = quantise(network.model, ranges, head_layers(network.model))
    set_signature(quantised, info, Signature(precision="int8"), network.model_hash)
    return network_of(quantised, Path("int8.onnx"))
