"""Build TensorRT engines: on the GPU at hand, or with TensorRT-RTX ahead of time for an architecture that is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limbnet.errors import DeviceError, ModelFileError, UsageError, nearest
from limbnet.geometry import check_input_size
from limbnet.runtime.engine_file import EngineHeader, Flavour
from limbnet.runtime.onnx_file import OnnxNetwork
from limbnet.runtime.signature import Signature
from limbnet.runtime.tensorrt_engine import import_flavour

Shape = tuple[int, int, int, int]


@dataclass(frozen=True)
class Profile:
    """The input shapes an engine takes: the smallest, the one it is tuned for, and the largest."""

    smallest: Shape
    best: Shape
    largest: Shape

    @classmethod
    def strict(cls, signature: Signature, size: tuple[int, int], best_batch: int, max_batch: int) -> Profile:
        """One input size of (height, width), batches of 1 to `max_batch`."""
        first = signature.fixed_batch or 1
        return cls(
            signature.input_shape(first, size),
            signature.input_shape(signature.fixed_batch or best_batch, size),
            signature.input_shape(signature.fixed_batch or max_batch, size),
        )

    @classmethod
    def parse(cls, text: str) -> tuple[str, Profile]:
        """Read `input_1:0,1x288x384x3,4x288x384x3,8x288x384x3` and return the input's name and the profile.

        Raises:
            UsageError: it is of another form.
        """
        match = re.fullmatch(r"(.+?),(\d+(?:x\d+){3}),(\d+(?:x\d+){3}),(\d+(?:x\d+){3})", text)
        if match is None:
            raise UsageError(
                f"The profile '{text}' is not like 'input_1:0,1x288x384x3,1x288x384x3,8x288x384x3'.",
                "Give the input's name, then its smallest, best and largest shape.",
            )
        smallest, best, largest = (tuple(int(side) for side in part.split("x")) for part in match.groups()[1:])
        return match[1], cls(smallest, best, largest)  # type: ignore[arg-type]

    @property
    def shapes(self) -> tuple[Shape, Shape, Shape]:
        """Smallest, best, largest."""
        return self.smallest, self.best, self.largest

    def check(self, network: OnnxNetwork) -> None:
        """Raise a `UsageError` or `SpecError` unless the shapes suit the network."""
        signature = network.signature
        expected = signature.input_shape(1, (0, 0))
        problems = []
        for shape in self.shapes:
            text = "x".join(map(str, shape))
            if any(want == 3 and side != 3 for want, side in zip(expected[1:], shape[1:], strict=True)):
                problems.append(f"{text} is no shape of {signature.data_format} pictures")
                continue
            height, width = shape[1:3] if signature.data_format == "channels_last" else shape[2:4]
            check_input_size((height, width), network.info.stride)
            if signature.fixed_size not in (None, (height, width)):
                problems.append(f"{text}: the network takes {signature.fixed_size} (height, width) only")
        if any(not low <= best <= high for low, best, high in zip(self.smallest, self.best, self.largest, strict=True)):
            problems.append("the shapes must not shrink from the smallest to the largest")
        if problems:
            raise UsageError("The profile does not suit the network:\n  " + "\n  ".join(problems))


def build_engine(
    network: OnnxNetwork,
    profile: Profile,
    *,
    architectures: Sequence[str] = (),
    workspace: int | None = None,
    flavour: Flavour | None = None,
) -> tuple[EngineHeader, bytes]:
    """Build a plan.

    Args:
        network: what to build; its precision is the graph's own (Q/DQ nodes, float16 weights).
        profile: the input shapes.
        architectures: GPU architectures such as `sm86`, TensorRT-RTX only; none means the GPU at hand.
        workspace: bytes of GPU memory that the build may use.
        flavour: `tensorrt` or `tensorrt_rtx`; when None, RTX for named architectures and otherwise what is installed.

    Raises:
        DeviceError: the library is missing, knows no such architecture, or there is no GPU and none was named.
        ModelFileError: TensorRT refuses the network.
    """
    profile.check(network)
    trt, names = find_builder(architectures, flavour)
    log = _logger(trt)
    builder = trt.Builder(log)
    parsed, parser = _parse(trt, builder, network, log)
    config = builder.create_builder_config()
    if architectures:
        config.num_compute_capabilities = len(names)
        for index, name in enumerate(names):
            config.set_compute_capability(getattr(trt.ComputeCapability, name.upper()), index)
    if workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(network.signature.input_name, *profile.shapes)
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(parsed, config)
    del parser
    if plan is None:
        why = "; ".join(log.errors) or "no reason given"
        raise ModelFileError(f"{trt.__name__} {trt.__version__} cannot build '{network.path}': {why}.")
    header = EngineHeader(
        info=network.info,
        signature=network.signature,
        flavour=trt.__name__,
        library_version=str(trt.__version__),
        architectures=tuple(names),
        shapes=profile.shapes,
        source_digest=network.digest,
        source=str(network.path),
        model_hash=network.model_hash,
    )
    return header, bytes(plan)


def find_builder(architectures: Sequence[str], flavour: Flavour | None = None) -> tuple[Any, list[str]]:
    """Return TensorRT's module and the GPU architectures to build for; takes no time, so ask before any long work.

    Raises:
        DeviceError: as `build_engine`.
    """
    trt = import_flavour(flavour or _installed(bool(architectures)))
    return trt, _architectures(trt, architectures)


def _installed(named: bool) -> Flavour:
    """Return what is installed: RTX where architectures are named, TensorRT itself first otherwise."""
    from importlib.util import find_spec

    order: tuple[Flavour, ...] = ("tensorrt_rtx",) if named else ("tensorrt", "tensorrt_rtx")
    return next((name for name in order if find_spec(name) is not None), "tensorrt_rtx")


def _architectures(trt: Any, named: Sequence[str]) -> list[str]:
    """Return the named architectures, or the one of the GPU at hand."""
    import torch

    from limbnet.runtime.tensorrt_engine import gpu_architecture

    known = known_architectures(trt)
    if not named:
        if not torch.cuda.is_available():
            raise DeviceError(
                "There is no NVIDIA GPU here to build an engine for.",
                f"Name its architecture with --gpu_arch: {', '.join(known) or 'needs tensorrt-rtx'}.",
            )
        return [gpu_architecture(torch.device("cuda"))]
    wrong = [f"'{name}'.{nearest(name.lower(), known)}" for name in named if name.lower() not in known]
    if wrong:
        raise DeviceError(
            f"TensorRT-RTX {trt.__version__} builds for no GPU architecture {' '.join(wrong)}",
            f"It knows {', '.join(known)}.",
        )
    return [name.lower() for name in named]


def known_architectures(trt: Any) -> list[str]:
    """List the architectures that a flavour builds for ahead of time; TensorRT itself has none."""
    capabilities = getattr(trt, "ComputeCapability", None)
    return sorted(name.lower() for name in dir(capabilities) if re.fullmatch(r"SM\d+", name)) if capabilities else []


def _parse(trt: Any, builder: Any, network: OnnxNetwork, log: Any) -> tuple[Any, Any]:
    """Parse the ONNX content into a strongly typed network: precision is the graph's business, not the builder's."""
    flags = 0
    for name in ("STRONGLY_TYPED",):
        if hasattr(trt.NetworkDefinitionCreationFlag, name):
            flags |= 1 << int(getattr(trt.NetworkDefinitionCreationFlag, name))
    parsed = builder.create_network(flags)
    parser = trt.OnnxParser(parsed, log)
    if not parser.parse(network.model.SerializeToString()):
        problems = [str(parser.get_error(index).desc()) for index in range(parser.num_errors)]
        raise ModelFileError(f"TensorRT {trt.__version__} does not understand '{network.path}': {'; '.join(problems)}.")
    return parsed, parser


def _logger(trt: Any) -> Any:
    """Return a logger that keeps errors for our own message, instead of printing everything."""

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.errors.append(message)

    return Log()
