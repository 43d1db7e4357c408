"""Networks and skeletons small enough for a test."""

from __future__ import annotations

import pytest
from networks import make_model

from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.skeleton import Skeleton


@pytest.fixture
def small() -> BodyPoseNet:
    """A narrow Lite network of two stages."""
    return make_model(width=0.05, stages=2)


@pytest.fixture(scope="session")
def hand() -> Skeleton:
    """A skeleton that has nothing in common with the body's."""
    return Skeleton.from_names("hand", ["wrist", "thumb", "index", "little"],
                               [("wrist", "thumb"), ("wrist", "index"), ("wrist", "little")])  # fmt: skip
