"""`limbnet convert` as a function: an exported ONNX file to an engine, in another precision where that is asked."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from limbnet.errors import UsageError, nearest
from limbnet.export.cache import cached_ranges, read_cache
from limbnet.export.decoder_graph import decoding_network, maps_network
from limbnet.export.dequantise import dequantise
from limbnet.export.engines import EngineRequest, write_engine_file
from limbnet.export.graph import set_signature
from limbnet.export.half import to_half
from limbnet.export.quantise import calibrated_tensors, head_layers, quantise
from limbnet.export.tensorrt_build import Profile
from limbnet.runtime.onnx_file import Fallback, OnnxNetwork, network_of, read_onnx
from limbnet.runtime.signature import Precision

log = logging.getLogger(__name__)

Order = Literal["nchw", "nhwc", "nc"]


@dataclass(frozen=True)
class ConvertSettings:
    """What to build; the fields are the flags of `limbnet convert`.

    Attributes:
        engine_file: output; `.xml` means OpenVINO, anything else TensorRT.
        precision: None keeps the file's own.
        cache_file: calibration cache that quantises a float file.
        dims: input size as text, `288,384,3` or `3,288,384`.
        order: of `dims`; found out from where the 3 stands when None.
        outputs: names that the network must have.
        profile: TensorRT's input shapes as text; when None one size, batches of 1 to `max_batch`.
        max_batch: largest batch without a profile.
        workspace: bytes of GPU memory for the build.
        architectures: GPU architectures to build for ahead of time; none means the GPU at hand.
    """

    engine_file: Path
    precision: Precision | None = None
    cache_file: Path | None = None
    dims: str | None = None
    order: Order | None = None
    outputs: tuple[str, ...] = ()
    profile: str | None = None
    max_batch: int = 16
    workspace: int | None = None
    architectures: tuple[str, ...] = ()


def convert_file(
    source: Path,
    settings: ConvertSettings,
    *,
    key: str | None = None,
    fallback: Fallback | None = None,
    overwrite: bool = False,
) -> OnnxNetwork:
    """Build an engine file and return the network that went into it.

    Args:
        source: ONNX file, encrypted or not.
        settings: what to build.
        key: opens the source and seals the engine.
        fallback: what is known about a file that says nothing about itself.
        overwrite: replace an engine file that exists.

    Raises:
        UsageError: flags contradict the file or one another, or the output exists.
        DataError: the cache is of another model.
        ModelFileError: the file is no pose network, or the runtime refuses it.
        DeviceError: the runtime is missing, or there is no such GPU.
    """
    request = EngineRequest(settings.engine_file, settings.architectures, 1, settings.max_batch, settings.workspace)
    network = read_onnx(source, key, fallback)
    _check_outputs(network, settings.outputs)
    size = _size(network, settings)
    profile = _profile(network, settings)
    request.check(overwrite=overwrite)
    network = with_precision(network, settings.precision, settings.cache_file)
    write_engine_file(network, request, size, profile=profile, key=key)
    return network


def with_precision(network: OnnxNetwork, precision: Precision | None, cache_file: Path | None) -> OnnxNetwork:
    """Return the network in another precision.

    INT8 takes its ranges from a calibration cache. An INT8 file becomes float again with its rounded weights.

    Raises:
        UsageError: the change is impossible.
        DataError: the cache is of another model.
    """
    own, model = network.signature.precision, network.model
    if precision is None or precision == own:
        return network
    if network.signature.decode != "none":  # the decoding part stays as it is
        return decoding_network(with_precision(maps_network(network), precision, cache_file))
    if own == "fp16":
        raise UsageError(
            f"'{network.path}' is {own} and cannot be made {precision}.", "Leave -t out, or convert the fp32 export."
        )
    if own == "int8":
        log.warning("'%s' is int8: its weights stay rounded to int8. The fp32 export is more exact.", network.path)
        model = dequantise(model)
    if precision == "fp16":
        model = to_half(model)
    elif precision == "int8":
        if cache_file is None:
            raise UsageError(
                f"'{network.path}' is {own}: INT8 needs the scales of a calibration cache.",
                "Give it with -c, or export with --data_type int8 and convert that file.",
            )
        tensors, cache = calibrated_tensors(model), read_cache(cache_file)
        ranges = cached_ranges(cache, cache_file, tensors, network.info, model_hash=network.model_hash)
        model = quantise(model, ranges, head_layers(model))
    changed = replace(network.signature, precision=precision)
    set_signature(model, network.info, changed, network.model_hash)
    return network_of(model, network.path)


def _check_outputs(network: OnnxNetwork, wanted: tuple[str, ...]) -> None:
    known = network.signature.output_names
    wrong = [f"'{name}'.{nearest(name, known)}" for name in wanted if name not in known]
    if wrong:
        raise UsageError(f"The network has no output {' and no output '.join(wrong)}", f"Outputs: {', '.join(known)}.")


def _size(network: OnnxNetwork, settings: ConvertSettings) -> tuple[int, int]:
    """Return the (height, width) that -d asks for, the file's own without it."""
    if settings.dims is None:
        return network.signature.fixed_size or network.info.input_size
    try:
        sides = [int(part) for part in settings.dims.lower().replace("x", ",").split(",")]
    except ValueError:
        sides = []
    first = settings.order == "nchw" or (settings.order is None and sides[:1] == [3])
    if len(sides) != 3 or min(sides) < 1 or sides[0 if first else 2] != 3 or settings.order == "nc":
        raise UsageError(
            f"'-d {settings.dims}'{f' with -i {settings.order}' if settings.order else ''} is no size of pictures.",
            "Use -d 288,384,3 -i nhwc, or -d 3,288,384 -i nchw.",
        )
    return (sides[1], sides[2]) if first else (sides[0], sides[1])


def _profile(network: OnnxNetwork, settings: ConvertSettings) -> Profile | None:
    if settings.profile is None:
        return None
    name, profile = Profile.parse(settings.profile)
    if name != network.signature.input_name:
        raise UsageError(
            f"The profile is for the input '{name}', but the network's input is '{network.signature.input_name}'.",
            f"Use -p {network.signature.input_name},...",
        )
    return profile
