"""`limbnet export` as a function: from a checkpoint to a file that was compared with it, or to an error and no file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limbnet import __version__
from limbnet.console import progress
from limbnet.data.calibration import TensorFile, choose_pictures, find_pictures, fit_strictly, normalised
from limbnet.data.pictures import read_picture
from limbnet.encryption import seal
from limbnet.errors import ModelFileError, UsageError
from limbnet.export.accuracy import AccuracyLimit
from limbnet.export.check import Deviation, check_decoding, check_tolerance, compare
from limbnet.export.decoder_graph import decoding_network
from limbnet.export.executed import Int8Share, shares
from limbnet.export.graph import build_graph, each_use, model_hash, set_signature
from limbnet.export.half import check_half_range, to_half
from limbnet.export.int8 import Calibration, find_source, int8_ranges
from limbnet.export.quantise import check_names, head_layers, quantise
from limbnet.export.sensitivity import LayerCost, sensitivity
from limbnet.export.wiring import Wiring
from limbnet.files import write_bytes, write_json
from limbnet.geometry import check_input_size
from limbnet.models.checkpoint import load_model
from limbnet.models.info import ModelInfo
from limbnet.runtime.engine import Decode, Engine
from limbnet.runtime.onnx_file import OnnxNetwork, network_of
from limbnet.runtime.onnxruntime_engine import OnnxRuntimeEngine
from limbnet.runtime.sharing import share_constants
from limbnet.runtime.signature import DataFormat, InputType, Precision, Signature
from limbnet.runtime.torch_engine import TorchEngine

if TYPE_CHECKING:
    from onnx import ModelProto

log = logging.getLogger(__name__)

#: Pictures that a file is compared on.
CHECKED_PICTURES = 8

#: INT8 files must mean the same to every runtime: mean deviations from torch may differ by this factor.
AGREEMENT = 3.0


@dataclass(frozen=True)
class ExportSettings:
    """What to export.

    Attributes:
        precision: of most of the arithmetic.
        size: (height, width) that calibration and check use, and that the file recommends; the model's own when None.
        input_type: `uint8` normalises in the graph, `float32` expects upstream's normalised floats.
        data_format: layout of input and outputs.
        sdk_compatible: repeat each cell of the part affinity fields and use the names of NVIDIA's deployable model.
        upsample_ratio: how many times.
        fixed_batch: pictures in one run, open when None.
        float_layers: convolutions that stay float in INT8; the heads when None.
        threads: CPU threads of calibration and check.
        sensitivity: rank the layers by what INT8 costs each of them; by AP where a dataset is given.
        decode: how far the graph decodes its maps.
        max_peaks: peaks that it keeps for each joint, the model's own number when None.
    """

    precision: Precision = "fp32"
    size: tuple[int, int] | None = None
    input_type: InputType = "uint8"
    data_format: DataFormat = "channels_last"
    sdk_compatible: bool = False
    upsample_ratio: int = 4
    fixed_batch: int | None = None
    float_layers: tuple[str, ...] | None = None
    threads: int | None = None
    sensitivity: bool = False
    decode: Decode = "none"
    max_peaks: int | None = None

    def check(self) -> None:
        """Raise a `UsageError` for settings that contradict one another."""
        if self.sensitivity and self.fixed_batch not in (None, 1):
            raise UsageError(
                "The sensitivity report runs single pictures.", "Leave the batch open (--static_batch_size)."
            )
        if self.decode != "none" and self.sdk_compatible:
            raise UsageError(
                "A file for NVIDIA's SDKs returns maps, which they decode.",
                "Choose --decode none or leave --sdk_compatible_model out.",
            )
        if self.decode == "none" and self.max_peaks is not None:
            raise UsageError(
                "The number of peaks is built into files that decode only.",
                "Add --decode peaks, or leave --max_peaks out.",
            )

    def signature(self) -> Signature:
        """The tensors of the file, under BodyPoseNet's names."""
        names = ("heatmap_out", "paf_out")
        if self.sdk_compatible:
            names = ("heatmap_out/BiasAdd:0", "conv2d_transpose_1/BiasAdd:0")
        return Signature(
            heatmap_name=names[0],
            paf_name=names[1],
            input_type=self.input_type,
            data_format=self.data_format,
            paf_upsampling=self.upsample_ratio if self.sdk_compatible else 1,
            precision=self.precision,
            fixed_batch=self.fixed_batch,
        )


@dataclass
class ExportReport:
    """What was exported and how it compares; `to_dict` is the JSON written beside the file.

    Attributes:
        output: the file.
        precision: of it.
        size: (height, width) of the check.
        deviations: one for each runtime that was compared with torch.
        int8_shares: for INT8, one for each runtime.
        float_layers: for INT8, what stayed float.
        calibration: for INT8, where its ranges came from.
        accuracy: AP of torch and of the file, where a dataset was given.
        pictures: names of the pictures compared.
        sensitivity: for INT8, what each layer costs, the most expensive first, where that was asked for.
    """

    output: Path
    precision: Precision
    size: tuple[int, int]
    deviations: list[Deviation] = field(default_factory=list)
    int8_shares: list[Int8Share] = field(default_factory=list)
    float_layers: tuple[str, ...] = ()
    calibration: dict[str, Any] = field(default_factory=dict)
    accuracy: dict[str, Any] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    sensitivity: list[LayerCost] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "output": str(self.output),
            "precision": self.precision,
            "input_size": list(self.size),
            "pictures": self.pictures,
            "deviations": [deviation.to_dict() for deviation in self.deviations],
            "int8_shares": [asdict(share) for share in self.int8_shares],
            "float_layers": list(self.float_layers),
            "calibration": self.calibration,
            "accuracy": self.accuracy,
            "sensitivity": [cost.to_dict() for cost in self.sensitivity],
            "version": __version__,
        }

    @property
    def path(self) -> Path:
        """Where the report is written."""
        return self.output.with_name(self.output.name + ".report.json")


def export_file(
    model: Path,
    output: Path,
    settings: ExportSettings,
    *,
    calibration: Calibration | None = None,
    accuracy: AccuracyLimit | None = None,
    key: str | None = None,
    overwrite: bool = False,
) -> tuple[OnnxNetwork, ExportReport]:
    """Export a checkpoint to ONNX, compare the result with torch, then write it and the report beside it.

    Args:
        model: a checkpoint.
        output: the ONNX file; encrypted when there is a key.
        settings: what to export.
        calibration: where INT8 ranges come from; also where the check finds its pictures.
        accuracy: dataset and the AP that may be lost.
        key: opens the checkpoint and seals the output.
        overwrite: replace an output that exists.

    Raises:
        UsageError: the output exists, INT8 without calibration, no pictures to compare on.
        SpecError: the size is no multiple of the stride, or a layer to keep in float does not exist.
        DataError: calibration pictures, tensor file or cache are wrong.
        ModelFileError: the checkpoint cannot be read, or the file is not what torch computes.
    """
    settings.check()
    if output.exists() and not overwrite:
        raise UsageError(f"'{output}' exists.", "Choose another output, or add --overwrite.")
    loaded = load_model(model, key)
    calibration = calibration or Calibration()
    size = settings.size or loaded.info.input_size
    check_input_size(size, loaded.info.stride)
    info = replace(_as_decoded(loaded.info, settings), input_size=size, version=__version__)
    source = None
    if settings.precision == "int8":
        source = find_source(calibration, size, info, model_hash(loaded.model, info))
        check_names(settings.float_layers or (), loaded.model.conv_layers())
    named = check_pictures(calibration, size, info)
    report = ExportReport(output, settings.precision, size, pictures=[name for name, _ in named])
    graph = build_graph(loaded.model, info, settings.signature())
    if settings.precision == "fp16":
        check_half_range(graph, (normalised(image[None], info) for _, image in named), info)
        graph = to_half(graph)
    elif source is not None:
        ranges, report.calibration = int8_ranges(graph, info, source, threads=settings.threads)
        if settings.sensitivity:
            report.sensitivity = _rank(
                graph, ranges, info=info, images=np.stack([image for _, image in named]), settings=settings,
                accuracy=accuracy,
            )  # fmt: skip
        graph = _to_int8(graph, ranges, info, settings, report)
    share_constants(graph)
    maps = network_of(graph, output)
    network = maps if settings.decode == "none" else decoding_network(maps)
    reference = TorchEngine(loaded.model, loaded.info, "cpu")
    for engine, decoding in _engines(maps, network, settings):
        report.deviations.append(
            compare(reference, engine, named, settings.fixed_batch or 1, decoder=decoding, precision=settings.precision)
        )
        log.debug("%s", report.deviations[-1])
        check_tolerance(report.deviations[-1], settings.precision)
        check_decoding(report.deviations[-1])
    _check_agreement(report.deviations)
    if accuracy is not None:
        report.accuracy = accuracy.check(reference, OnnxRuntimeEngine(network, threads=settings.threads), size)
    content = network.model.SerializeToString()
    write_bytes(output, seal(content, key) if key is not None else content)
    write_json(report.path, report.to_dict())
    return network, report


def _to_int8(
    graph: ModelProto,
    ranges: Mapping[str, float],
    info: ModelInfo,
    settings: ExportSettings,
    report: ExportReport,
) -> ModelProto:
    """Quantise, and count what runs in INT8."""
    kept = tuple(head_layers(graph) if settings.float_layers is None else each_use(graph, settings.float_layers))
    quantised = quantise(graph, ranges, kept)
    info = replace(info, extra={**info.extra, "int8": report.calibration | {"float_layers": list(kept)}})
    set_signature(quantised, info, settings.signature(), network_of(graph, report.output).model_hash)
    report.float_layers = kept
    report.int8_shares = shares(quantised)
    return quantised


def _rank(
    graph: ModelProto,
    ranges: Mapping[str, float],
    *,
    info: ModelInfo,
    images: NDArray[np.uint8],
    settings: ExportSettings,
    accuracy: AccuracyLimit | None,
) -> list[LayerCost]:
    """Rank the layers by what INT8 costs each of them alone."""
    score = None if accuracy is None else accuracy.scorer(info.skeleton, info.input_size)
    with progress() as bars:
        task = bars.add_task("sensitivity", total=len(Wiring(graph).convolutions()))
        return sensitivity(
            graph, ranges, info, images, score=score, threads=settings.threads, done=lambda: bars.advance(task)
        )


def _as_decoded(info: ModelInfo, settings: ExportSettings) -> ModelInfo:
    """Return what the file says of its decoding: a graph that decodes by itself sees one scale and completes nobody."""
    info = replace(info, decoder=replace(info.decoder, max_peaks=settings.max_peaks or info.decoder.max_peaks))
    if settings.decode == "none":
        return info
    if info.decoder.weak_heatmap_threshold is not None:
        log.warning(
            "People are not completed from peaks fainter than heatmap_threshold inside a graph: with --decode %s they "
            "have fewer joints than with --decode none.",
            settings.decode,
        )
    if info.scales != (1.0,):
        log.warning(
            "Maps of several scales are not averaged inside a graph: with --decode %s the model sees scale 1 alone, "
            "with --decode none %s.",
            settings.decode,
            ", ".join(f"{scale:g}" for scale in info.scales),
        )
    return replace(info, decoder=replace(info.decoder, weak_heatmap_threshold=None), scales=(1.0,))


def _engines(
    maps: OnnxNetwork, network: OnnxNetwork, settings: ExportSettings
) -> Iterator[tuple[Engine, Engine | None]]:
    """Yield the runtimes that a file is compared in, each as an engine that returns maps and one that decodes (None
    when the file does not): ONNX Runtime, and where more than float convolutions is at stake OpenVINO too where it is
    installed.
    """
    openings: list[Callable[[OnnxNetwork], Engine]] = [partial(OnnxRuntimeEngine, threads=settings.threads)]
    if (settings.precision == "int8" or network is not maps) and find_spec("openvino") is not None:
        from limbnet.runtime.openvino_engine import from_network

        openings.append(partial(from_network, threads=settings.threads))
    for opened in openings:
        yield opened(maps), None if network is maps else opened(network)


def _check_agreement(deviations: Sequence[Deviation]) -> None:
    """Raise a `ModelFileError` when one runtime is much further from torch than another: it misreads the graph."""
    means = {one.engine: max(one.heatmaps["mean"], one.pafs["mean"]) for one in deviations}
    worst, best = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    if means[worst] > AGREEMENT * means[best] + 1e-3:
        raise ModelFileError(
            f"{worst} and {best} disagree about the exported file: mean deviations from torch of {means[worst]:.1e} "
            f"and {means[best]:.1e} of the maps' range. Nothing was written.",
            "This is a mistake of a runtime or of the export: please report it with the model.",
        )


def check_pictures(
    calibration: Calibration, size: tuple[int, int], info: ModelInfo
) -> list[tuple[str, NDArray[np.uint8]]]:
    """Return real pictures to compare on: of the calibration folder, the tensor file, or the examples of a checkout.

    Raises:
        UsageError: there are none of them.
    """
    if calibration.image_dir is not None:
        found = find_pictures(calibration.image_dir)
        chosen = choose_pictures(
            calibration.image_dir, min(CHECKED_PICTURES, len(found)) or 1, 1, size, info, seed=calibration.seed
        )
        images = chosen.images(0, len(chosen.paths))
        return [(path.name, image) for path, image in zip(chosen.paths, images, strict=True)]
    if calibration.data_file is not None and calibration.data_file.is_file():
        file = TensorFile(calibration.data_file, size)
        images = file.images(0, CHECKED_PICTURES, info)
        return [(f"{calibration.data_file.name}[{index}]", image) for index, image in enumerate(images)]
    examples = Path(__file__).resolve().parents[3] / "examples" / "images"
    if not examples.is_dir():
        raise UsageError(
            "An export is compared with the model on real pictures, and there are none here.",
            "Name a folder with some, --cal_image_dir DIR: eight are enough.",
        )
    paths = find_pictures(examples)[:CHECKED_PICTURES]
    return [(path.name, fit_strictly(read_picture(path), size, info)) for path in paths]
