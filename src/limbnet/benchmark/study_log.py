"""What a row has measured so far: a file of JSON lines that a killed run leaves usable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import TextIOWrapper
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from limbnet.errors import LimbnetError
from limbnet.files import write_error, write_text

#: Of the first line; files of other versions are refused.
VERSION = 1


class RowLog:
    """The file of one row: a first line that says what was run, then a line for every picture of every repetition.

    Lines reach the system one by one, whole; a line that a kill has torn is cut off when the file is opened again.

    Args:
        path: the file.
        identity: what must be the same for measurements to belong together.
        overwrite: begin anew, whatever the file holds.

    Attributes:
        lines: of the pictures, by repetition and id.
        facts: about the network, once it has been opened.
        conflicts: what the file says otherwise than `identity`.
    """

    def __init__(self, path: Path, identity: Mapping[str, Any], overwrite: bool = False) -> None:
        self.path = path
        self.identity = dict(identity)
        self.lines: dict[tuple[int, int], dict[str, Any]] = {}
        self.facts: dict[str, Any] = {}
        self.conflicts: list[str] = []
        self._file: TextIOWrapper | None = None
        if overwrite:
            path.unlink(missing_ok=True)
        self._read()

    def _read(self) -> None:
        try:
            content = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return
        except (OSError, UnicodeDecodeError) as error:
            raise LimbnetError(f"Cannot read '{self.path}': {error}.", "Choose another folder with -r.") from error
        whole = content[: content.rfind("\n") + 1]
        try:
            head, *rows = [json.loads(line) for line in whole.splitlines()] or [None]
            if head is None:  # killed before the first line was whole
                return
            if head["version"] != VERSION:
                raise KeyError("version")
            identity = head["identity"]
            self.facts = head["facts"]
            self.lines = {(row["repetition"], row["image"]): row for row in rows}
        except (ValueError, KeyError, TypeError) as error:
            raise LimbnetError(
                f"'{self.path}' was not written by this version's 'limbnet benchmark', or is damaged ({error}).",
                "Choose another folder with -r, or begin anew with --overwrite.",
            ) from error
        self.conflicts = [
            f"{key} was {json.dumps(identity.get(key))} and is {json.dumps(self.identity.get(key))}"
            for key in {**identity, **self.identity}
            if identity.get(key) != self.identity.get(key)
        ]
        if len(whole) < len(content) and not self.conflicts:
            write_text(self.path, whole)

    def done(self, repetition: int, image: int) -> bool:
        """Tell whether a picture has been measured."""
        return (repetition, image) in self.lines

    def opened(self, facts: Mapping[str, Any]) -> Self:
        """Make ready to add lines, as a context; the facts are written once."""
        if not self.facts:
            self.facts = dict(facts)
            head = {"version": VERSION, "identity": self.identity, "facts": self.facts}
            write_text(self.path, json.dumps(head) + "\n")
        return self

    def __enter__(self) -> Self:
        try:
            self._file = self.path.open("a", encoding="utf-8")
        except OSError as error:
            raise write_error(self.path, error) from error
        return self

    def add(self, repetition: int, line: Mapping[str, Any]) -> None:
        """Keep what was measured on one picture.

        Raises:
            LimbnetError: it cannot be written.
        """
        assert self._file is not None
        whole = {"repetition": repetition, **line}
        try:
            self._file.write(json.dumps(whole) + "\n")
            self._file.flush()
        except OSError as error:
            raise write_error(self.path, error) from error
        self.lines[repetition, line["image"]] = whole

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
