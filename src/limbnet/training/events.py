"""TensorBoard's event file, written in this thread, so that a full disk is an error here and not a lost thread."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from limbnet.files import write_error


class EventFile:
    """Scalars of a run, for TensorBoard.

    Args:
        folder: for the file; it is created.
        first_step: what earlier files in the folder say about this step and later ones is taken back.

    Raises:
        LimbnetError: the file cannot be written; so do the methods.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        now = time.time()
        self.path = folder / f"events.out.tfevents.{now:.6f}.{socket.gethostname()}.{os.getpid()}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._records: Any = RecordWriter(self.path.open("wb"))
        except OSError as error:
            raise write_error(self.path, error) from error
        self._write(step=0, file_version="brain.Event:2")
        self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Write the values of one step, down to the disk."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        named = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._write(step=step, summary=Summary(value=named))

    def close(self) -> None:
        """Close the file. Every event is in it already, or an error was raised that closing would only repeat."""
        with suppress(OSError):
            self._records.close()

    def _write(self, **content: Any) -> None:
        from tensorboard.compat.proto.event_pb2 import Event

        try:
            self._records.write(Event(wall_time=time.time(), **content).SerializeToString())
            self._records.flush()
        except OSError as error:
            raise write_error(self.path, error) from error
