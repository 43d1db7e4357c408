"""TensorBoard's own reader understands the events, and a full disk is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer.record_writer import RecordWriter

from limbnet.errors import LimbnetError
from limbnet.training.events import EventFile


def curve(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in EventAccumulator(str(folder)).Reload().Scalars(name)]


def test_scalars_are_read_back_while_the_run_goes_on(tmp_path: Path) -> None:
    events = EventFile(tmp_path / "events", 0)
    events.scalars({"loss": 2.0, "AP": 0.25}, 5)
    events.scalars({"loss": 1.5}, 10)
    assert curve(tmp_path / "events", "loss") == [(5, 2.0), (10, 1.5)]
    assert curve(tmp_path / "events", "AP") == [(5, 0.25)]
    events.close()


def test_a_resumed_run_takes_back_what_it_repeats(tmp_path: Path) -> None:
    first = EventFile(tmp_path, 0)
    for step in (5, 10, 15):
        first.scalars({"loss": float(step)}, step)
    first.close()
    again = EventFile(tmp_path, 10)
    again.scalars({"loss": 1.0}, 15)
    again.close()
    assert curve(tmp_path, "loss") == [(5, 5.0), (15, 1.0)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full, Linux's disk that is always full")
def test_a_full_disk_is_one_message(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    events = EventFile(tmp_path, 0)
    events._records.close()
    events._records = RecordWriter(Path("/dev/full").open("wb"))  # noqa: SIM115 - closed below
    with pytest.raises(LimbnetError, match=r"(?s)disk is full: '.*events\.out.*Free some space"):
        events.scalars({"loss": 1.0}, 1)
    events.close()
    assert capfd.readouterr() == ("", "")
