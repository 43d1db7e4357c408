"""limbnet: train, prune, quantise, measure and deploy bottom-up multi-person 2D pose networks.

>>> import limbnet
>>> estimator = limbnet.load("bpnet_model.tlt")
>>> poses = estimator("picture.jpg")
>>> poses.keypoints.shape  # (P, K, 2)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbnet.poses import Poses
    from limbnet.runtime.load import load
    from limbnet.runtime.predictor import PoseEstimator

    __version__: str

__all__ = ["PoseEstimator", "Poses", "__version__", "load"]

#: Where the public names live; each is imported when it is first used, so that `import limbnet` stays quick.
_HOMES = {
    "Poses": "limbnet.poses",
    "PoseEstimator": "limbnet.runtime.predictor",
    "load": "limbnet.runtime.load",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("limbnet")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'limbnet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
