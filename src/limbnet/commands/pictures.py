"""Which pictures a command is to look at: one, those of a folder, or those that a JSON file lists."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from limbnet.errors import DataError

InputType = Literal["image", "dir", "json"]


@dataclass(frozen=True)
class Pictures:
    """Pictures in order.

    Attributes:
        names: paths, relative to `root`.
        root: the folder they are relative to.
        entries: for each picture what a JSON file says about it; empty when nothing.
        extra: what a JSON file says beside its list of pictures.
    """

    names: Sequence[str]
    root: Path = Path()
    entries: Sequence[Mapping[str, Any]] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def paths(self) -> Iterator[Path]:
        """Yield the pictures' paths."""
        for name in self.names:
            yield self.root / name

    def entry(self, index: int) -> Mapping[str, Any]:
        """Return what a JSON file says about a picture beside its path."""
        return self.entries[index] if self.entries else {}


_PATH = "full_image_path"


def find_pictures(source: Path, input_type: InputType | None = None, root: Path | None = None) -> Pictures:
    """Return the pictures that `source` stands for.

    Args:
        source: a picture, a folder (its files in order of name, hidden ones left out, folders in it not entered), or a
            JSON file: a list of paths, or an object with `images`, a list of objects with `full_image_path`.
        input_type: what `source` is; when None, a folder is a folder, and a file is JSON when it begins like JSON.
        root: the folder that the paths of a JSON file are relative to, the working directory when None. A picture or a
            folder that is not found as it is given is looked for in it too.

    Raises:
        DataError: there is nothing at `source`, or it is not what `input_type` says.
    """
    if root is not None and not source.exists() and (root / source).exists():
        source = root / source
    if not source.exists():
        raise DataError(f"There is no '{source}'.", "Check the path.")
    input_type = input_type or _kind(source)
    if (input_type == "dir") != source.is_dir():
        is_a = "a folder" if source.is_dir() else "a file"
        raise DataError(f"'{source}' is {is_a}, but --input_type says {input_type}.", "Leave --input_type out.")
    if input_type == "image":
        return Pictures([str(source)])
    if input_type == "json":
        return _from_json(source, root or Path())
    with os.scandir(source) as files:
        names = sorted(file.name for file in files if file.is_file() and not file.name.startswith("."))
    if not names:
        raise DataError(f"The folder '{source}' contains no files.", "Give a folder of pictures.")
    return Pictures(names, source)


def _kind(source: Path) -> InputType:
    if source.is_dir():
        return "dir"
    try:
        with source.open("rb") as file:
            return "json" if file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"[", b"{") else "image"
    except OSError as error:
        raise DataError(f"Cannot read '{source}': {error.strerror or error}.") from error


def _from_json(source: Path, root: Path) -> Pictures:
    """Read a list of pictures, all mistakes at once."""
    todo = f"Expected a list of paths, or an object with 'images', a list of objects with '{_PATH}'."
    try:
        content = json.loads(source.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        raise DataError(f"'{source}' is no JSON file: {error}.", todo) from error
    extra: dict[str, Any] = {}
    listed = content
    if isinstance(content, dict):
        listed = content.get("images")
        extra = {key: value for key, value in content.items() if key != "images"}
    if not isinstance(listed, list) or not listed:
        raise DataError(f"'{source}' lists no pictures.", todo)
    entries = [{_PATH: entry} if isinstance(entry, str) else entry for entry in listed]
    wrong = [
        f"entry {number}: {str(entry)[:80]}"
        for number, entry in enumerate(entries)
        if not (isinstance(entry, dict) and isinstance(entry.get(_PATH), str) and entry[_PATH])
    ]
    if wrong:
        shown = "\n  ".join(wrong[:10])
        raise DataError(f"{len(wrong)} entries of '{source}' name no picture:\n  {shown}", todo)
    return Pictures([entry[_PATH] for entry in entries], root, entries, extra)
