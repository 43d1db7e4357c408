"""`status.json`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from limbnet.errors import DataError, LimbnetError
from limbnet.status import StatusLog


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "status.json").read_text().splitlines()]


def test_a_command_that_works(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "results"
    with StatusLog(folder, "train") as status:
        status.write("Epoch 2 done.", epoch=2, max_epoch=4, time_per_epoch="0:00:10", eta="0:00:20", kpi={"AP": 0.25})
    first, epoch, last = lines(folder)
    assert (first["status"], epoch["status"], last["status"]) == ("STARTED", "RUNNING", "SUCCESS")
    assert (epoch["epoch"], epoch["max_epoch"], epoch["kpi"], epoch["verbosity"]) == (2, 4, {"AP": 0.25}, "INFO")
    assert re.fullmatch(r"\d+/\d+/\d{4}", first["date"])
    assert re.fullmatch(r"\d+:\d+:\d+", first["time"])
    assert "kpi" not in first


@pytest.mark.parametrize(
    ("error", "reason"), [(DataError("No pictures."), "No pictures."), (KeyboardInterrupt(), "interr")]
)
def test_a_command_that_fails_says_why(tmp_path: Path, error: BaseException, reason: str) -> None:
    with pytest.raises(type(error)), StatusLog(tmp_path, "train"):
        raise error
    last = lines(tmp_path)[-1]
    assert (last["status"], last["verbosity"]) == ("FAILURE", "ERROR")
    assert reason in last["message"]


def test_commands_append(tmp_path: Path) -> None:
    for _ in range(2):
        with StatusLog(tmp_path, "evaluate"):
            pass
    assert [line["status"] for line in lines(tmp_path)] == ["STARTED", "SUCCESS"] * 2


def test_a_folder_that_cannot_be_written_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LimbnetError, match=r"Cannot write '.*status.json'"), StatusLog(tmp_path / "file", "train"):
        pass


def test_the_first_error_wins_over_a_status_that_cannot_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train() -> None:
        with StatusLog(tmp_path, "train"):
            (tmp_path / "status.json").unlink()
            (tmp_path / "status.json").mkdir()
            raise DataError("first")

    with pytest.raises(DataError, match="first"):
        train()
    assert "status.json" in caplog.text
