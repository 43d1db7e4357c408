"""What the export tests share: a small network and real pictures of its size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from lively import SIZE, STICK, lively_model
from numpy.typing import NDArray

from limbnet.data.pictures import read_picture
from limbnet.geometry import fit
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.info import ModelInfo


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
