"""Engine files from an exported network: TensorRT's `.engine` and OpenVINO's `.xml`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from limbnet.errors import UsageError
from limbnet.export.openvino_file import write_openvino
from limbnet.export.tensorrt_build import Profile, build_engine
from limbnet.runtime.engine_file import write_engine
from limbnet.runtime.onnx_file import OnnxNetwork


@dataclass(frozen=True)
class EngineRequest:
    """An engine file that is to be built.

    Attributes:
        path: `.xml` means OpenVINO, anything else TensorRT.
        architectures: GPU architectures to build for ahead of time; none means the GPU at hand.
        best_batch, max_batch: batches that a TensorRT engine is tuned for, and takes at most.
        workspace: bytes of GPU memory that TensorRT may use to build.
    """

    path: Path
    architectures: tuple[str, ...] = ()
    best_batch: int = 1
    max_batch: int = 1
    workspace: int | None = None

    def check(self, *, overwrite: bool) -> None:
        """Raise a `UsageError` when the file exists and may not be replaced."""
        if self.path.exists() and not overwrite:
            raise UsageError(f"'{self.path}' exists.", "Choose another engine file, or add --overwrite.")


def write_engine_file(
    network: OnnxNetwork,
    request: EngineRequest,
    size: tuple[int, int],
    *,
    profile: Profile | None = None,
    key: str | None = None,
) -> None:
    """Build an engine file, encrypted with a key.

    Args:
        network: what to build.
        request: where to, and for what.
        size: (height, width) of the one input size that a TensorRT engine takes, unless there is a `profile`.
        profile: the shapes that a TensorRT engine takes.
        key: seals the file.

    Raises:
        DeviceError: the runtime is missing, or there is no such GPU.
        ModelFileError: the runtime refuses the network.
    """
    if request.path.suffix.lower() == ".xml":
        write_openvino(request.path, network, key)
        return
    profile = profile or Profile.strict(
        network.signature, size, min(request.best_batch, request.max_batch), request.max_batch
    )
    header, plan = build_engine(network, profile, architectures=request.architectures, workspace=request.workspace)
    write_engine(request.path, header, plan, key)
