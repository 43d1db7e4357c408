"""Reads released checkpoints and training checkpoints into the zoo's networks, strictly.

Files are recognised by content: PyTorch (plain state dict, or one inside a training checkpoint or an mmcv container),
safetensors, Caffe. No pickled code is run.
"""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from limbnet.errors import ModelFileError
from limbnet.models.zoo.caffe import read_caffemodel
from limbnet.models.zoo.catalogue import CATALOGUE, ZooEntry
from limbnet.models.zoo.count import fingerprint, shapes

FileKind = Literal["PyTorch", "safetensors", "Caffe"]

#: Keys under which training programs keep the state dict, in the order they are looked for.
CONTAINERS = ("state_dict", "best_state_dict", "model")
#: Step counters of batch norms, which files of old PyTorch versions lack; no published function reads them.
COUNTER = ".num_batches_tracked"
NAMES_SHOWN = 5
#: Begins the names of what limbnet's own training checkpoints hold beside the weights.
TRAINING = "training/"
#: A file to start training from must have so large a share of the network's tensors.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Checkpoint:
    """The tensors of a weight file under the names they have in it.

    Attributes:
        path: the file.
        sha256: hash of its bytes.
        kind: what kind of file it is.
        container: the key that held the state dict, "" for a plain one.
        tensors: name to tensor.
        others: names in the state dict that are not tensors.
    """

    path: Path
    sha256: str
    kind: FileKind
    container: str
    tensors: dict[str, Tensor]
    others: tuple[str, ...] = ()


@dataclass(frozen=True)
class WeightReport:
    """How a weight file fits a network.

    Attributes:
        network: name in the catalogue.
        parameters: of the network, with the joints that the file was trained with.
        path, sha256, kind, container: as in `Checkpoint`.
        prefix: what was stripped from every name.
        tensors: tensors in the file.
        missing: names the network has and the file lacks; absent step counters of batch norms do not count.
        unexpected: names the file has and the network lacks.
        misshapen: name to (expected shape, shape in the file).
        not_finite: tensors with NaN or infinite values.
        belongs_to: networks of the catalogue with exactly the file's names and shapes.
    """

    network: str
    parameters: int
    path: Path
    sha256: str
    kind: FileKind
    container: str
    prefix: str
    tensors: int
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    misshapen: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    not_finite: tuple[str, ...]
    belongs_to: tuple[str, ...]

    @property
    def fits(self) -> bool:
        """Whether the file can be loaded."""
        return not (self.missing or self.unexpected or self.misshapen or self.not_finite)

    def problems(self) -> list[str]:
        """Return one line per kind of problem, each with the first names."""
        misshapen = [
            f"{name} is {_written(found)}, expected {_written(expected)}"
            for name, (expected, found) in self.misshapen.items()
        ]
        groups = {
            "missing": self.missing,
            "unexpected": self.unexpected,
            "of another shape": misshapen,
            "with NaN or infinite values": self.not_finite,
        }
        return [f"{len(names)} {group}: {_first(names)}" for group, names in groups.items() if names]

    def error(self) -> ModelFileError:
        """Return the error for a file that does not fit."""
        lines = [f"'{self.path}' does not fit '{self.network}':", *self.problems()]
        if self.belongs_to:
            return ModelFileError("\n  ".join(lines), f"The file belongs to {' or '.join(self.belongs_to)}.")
        files = " or ".join(f"'{name}'" for name in CATALOGUE[self.network].files)
        return ModelFileError("\n  ".join(lines), f"The official file is called {files}.")


def load_weights(network: nn.Module, entry: ZooEntry, path: Path | str) -> WeightReport:
    """Load the file at `path` into `network`, every name and shape of it, and report what was read.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind or of another network; lists the names.
    """
    report, state = compare_weights(network, entry, path)
    if not report.fits:
        raise report.error()
    network.load_state_dict(state, strict=True)
    return report


def compare_weights(network: nn.Module, entry: ZooEntry, path: Path | str) -> tuple[WeightReport, dict[str, Tensor]]:
    """Return how the file at `path` fits `network` and its tensors under the network's names. Nothing is loaded.

    `network` may be on the `meta` device.

    Raises:
        ModelFileError: the file is missing, damaged or of another kind.
    """
    checkpoint = read_checkpoint(Path(path))
    state, prefix = strip_prefixes(checkpoint.tensors, entry.prefixes)
    wanted = shapes(network.state_dict())
    if checkpoint.kind == "Caffe":
        state = {name: _as_wanted(tensor, wanted.get(name)) for name, tensor in state.items()}
    belongs_to = _owners(state)
    state |= {name: torch.tensor(0) for name in wanted if name.endswith(COUNTER) and name not in state}
    found = shapes(state)
    report = WeightReport(
        network=entry.name,
        parameters=entry.parameters,
        path=checkpoint.path,
        sha256=checkpoint.sha256,
        kind=checkpoint.kind,
        container=checkpoint.container,
        prefix=prefix,
        tensors=len(checkpoint.tensors),
        missing=tuple(name for name in wanted if name not in found),
        unexpected=(*(name for name in found if name not in wanted), *checkpoint.others),
        misshapen={
            name: (shape, found[name]) for name, shape in wanted.items() if name in found and found[name] != shape
        },
        not_finite=tuple(name for name, tensor in state.items() if not bool(tensor.isfinite().all())),
        belongs_to=belongs_to,
    )
    return report, state


def load_start(network: nn.Module, entry: ZooEntry, path: Path | str) -> str:
    """Load what fits of the file at `path` into `network`, to train on from there; return what was done, in words.

    So a network starts from its backbone's ImageNet weights, from another number of joints, or from its own weights.

    Raises:
        ModelFileError: the file is missing, damaged or of another kind, or less than half of the network is in it.
    """
    report, state = compare_weights(network, entry, path)
    wanted = network.state_dict()
    unfit = {*report.missing, *report.misshapen, *report.not_finite}
    fitting = {name: state[name] for name in wanted if name not in unfit}
    own = [name for name in wanted if not name.endswith(COUNTER)]
    new = [name for name in own if name not in fitting]
    if len(new) > (1 - LEAST_SHARE) * len(own) or report.not_finite:
        raise report.error()
    network.load_state_dict(fitting, strict=False)
    started = f"Weights from '{path}': {len(own) - len(new)} of {len(own)} tensors."
    return started + (f" New: {_first(new)}." if new else "")


def strip_prefixes(tensors: Mapping[str, Tensor], prefixes: tuple[str, ...]) -> tuple[dict[str, Tensor], str]:
    """Strip each prefix (a regular expression) that all names start with; return the tensors and what was stripped."""
    stripped = ""
    tensors = dict(tensors)
    for prefix in prefixes:
        starts = [re.match(prefix, name) for name in tensors]
        if starts and all(starts):
            stripped += starts[0].group() if starts[0] else ""
            tensors = {
                name[start.end() :]: tensor
                for start, (name, tensor) in zip(starts, tensors.items(), strict=True)
                if start is not None
            }
    return tensors, stripped


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a weight file, whatever its kind and container.

    Raises:
        ModelFileError: the file is missing, damaged, of an unknown kind, or holds more than tensors and plain values.
    """
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            head = file.read(9)
    except OSError as error:
        raise ModelFileError(f"Cannot read '{path}': {error.strerror or error}.", "Check the path.") from error
    if head.startswith((b"PK\x03\x04", b"\x80")):
        container, tensors, others = _unwrapped(path, _torch_content(path))
        return Checkpoint(path, sha256, "PyTorch", container, tensors, others)
    if head[8:9] == b"{":
        return Checkpoint(path, sha256, "safetensors", "", _safetensors_content(path))
    if head.startswith(b"\x0a"):
        return Checkpoint(path, sha256, "Caffe", "", read_caffemodel(path))
    raise ModelFileError(
        f"'{path}' is neither a PyTorch checkpoint, nor safetensors, nor a Caffe model.",
        "Give one of the official files that `limbnet zoo list` names.",
    )


def _torch_content(path: Path) -> Any:
    # Training checkpoints keep scores as NumPy numbers; these rebuild plain values and run no code of the file's.
    scalar = np._core.multiarray.scalar  # type: ignore[attr-defined]
    numbers = [np.dtype, type(np.dtype("f4")), type(np.dtype("f8")), type(np.dtype("i8"))]
    allowed: list[Any] = [*numbers, (scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar")]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL ([\w.]+)", str(error))
        if foreign is None:
            raise _damaged(path, error) from error
        raise ModelFileError(
            f"'{path}' holds a pickled '{foreign.group(1)}' beside its tensors, which limbnet does not load.",
            "Save its state dict alone, with the program that wrote it, if you trust the file.",
        ) from error
    except Exception as error:  # a damaged file makes torch fail in any way: IndexError, AssertionError, TypeError, ...
        raise _damaged(path, error) from error


def _safetensors_content(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = dict(load_file(path))
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    return {name: tensor for name, tensor in tensors.items() if not name.startswith(TRAINING)}


def _damaged(path: Path, error: Exception) -> ModelFileError:
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return ModelFileError(f"'{path}' is damaged or cut off: {reason}", "Fetch the file again.")


def _unwrapped(path: Path, content: Any) -> tuple[str, dict[str, Tensor], tuple[str, ...]]:
    """Return the key that held the state dict, its tensors, and the names of what is no tensor."""
    candidates = {"": content}
    if isinstance(content, Mapping):
        candidates = {key: content[key] for key in CONTAINERS if isinstance(content.get(key), Mapping)} | candidates
    for container, state in candidates.items():
        if isinstance(state, Mapping):
            tensors = {str(name): value for name, value in state.items() if isinstance(value, Tensor)}
            if tensors:
                return container, tensors, tuple(str(name) for name in state if str(name) not in tensors)
    raise ModelFileError(
        f"'{path}' holds no state dict, neither plain nor under {', '.join(CONTAINERS)}.",
        "Give a file with the network's weights.",
    )


def _as_wanted(tensor: Tensor, shape: tuple[int, ...] | None) -> Tensor:
    """Give a Caffe blob the wanted shape where the two differ in axes of length 1 only."""
    if shape is None or [side for side in tensor.shape if side > 1] != [side for side in shape if side > 1]:
        return tensor
    return tensor.reshape(shape)


def _owners(state: Mapping[str, Tensor]) -> tuple[str, ...]:
    mark = fingerprint(shapes(state))
    return tuple(entry.name for entry in CATALOGUE.values() if entry.fingerprint == mark)


def _written(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _first(names: Sequence[str]) -> str:
    more = len(names) - NAMES_SHOWN
    return ", ".join(names[:NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
