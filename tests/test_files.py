"""Files are written whole or not at all."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from limbnet.errors import LimbnetError
from limbnet.files import whole_file, write_bytes, write_json, write_text


def test_a_file_appears_whole(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "file.json"
    write_json(target, {"a": [1, 2]})
    assert target.read_text() == '{\n  "a": [\n    1,\n    2\n  ]\n}\n'
    assert [path.name for path in target.parent.iterdir()] == ["file.json"]


def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "model"
    write_text(target, "old")

    def fail() -> None:
        with whole_file(target) as partial:
            partial.write_text("half of the ne")
            raise RuntimeError("interrupted")

    with pytest.raises(RuntimeError):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(
    ("number", "said"), [(errno.ENOSPC, "disk is full"), (errno.EACCES, "No permission"), (errno.EIO, "Cannot write")]
)
def test_trouble_with_the_disk_is_said_in_words(
    number: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    write_bytes(target, b"old")

    def no_room(*_: object) -> int:
        raise OSError(number, "trouble")

    monkeypatch.setattr("os.fsync", no_room)
    with pytest.raises(LimbnetError, match=said):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_full_disk(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")

    def fill() -> None:
        with whole_file(tmp_path / "file") as partial:
            partial.symlink_to("/dev/full")
            with partial.open("wb", buffering=0) as file:
                file.write(b"x" * 100)

    with pytest.raises(LimbnetError, match="disk is full"):
        fill()
    assert list(tmp_path.iterdir()) == []
