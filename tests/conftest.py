"""Fixtures that every room's tests share."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Put back what a command sets up for its console: the next test may listen for messages that it would silence."""
    root, ours = logging.getLogger(), logging.getLogger("limbnet")
    before = root.handlers[:], root.level, ours.level
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])
    logging.captureWarnings(False)


@pytest.fixture(scope="session")
def root() -> Path:
    """The checkout."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real pictures that may lie beside the checkout; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the development pictures are not beside the checkout (../shared/data)")
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real model file: two stages, very narrow, random weights. It finds nobody, but everything runs."""
    import torch

    from limbnet.models.bodyposenet import build_model, initialise
    from limbnet.models.checkpoint import save_model
    from limbnet.models.info import ModelInfo
    from limbnet.skeleton import BODY_18
    from limbnet.specs.train import BackboneAttributes, ModelSpec

    torch.manual_seed(0)
    spec = ModelSpec(stages=2, width=0.0625, backbone_attributes=BackboneAttributes(width=0.0625))
    model = build_model(spec, BODY_18)
    initialise(model, "xavier")
    path = tmp_path_factory.mktemp("model") / "bpnet_model.tlt"
    save_model(path, model, ModelInfo(BODY_18, stride=model.stride, input_size=(64, 96)))
    return path
