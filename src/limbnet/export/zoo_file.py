"""`limbnet zoo export` as a function: from a published network to an ONNX file that was compared with torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from limbnet.console import progress
from limbnet.errors import ModelFileError, UsageError
from limbnet.export.executed import Int8Share, shares
from limbnet.export.exporting import AGREEMENT
from limbnet.export.zoo import ZooDeviation, compare_zoo, in_precision, zoo_graph
from limbnet.files import write_bytes, write_json
from limbnet.models.zoo import ZooEntry
from limbnet.runtime.signature import Precision
from limbnet.runtime.zoo.exported import ExportedZooNetwork, ZooEngine, set_zoo_facts, zoo_facts
from limbnet.runtime.zoo.network import Tensors, TorchZooNetwork

#: Pictures or crops, and poses, that a file is compared on.
COMPARED, COMPARED_POSES = 4, 100


@dataclass
class ZooExport:
    """What was exported and how it compares; `to_dict` is the JSON written beside the file.

    Attributes:
        output: the file.
        facts: what it says about itself: network, precision, size of its input, ...
        deviations: one for each runtime that was compared with torch.
        int8_shares: for INT8, one for each runtime.
    """

    output: Path
    facts: dict[str, Any]
    deviations: list[ZooDeviation] = field(default_factory=list)
    int8_shares: list[Int8Share] = field(default_factory=list)

    @property
    def path(self) -> Path:
        """Where the report is written."""
        return self.output.with_name(self.output.name + ".report.json")

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "output": str(self.output),
            **self.facts,
            "deviations": [one.to_dict() for one in self.deviations],
            "int8_shares": [asdict(one) for one in self.int8_shares],
        }


def export_zoo_file(
    network: nn.Module,
    entry: ZooEntry,
    output: Path,
    inputs: Sequence[NDArray[Any]],
    *,
    precision: Precision = "fp32",
    weights: str = "",
    threads: int | None = None,
    overwrite: bool = False,
) -> ZooExport:
    """Export a published network, compare the file with torch on every runtime that is installed, then write it.

    Args:
        network: what `create_model` gave, at the entry's input size.
        entry: what the catalogue says about it.
        output: the ONNX file.
        inputs: real inputs (H, W, 3) uint8 RGB as its system fits them, or features (F,) of DEKR's rescoring network.
        precision: of most of the arithmetic.
        weights: hash of the weight file, "" for initial weights, of which FP16 is not asked to come near torch.
        threads: CPU threads.
        overwrite: replace an output that exists.

    Raises:
        UsageError: the output exists.
        ModelFileError: the graph cannot be exported, or a runtime cannot run it or says something else than torch.
    """
    if output.exists() and not overwrite:
        raise UsageError(f"'{output}' exists.", "Choose another output, or add --overwrite.")
    reference = TorchZooNetwork(network, entry) if entry.input_size is not None else TorchRescoring(network, entry)
    graph = zoo_graph(network, entry)
    if precision != "fp32":
        looked_at = inputs if weights or precision == "int8" else []
        with progress() as bars:
            task = bars.add_task(f"to {precision}", total=len(looked_at))
            graph = in_precision(graph, entry, precision, looked_at, threads=threads, done=lambda: bars.advance(task))
    set_zoo_facts(graph, zoo_facts(graph) | {"weights": weights or "initial"})
    report = ZooExport(output, zoo_facts(graph))
    shown = inputs[: COMPARED if entry.input_size is not None else COMPARED_POSES]
    engines: list[ZooEngine] = ["onnxruntime"]
    if find_spec("openvino") is not None:
        engines.append("openvino")
    for engine in engines:
        exported = ExportedZooNetwork(graph, entry, engine, threads)
        report.deviations.append(compare_zoo(reference, exported, precision, shown, strict=bool(weights)))
    _check_agreement(report.deviations)
    if precision == "int8":
        report.int8_shares = shares(graph)
    write_bytes(output, graph.SerializeToString())
    write_json(report.path, report.to_dict())
    return report


class TorchRescoring:
    """DEKR's rescoring network run by torch, on features (P, F) float32.

    Args:
        network: what `create_model` gave.
        entry: what the catalogue says about it.
    """

    name = "torch fp32"

    def __init__(self, network: nn.Module, entry: ZooEntry) -> None:
        self.entry = entry
        self._network = network.eval()

    def run(self, images: NDArray[Any]) -> Tensors:
        """Return the factors (P, 1) for features (P, F)."""
        with torch.inference_mode():
            return (np.asarray(self._network(torch.from_numpy(images)).scores.numpy()),)


def _check_agreement(deviations: Sequence[ZooDeviation]) -> None:
    """Raise a `ModelFileError` when one runtime is much further from torch than another: it misreads the graph."""
    best, worst = (choose(deviations, key=lambda one: one.mean) for choose in (min, max))
    if worst.mean > AGREEMENT * best.mean + 1e-3:
        raise ModelFileError(
            f"{worst.engine} and {best.engine} disagree about the exported file: mean deviations from torch of "
            f"{worst.mean:.1e} and {best.mean:.1e} of the range. Nothing was written.",
            "This is a mistake of a runtime or of the export: please report it with the network's name.",
        )
