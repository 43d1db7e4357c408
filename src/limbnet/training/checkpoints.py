"""The results folder: checkpoints by epoch, the best one, the final model; and how a repeated command finds its way.

`model.epoch-<N>.tlt` hold the network and the whole state of its training; the last `max_ckpt_to_keep` stay.
`model.best.tlt` and `<final_model_name>.tlt` hold the network alone. Published networks have another suffix. Every file
is written whole or not at all.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

from limbnet.errors import LimbnetError, ModelFileError, TrainingError
from limbnet.export.stored_ranges import to_store
from limbnet.models.bodyposenet import BodyPoseNet
from limbnet.models.info import ModelInfo
from limbnet.training.family import AnyTrainSpec, Family, Loaded
from limbnet.training.state import TrainingState

log = logging.getLogger(__name__)

#: Keys of a train spec that may change between the beginning of a run and its end: they leave the weights alone. Those
#: that say where data lie are among them, because the skeleton and the samples themselves are compared.
FREE_KEYS = frozenset(
    {
        "checkpoint_dir",
        "checkpoint_n_epoch",
        "dataloader.dataset_config.root_data_path",
        "dataloader.dataset_config.train_records_folder_path",
        "dataloader.pose_config.pose_config_path",
        "dataloader.workers",
        "final_model_name",
        "inference_spec",
        "log_every_n_secs",
        "max_ckpt_to_keep",
        "num_epoch",
        "summary_every_n_steps",
        "validation_every_n_epoch",
    }
)


#: Of the datasets only the names count, not the paths of their specs.
DATASETS = "dataloader.dataset_config.dataset_specs"


@dataclass
class CheckpointFolder:
    """The checkpoints of one run.

    Attributes:
        folder: the results folder.
        info: what every file says about the model; its `spec` is the run's.
        facts: what a resumed run must share beside the spec: number of processes, of samples, ...
        family: writes and reads the files.
        key: encrypts the files.
        keep: how many checkpoints by epoch stay.
        final_name: name of the final model, without suffix.
    """

    folder: Path
    info: ModelInfo
    facts: dict[str, Any]
    family: Family[Any]
    key: str | None = None
    keep: int = 100
    final_name: str = "bpnet_model"

    def path(self, epoch: int) -> Path:
        """Return the file of an epoch."""
        return self.folder / f"model.epoch-{epoch}{self.family.suffix}"

    @property
    def best_path(self) -> Path:
        """The file of the best validation so far."""
        return self.folder / f"model.best{self.family.suffix}"

    @property
    def final_path(self) -> Path:
        """The model at the end of training."""
        return self.folder / f"{self.final_name}{self.family.suffix}"

    def epochs(self) -> list[int]:
        """Return the epochs that have a file, the newest first."""
        pattern = re.compile(rf"model\.epoch-(\d+){re.escape(self.family.suffix)}")
        found = (pattern.fullmatch(path.name) for path in _files(self.folder))
        return sorted((int(match[1]) for match in found if match), reverse=True)

    def tidy(self) -> None:
        """Remove what a killed run had begun to write."""
        for name in ("model.*", f"{self.final_path.name}.*", "metrics.csv.*", "experiment_spec.yaml.*"):
            for partial in self.folder.glob(f".{name}.partial"):
                partial.unlink(missing_ok=True)

    def save(self, state: TrainingState) -> Path:
        """Write the checkpoint of the epoch just done, then remove those beyond the last `keep`."""
        path = self.path(state.epoch)
        self._write(path, state, state.capture() | {"facts": self.facts})
        for epoch in [epoch for epoch in self.epochs() if epoch <= state.epoch][self.keep :]:
            self.path(epoch).unlink(missing_ok=True)
        return path

    def save_best(self, state: TrainingState, ap: float) -> None:
        """Write the network of the best validation."""
        self._write(self.best_path, state, extra={"AP": ap})

    def save_final(self, state: TrainingState) -> None:
        """Write the network at the end of training."""
        self._write(self.final_path, state)

    def _write(
        self,
        path: Path,
        state: TrainingState,
        training: dict[str, Any] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        model, said = state.shown_model(), {**self.info.extra, "epoch": state.epoch, **(extra or {})}
        if state.quantised and (ranges := state.quantised.named_ranges()):
            said |= to_store(cast(BodyPoseNet, model), self.info, ranges)
        self.family.save(path, model, replace(self.info, extra=said), self.key, training)

    def latest(self) -> Loaded | None:
        """Return the newest checkpoint that can be read, None when there is none; damaged ones are named.

        Raises:
            TrainingError: there are checkpoints, but not one can be read.
        """
        problems: list[LimbnetError] = []
        for epoch in self.epochs():
            try:
                loaded = self.family.load(self.path(epoch), self.key)
                if not loaded.training or "facts" not in loaded.training:
                    raise ModelFileError(f"'{self.path(epoch)}' holds a network, but no state of its training.")
            except ModelFileError as error:
                problems.append(error)
                log.warning("%s", error.what)
                continue
            if problems:
                log.warning("Going on from the checkpoint before it: '%s'.", self.path(epoch))
            return loaded
        if problems:
            raise TrainingError(
                "No checkpoint in the results folder can be read:\n  " + "\n  ".join(error.what for error in problems),
                "Give the key they were written with, or name another results folder to begin anew.",
            )
        return None

    def check_same_run(self, loaded: Loaded, schema: type[AnyTrainSpec]) -> None:
        """Refuse to go on with a run that another spec began.

        Keys of `schema` that are younger than the run count as set to their defaults.

        Raises:
            TrainingError: names every key that differs.
        """
        begun = replace(loaded.info, spec=_completed(loaded.info.spec, schema))
        theirs = _decisive(begun, (loaded.training or {})["facts"])
        ours = _decisive(self.info, self.facts)
        differing = [
            f"{key}: {theirs.get(key)!r} then, {ours.get(key)!r} now"
            for key in sorted(theirs.keys() | ours.keys())
            if theirs.get(key) != ours.get(key)
        ]
        if differing:
            raise TrainingError(
                f"The results folder '{self.folder}' holds checkpoints of another run. What differs:\n  "
                + "\n  ".join(differing),
                "Name another results folder with -r, or go on with the spec that the run began with.",
            )
        then, now = loaded.info.spec.get("num_epoch"), self.info.spec.get("num_epoch")
        if then != now:
            log.warning(
                "num_epoch was %s and is %s now: the learning rate follows the new length from here.", then, now
            )


def _completed(content: dict[str, Any], schema: type[AnyTrainSpec]) -> dict[str, Any]:
    """Return a stored spec with the keys that it lacks; as it is where today's schema refuses it."""
    try:
        return schema.model_validate(content).model_dump(mode="json", by_alias=True)
    except ValidationError:
        return content


def _decisive(info: ModelInfo, facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that decides the weights of a run, by dotted keys."""
    values = dict(flattened(info.spec)) | dict(flattened(facts))
    values = {key: value for key, value in values.items() if key not in FREE_KEYS}
    datasets = {key for key in values if key.startswith(f"{DATASETS}.")}
    names = sorted(key.removeprefix(f"{DATASETS}.") for key in datasets)
    skeleton = {"skeleton.joints": info.skeleton.joints, "skeleton.limbs": info.skeleton.limbs}
    return {key: value for key, value in values.items() if key not in datasets} | {DATASETS: names} | skeleton


def flattened(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of nested mappings."""
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{prefix}{key}.")
        else:
            yield prefix + str(key), value


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []
