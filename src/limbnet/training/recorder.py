"""What is told about a run: console lines, a progress bar, TensorBoard events, `metrics.csv` and `status.json`."""

from __future__ import annotations

import csv
import io
import logging
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from limbnet.console import progress
from limbnet.files import write_text
from limbnet.status import StatusLog
from limbnet.training.events import EventFile

log = logging.getLogger(__name__)

#: The progress bar is redrawn so often; each time the losses are fetched from the device.
REFRESH_SECONDS = 1.0


class Recorder:
    """Tells how a run gets on; used as a context manager. A silent one tells nothing.

    Args:
        folder: the results folder.
        silent: for every process but the first.
        steps_per_epoch: updates in an epoch.
        epochs: epochs of the whole run.
        epoch: epochs done before.
        images_per_step: pictures in an update, all processes together.
        log_every: seconds between console lines.
        summary_every: steps between TensorBoard summaries.
    """

    def __init__(
        self,
        folder: Path,
        *,
        silent: bool,
        steps_per_epoch: int,
        epochs: int,
        epoch: int,
        images_per_step: int,
        log_every: float,
        summary_every: int,
    ) -> None:
        self.folder = folder
        self.silent = silent
        self.steps_per_epoch, self.epochs = steps_per_epoch, epochs
        self.images_per_step = images_per_step
        self.log_every, self.summary_every = log_every, summary_every
        self._first_step = epoch * steps_per_epoch
        self._status = StatusLog(folder, "train")
        self._events: EventFile | None = None
        self._busy = 0.0  # seconds spent training, validation and checkpoints aside
        self._since: float | None = None
        self._steps = 0
        self._shown = self._logged = 0.0

    def __enter__(self) -> Self:
        if not self.silent:
            # Steps that a killed run had told about and that are now repeated are taken back.
            self._events = EventFile(self.folder / "events", self._first_step)
            self._context = progress("loss {task.fields[loss]}", "{task.fields[speed]} images/s")
            self._bars = self._context.__enter__()
            total = self.epochs * self.steps_per_epoch
            self._bar = self._bars.add_task("Training", total=total, completed=self._first_step, loss="-", speed="-")
        self.resume()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._events is not None:
            self._context.__exit__(kind, error, traceback)
            self._events.close()

    def wants(self, step: int) -> bool:
        """Tell whether the losses of this step shall be fetched from the device and handed to `step_done`."""
        due = time.monotonic() - self._shown > REFRESH_SECONDS
        return not self.silent and (due or (step + 1) % self.summary_every == 0)

    def step_done(self, step: int, rate: float, losses: Mapping[str, float] | None) -> None:
        """Count an update; `losses` are given when `wants(step)` was true."""
        self._steps += 1
        if self._events is None or losses is None:
            return
        now = time.monotonic()
        if (step + 1) % self.summary_every == 0:
            self._summaries({"learning_rate": rate, **losses}, step + 1)
        self._shown = now
        self._bars.update(
            self._bar, completed=step + 1, loss=f"{losses['total_loss']:.4g}", speed=f"{self.speed():.1f}"
        )
        if now - self._logged > self.log_every:
            self._logged = now
            log.info(
                "epoch %.2f of %d, step %d: loss %.5g, learning rate %.3g, %.1f images/s, %s left",
                (step + 1) / self.steps_per_epoch,
                self.epochs,
                step + 1,
                losses["total_loss"],
                rate,
                self.speed(),
                self._time_left(step + 1),
            )

    def epoch_done(self, epoch: int, history: Sequence[Mapping[str, float]], waited: float) -> None:
        """Tell the losses of an epoch, and its validation where there was one.

        Args:
            epoch: epochs done.
            history: the rows of `metrics.csv` so far, this epoch's last.
            waited: seconds spent waiting for data since the run began.
        """
        if self.silent:
            return
        row, step = history[-1], epoch * self.steps_per_epoch
        write_text(self.folder / "metrics.csv", _table(history))
        validation = {name: value for name, value in row.items() if name.startswith("A")}
        self._summaries(validation, step)
        words = "".join(f", {name} {value:.4f}" for name, value in validation.items())
        share = waited / max(self._busy_now(), 1e-9)
        # Short epochs would bury what matters: between two lines of `log_every` seconds only validations are told.
        due = bool(validation) or epoch == self.epochs or time.monotonic() - self._logged > self.log_every
        self._logged = time.monotonic() if due else self._logged
        log.log(
            logging.INFO if due else logging.DEBUG,
            "epoch %d of %d done: loss %.5g%s (%.1f images/s, %.1f %% of the time waiting for data)",
            epoch,
            self.epochs,
            row["total_loss"],
            words,
            self.speed(),
            100 * share,
        )
        seconds = self._busy_now() / max(1, self._steps) * self.steps_per_epoch
        self._status.write(
            f"Epoch {epoch} of {self.epochs} done.",
            kpi={name: value for name, value in row.items() if name not in ("epoch", "step")},
            epoch=epoch,
            max_epoch=self.epochs,
            time_per_epoch=str(timedelta(seconds=seconds)),
            eta=self._time_left(step),
        )

    def pause(self) -> None:
        """Stop the clock: what follows is not training."""
        self._busy = self._busy_now()
        self._since = None

    def resume(self) -> None:
        """Let the clock run."""
        self._since = time.monotonic()

    def speed(self) -> float:
        """Return images a second, all processes together, while training."""
        return self._steps * self.images_per_step / max(self._busy_now(), 1e-9)

    def _busy_now(self) -> float:
        return self._busy + (time.monotonic() - self._since if self._since is not None else 0.0)

    def _time_left(self, step: int) -> str:
        left = self.epochs * self.steps_per_epoch - step
        return str(timedelta(seconds=round(self._busy_now() / max(1, self._steps) * left)))

    def _summaries(self, values: Mapping[str, float], step: int) -> None:
        if self._events is not None:
            self._events.scalars(values, step)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as CSV; values that an epoch does not have stay empty."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
