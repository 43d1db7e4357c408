"""`status.json`: one JSON object a line about how a command gets on, for programs that watch it (TAO's layout)."""

from __future__ import annotations

import json
import logging
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from limbnet.files import write_error

State = Literal["STARTED", "RUNNING", "SUCCESS", "FAILURE"]

log = logging.getLogger(__name__)


class StatusLog:
    """Appends lines to `<results_dir>/status.json`; as a context manager also the first and the last line.

        with StatusLog(results_dir, "train") as status:
            status.write("Epoch 3 done", epoch=3, max_epoch=100, time_per_epoch="0:02:10", eta="3:30:10")

    The last line says SUCCESS, or FAILURE with the reason when the block ends by an exception.
    """

    def __init__(self, results_dir: Path | str, command: str) -> None:
        self.path = Path(results_dir) / "status.json"
        self.command = command

    def write(
        self,
        message: str,
        status: State = "RUNNING",
        verbosity: Literal["INFO", "WARNING", "ERROR"] = "INFO",
        kpi: dict[str, float] | None = None,
        graphical: dict[str, Any] | None = None,
        **values: Any,
    ) -> None:
        """Append one line; `values` are further keys, such as `epoch`, `max_epoch`, `time_per_epoch` and `eta`.

        Raises:
            LimbnetError: the line cannot be written.
        """
        now = datetime.now().astimezone()
        line: dict[str, Any] = {
            "date": f"{now.month}/{now.day}/{now.year}",
            "time": f"{now.hour}:{now.minute}:{now.second}",
            "status": status,
            "verbosity": verbosity,
            "message": message,
            **values,
        }
        if kpi:
            line["kpi"] = kpi
        if graphical:
            line["graphical"] = graphical
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")  # one write: lines of two processes never mix
        except OSError as error:
            raise write_error(self.path, error) from error

    def __enter__(self) -> Self:
        self.write(f"Starting {self.command}.", status="STARTED")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None:
            self.write(f"{self.command} finished.", status="SUCCESS")
            return
        reason = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error) or type(error).__name__
        try:
            self.write(f"{self.command} failed: {reason}", status="FAILURE", verbosity="ERROR")
        except Exception as second:  # the first error is the one to report
            log.warning("%s", second)
