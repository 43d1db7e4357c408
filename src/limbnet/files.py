"""Files are written whole or not at all: to a temporary name beside the target, flushed to disk, then renamed."""

from __future__ import annotations

import errno
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from limbnet.errors import LimbnetError


@contextmanager
def whole_file(target: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `target`; rename it to `target` when the block ends without an error.

    A killed or failing block leaves an earlier `target` as it was. The parent folder is created. A full disk or a
    missing permission becomes a `LimbnetError` that names the file.
    """
    target = Path(target)
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        partial.replace(target)
    except OSError as error:
        raise write_error(target, error) from error
    finally:
        partial.unlink(missing_ok=True)


def write_error(target: Path | str, error: OSError) -> LimbnetError:
    """Turn an `OSError` met while writing `target` into the message a user can act on."""
    if error.errno == errno.ENOSPC:
        return LimbnetError(f"The disk is full: '{target}' was not written.", "Free some space and repeat the command.")
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return LimbnetError(f"No permission to write '{target}'.", "Choose another folder for the output.")
    return LimbnetError(
        f"Cannot write '{target}': {error.strerror or error}.", "Check the path, or choose another folder."
    )


def write_bytes(target: Path | str, content: bytes) -> None:
    """Write `content` to `target`, whole or not at all."""
    with whole_file(target) as partial:
        partial.write_bytes(content)


def write_text(target: Path | str, content: str) -> None:
    """Write `content` to `target` as UTF-8, whole or not at all."""
    write_bytes(target, content.encode())


def write_json(target: Path | str, content: Any, indent: int | None = 2) -> None:
    """Write `content` to `target` as JSON, whole or not at all."""
    write_text(target, json.dumps(content, indent=indent) + "\n")
