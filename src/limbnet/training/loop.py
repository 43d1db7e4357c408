"""Training: the main path, from a spec to a model.

    batch -> network -> loss -> gradients -> update, over and over; after each epoch validation and a checkpoint.

Everything that decides the weights (batches, learning rates, initial values) follows from the spec and the number of
the step, and a checkpoint holds all that changes, so that a run killed at any moment and started again ends where an
unbroken one ends; on a CPU bit for bit.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from filelock import FileLock, Timeout
from torch import Tensor, nn

from limbnet.console import counted, progress
from limbnet.data.loader import TrainingData
from limbnet.data.stream import BatchStream, to_device
from limbnet.devices import choose_devices
from limbnet.errors import TrainingError, UsageError
from limbnet.files import write_text
from limbnet.models.counting import count_parameters
from limbnet.specs.load import resolved, training_skeleton
from limbnet.specs.train import TrainSpec
from limbnet.specs.zoo_train import ZooTrainSpec
from limbnet.status import StatusLog
from limbnet.training.bodypose import BodyPoseFamily
from limbnet.training.checkpoints import CheckpointFolder
from limbnet.training.distributed import Place, launch
from limbnet.training.family import AnyTrainSpec, BatchLosses, Family, Measure
from limbnet.training.feed import Feed
from limbnet.training.optimiser import set_learning_rate
from limbnet.training.recorder import Recorder
from limbnet.training.schedule import learning_rate
from limbnet.training.start import begin
from limbnet.training.state import TrainingState
from limbnet.training.validation import Validator
from limbnet.training.zoo.data import zoo_training_data
from limbnet.training.zoo.family import ZooFamily
from limbnet.training.zoo.validation import ZooValidator

#: How long a folder may stay locked: loader processes of a killed run hold on to it until they see that it is gone.
LOCK_SECONDS = 10

#: Where the errors of torch.compile come from.
COMPILERS = ("torch._dynamo", "torch._inductor")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingResult:
    """What `train` leaves behind.

    Attributes:
        model: the final model file.
        epochs: epochs done, those before a resumption included.
        history: a row of `metrics.csv` for each.
        best: the file of the best validation, None without validation.
        best_ap: its average precision.
    """

    model: Path
    epochs: int
    history: list[dict[str, float]]
    best: Path | None = None
    best_ap: float | None = None


def train(
    spec: AnyTrainSpec,
    results_dir: Path | str | None = None,
    *,
    key: str | None = None,
    device: str | None = None,
    gpus: int | None = None,
    gpu_index: Sequence[int] | None = None,
) -> TrainingResult:
    """Train a network as a spec says, or go on where an earlier run in the same folder ended.

    Args:
        spec: what to train, on what, and how.
        results_dir: where checkpoints and records go; `checkpoint_dir` of the spec, or `results`, when None.
        key: encrypts every model file; the spec's `key` when None.
        device: see `limbnet.devices.choose_devices`, as for the next two.
        gpus: number of processes.
        gpu_index: which GPUs.

    Raises:
        TrainingError: the folder belongs to another run, no checkpoint in it can be read, or the loss became NaN;
            earlier checkpoints stay as they were.
        LimbnetError: anything else that is wrong with spec, data, model files or devices.
    """
    devices = choose_devices(device, gpus, gpu_index)
    results = Path(results_dir or spec.checkpoint_dir or "results")
    if isinstance(spec, TrainSpec):
        spec, key = spec.without_regularisation(), key or spec.key
    elif key is not None:
        raise UsageError("Weight files of published networks are not encrypted.", "Leave --key out.")
    with StatusLog(results, "train"), _alone(results):
        return launch(train_at, devices, spec, results, key)


@contextmanager
def _alone(results: Path) -> Iterator[None]:
    """Refuse to train where another process does: each would go on with the checkpoints of the other."""
    try:
        with FileLock(results / ".lock", timeout=LOCK_SECONDS):
            yield
    except Timeout:
        raise TrainingError(
            f"Another process is training in '{results}'.", "Wait for it, or name another results folder with -r."
        ) from None


def train_at(place: Place, spec: AnyTrainSpec, results: Path, key: str | None) -> TrainingResult:
    """Train in one process; the process of rank 0 writes the files."""
    skeleton = training_skeleton(spec)
    data: BatchStream[Any]
    validator: Measure | None = None
    if isinstance(spec, ZooTrainSpec):
        family: Family[Any] = ZooFamily()
        data = zoo_training_data(spec, skeleton, place.rank, place.world_size)
        if spec.validation_every_n_epoch:
            validator = ZooValidator(spec, skeleton)
    else:
        family = BodyPoseFamily()
        data = TrainingData(spec, skeleton, place.rank, place.world_size)
        if spec.validation_every_n_epoch:
            validator = Validator(spec, skeleton)
    state, folder = begin(spec, data, place, results, key, family=family)
    if place.speaks:
        write_text(results / "experiment_spec.yaml", resolved(spec))
        _introduce(data, place, state)
    return Trainer(spec, data, state, folder, place=place, validator=validator).run()


def training_mode(network: nn.Module) -> nn.Module:
    """Put a network into training mode, save for batch norms of momentum 0: those go on with their running statistics.

    Statistics of small batches are noisy, and those of a picture's halvings differ from the picture's own.
    """
    network.train()
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d) and layer.momentum == 0:
            layer.eval()
    return network


def compiled(network: nn.Module) -> nn.Module:
    """Return a network that torch.compile builds when it first sees an input size; it shares its weights.

    Every size is built by itself: how a size is built would otherwise hang on those before it, and a run that was
    killed would not end as an unbroken one.
    """
    return cast(nn.Module, torch.compile(network, dynamic=False))


def _introduce(data: BatchStream[Any], place: Place, state: TrainingState) -> None:
    parameters = count_parameters(state.model)
    log.info(
        "%s, %s an epoch, %s parameters, %s.",
        counted(len(data), "sample"),
        counted(data.steps_per_epoch, "step"),
        f"{parameters:,}",
        state.precision,
    )
    if place.world_size > 1:
        log.info(
            "%d processes with batches of %d: gradients are averaged over %d pictures. The learning rate stays as the "
            "spec says; multiply it by %d in the spec if it was tuned for one process.",
            place.world_size,
            data.batch_size,
            place.world_size * data.batch_size,
            place.world_size,
        )


class Trainer:
    """Runs the epochs that a state lacks.

    Args:
        spec: the train spec.
        data: this process's batches.
        state: the network and where its training stands; changed in place.
        folder: where checkpoints go.
        place: the device and the processes beside this one.
        validator: measures the network on the test data, None for no validation.
    """

    def __init__(
        self,
        spec: AnyTrainSpec,
        data: BatchStream[Any],
        state: TrainingState,
        folder: CheckpointFolder,
        *,
        place: Place,
        validator: Measure | None = None,
    ) -> None:
        self.place, self.spec, self.data = place, spec, data
        self.state, self.folder, self.validator = state, folder, validator
        self.network = place.wrap(training_mode(state.network))
        if spec.torch_compile:
            self.network = compiled(self.network)
        self.objective = folder.family.objective(spec, state.model, place.device)
        self.epochs = state.start_epoch + spec.num_epoch - spec.epochs_skipped
        self.recorder = Recorder(
            folder.folder,
            silent=not place.speaks,
            steps_per_epoch=data.steps_per_epoch,
            epochs=self.epochs,
            epoch=state.epoch,
            images_per_step=data.batch_size * place.world_size,
            log_every=spec.log_every_n_secs,
            summary_every=spec.summary_every_n_steps,
        )

    def run(self) -> TrainingResult:
        """Train to the last epoch and write the final model."""
        if self.state.epoch < self.epochs:
            with closing(self.data.batches(self.state.epoch * self.data.steps_per_epoch)) as stream:
                self._run_epochs(stream)
        elif self.place.speaks:
            log.info("All %d epochs are done: nothing is left to train.", self.epochs)
        return self._finish()

    def _run_epochs(self, stream: Iterator[Any]) -> None:
        if self.state.epoch == self.state.start_epoch:
            first = list(itertools.islice(stream, 2))
            self._rehearse(first)
            stream = itertools.chain(first, stream)
            if self.place.speaks:
                self.folder.save(self.state)
        feed: Feed[Any] = Feed(stream, self.place.device)
        with self.recorder:
            while self.state.epoch < self.epochs:
                row = self._train_epoch(feed)
                self.recorder.pause()
                self.state.epoch += 1
                row |= self._validate()
                self.state.history.append(row)
                self._keep()
                self.recorder.epoch_done(self.state.epoch, self.state.history, feed.waited)
                self.recorder.resume()

    def _train_epoch(self, feed: Feed[Any]) -> dict[str, float]:
        """Make the updates of one epoch; return its means as a row of `metrics.csv`."""
        steps = self.data.steps_per_epoch
        totals: Tensor | None = None
        names: list[str] = []
        rate = 0.0
        for step in range(self.state.epoch * steps, (self.state.epoch + 1) * steps):
            rate = learning_rate(self.spec.optimizer.learning_rate_schedule, step, self.epochs * steps, steps)
            losses = self._update(next(feed), rate)
            feed.look_ahead()
            named = losses.named()
            names, values = list(named), torch.stack(list(named.values()))
            totals = values if totals is None else totals + values
            fetched = None
            if self.place.device.type == "cpu" or self.recorder.wants(step):
                fetched = dict(zip(names, values.tolist(), strict=True))
                self._check_finite(fetched["total_loss"], step)
            self.recorder.step_done(step, rate, fetched if self.recorder.wants(step) else None)
        assert totals is not None
        means = (self.place.mean(totals) / steps).tolist()
        row = dict(zip(names, means, strict=True))
        self._check_finite(row["total_loss"], (self.state.epoch + 1) * steps - 1)
        return {"epoch": self.state.epoch + 1, "step": (self.state.epoch + 1) * steps, "learning_rate": rate, **row}

    def _update(self, batch: Any, rate: float) -> BatchLosses:
        """Compute one batch and change the weights."""
        set_learning_rate(self.state.optimiser, rate)
        losses = self._gradients(batch)
        self.state.precision.step(self.state.optimiser)
        self.state.optimiser.zero_grad(set_to_none=True)
        if self.state.average:
            self.state.average.update(self.state.model)
        return losses

    def _gradients(self, batch: Any) -> BatchLosses:
        """Compute the loss of one batch and the gradients of all parameters."""
        try:
            losses = self.objective(self.network, batch, self.state.precision)
            self.state.precision.backward(losses.total)
        except RuntimeError as error:
            if self.spec.torch_compile and type(error).__module__.startswith(COMPILERS):
                raise TrainingError(
                    f"torch.compile cannot build the network here: {str(error).splitlines()[0]}",
                    "Install a C++ compiler (the variable CXX names it), or leave torch_compile out of the spec.",
                ) from error
            raise
        return losses

    def _check_finite(self, loss: float, step: int) -> None:
        """Stop before anything is written when the loss is NaN or infinite."""
        if loss - loss == 0:
            return
        epochs = self.folder.epochs()
        kept = f"The checkpoints are as they were; the newest is '{self.folder.path(epochs[0])}'." if epochs else ""
        raise TrainingError(
            f"The loss became {loss} at step {step + 1} (epoch {step // self.data.steps_per_epoch + 1}). {kept}",
            "Lower the learning rate or start it more softly in the spec, then train into another results folder.",
        )

    def _rehearse(self, batches: Sequence[Any]) -> None:
        """Go once through everything that an epoch does, so that mistakes show now; nothing changes by it."""
        begun = time.monotonic()
        network = self.state.network
        kept = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        random = torch.get_rng_state()
        precision = self.state.precision.state()
        with progress() as bars:
            for batch in bars.track(batches, description="rehearsal") if self.place.speaks else batches:
                losses = self._gradients(to_device(batch, self.place.device))
                self._check_finite(float(losses.total.detach()), 0)
                self.state.optimiser.zero_grad(set_to_none=True)
        network.load_state_dict(kept)
        if self.validator and self.place.speaks:
            self.validator.rehearse(self.state.shown_network(), self.folder.info, self.place.device)
        self.state.precision.restore(precision)
        torch.set_rng_state(random)
        self.place.wait_for_all()
        if self.place.speaks:
            what = "two batches and a validation picture" if self.validator else "two batches"
            log.info("Rehearsed %s in %.1f s.", what, time.monotonic() - begun)

    def _validate(self) -> dict[str, float]:
        """Measure the network where an epoch asks for it, and keep it if it is the best so far."""
        every = self.spec.validation_every_n_epoch
        due = self.validator and every and (self.state.epoch % every == 0 or self.state.epoch == self.epochs)
        scores: dict[str, float] = {}
        if self.validator and due and self.place.speaks:
            scores = self.validator.score(self.state.shown_network(), self.folder.info, self.place.device)
            if scores["AP"] > self.state.best.get("AP", -1.0):
                self._check_weights()
                self.state.best = {"epoch": self.state.epoch, "AP": scores["AP"]}
                self.folder.save_best(self.state, scores["AP"])
                log.info("Best so far: AP %.4f, kept as '%s'.", scores["AP"], self.folder.best_path)
        if due:
            self.place.wait_for_all()
        return scores

    def _keep(self) -> None:
        """Write the checkpoint of an epoch that has one."""
        done = self.state.epoch - self.state.start_epoch
        if self.place.speaks and (done % self.spec.checkpoint_n_epoch == 0 or self.state.epoch == self.epochs):
            self._check_weights()
            self.folder.save(self.state)

    def _check_weights(self) -> None:
        """Refuse to write weights that are no numbers: the last update of an epoch may have spoilt them."""
        for name, tensor in self.state.model.state_dict().items():
            if not bool(tensor.isfinite().all()):
                raise TrainingError(
                    f"The weights '{name}' became NaN or infinite in epoch {self.state.epoch}; nothing was written.",
                    "Lower the learning rate in the spec, then train into another results folder.",
                )

    def _finish(self) -> TrainingResult:
        """Write the final model and say where everything lies."""
        final = self.folder.final_path
        best = self.folder.best_path if self.state.best else None
        if self.place.speaks:
            self.folder.save_final(self.state)
            log.info("Trained %s. Model: '%s'.", counted(self.state.epoch, "epoch"), final)
            if best:
                log.info("Best: AP %.4f in epoch %d, '%s'.", self.state.best["AP"], self.state.best["epoch"], best)
        return TrainingResult(final, self.state.epoch, self.state.history, best, self.state.best.get("AP"))
