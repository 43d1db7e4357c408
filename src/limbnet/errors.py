"""The errors a user sees: what was found, where, and what to do about it.

Everything that can go wrong through input, files or the machine is raised as a `LimbnetError`; the command line prints
it in one message and exits with its code. Any other exception that reaches the user is a bug.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LimbnetError(Exception):
    """A mistake the user can mend.

    `what` states what was found and where; `todo` states what to do. `str(error)` joins the two.
    """

    exit_code = 1

    def __init__(self, what: str, todo: str = "") -> None:
        self.what = what
        self.todo = todo
        super().__init__(f"{what}\n  {todo}" if todo else what)


class UsageError(LimbnetError):
    """The command line itself is wrong: an unknown flag, a missing one, a value of the wrong kind."""

    exit_code = 2


class SpecError(LimbnetError):
    """A spec file is wrong. Holds every problem found in the file, one line each."""


class DataError(LimbnetError):
    """Pictures, annotations, records or masks are wrong or missing."""


class ModelFileError(LimbnetError):
    """A model file is missing, damaged, of another kind, or needs another key."""


class DeviceError(LimbnetError):
    """A device, provider, runtime or precision that was asked for is not there."""


class TrainingError(LimbnetError):
    """Training cannot go on: the loss became NaN, the results folder belongs to another run, and so on."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the known name closest to `name`, or `""` when none is close."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.55)
    return f" Did you mean '{close[0]}'?" if close else ""


def missing_package(package: str, purpose: str, extra: str | None = None) -> DeviceError:
    """Build the error for a package that is not installed, with the exact command that installs it.

    Only a package that is an extra of limbnet can be missing without somebody having removed it.
    """
    wanted = f'"limbnet[{extra}]"' if extra else package
    what = f"{purpose} needs the package '{package}', which is not installed."
    return DeviceError(what, f"Run: pip install {wanted}")
