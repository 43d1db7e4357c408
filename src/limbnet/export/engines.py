"""Engine files from an exported network: TensorRT's `.engine` and OpenVINO's `.xml`."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from limbnet.errors import UsageError, missing_package
from limbnet.export.openvino_file import write_openvino
from limbnet.export.tensorrt_build import Profile, build_engine, find_builder
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

    @property
    def is_openvino(self) -> bool:
        """Tell whose file it is."""
        return self.path.suffix.lower() == ".xml"

    def check(self, *, overwrite: bool) -> None:
        """Find out before any long work whether the file can be built.

        Raises:
            UsageError: it exists and may not be replaced, or the batches contradict each other.
            DeviceError: the runtime is missing, or there is no such GPU.
        """
        if self.path.exists() and not overwrite:
            raise UsageError(f"'{self.path}' exists.", "Choose another engine file, or add --overwrite.")
        if self.best_batch > self.max_batch:
            raise UsageError(
                f"The engine is to be tuned for batches of {self.best_batch}, but takes {self.max_batch} at most.",
                f"Use --max_batch_size {self.best_batch}.",
            )
        if not self.is_openvino:
            find_builder(self.architectures)
        elif find_spec("openvino") is None:
            raise missing_package("openvino", "Writing an OpenVINO file")


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
    if request.is_openvino:
        write_openvino(request.path, network, key)
        return
    profile = profile or Profile.strict(network.signature, size, request.best_batch, request.max_batch)
    header, plan = build_engine(network, profile, architectures=request.architectures, workspace=request.workspace)
    write_engine(request.path, header, plan, key)
