"""The finished steps of a search, kept in a file so that a repeated command does none of them again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limbnet.compress.candidates import Candidate
from limbnet.errors import TrainingError
from limbnet.files import write_json

log = logging.getLogger(__name__)

NAME = "state.json"


class Steps:
    """What a search has measured so far.

    Args:
        folder: the results folder; its `state.json` is read when it exists.
        run: all that decides what is measured. A folder that was begun with another `run` is refused.

    Attributes:
        done: by the share of the multiply-adds that was kept, the candidates measured. Steps whose files are gone are
            not among them.
        looks: by budget, how many of the steps looked closer; a command that is repeated takes them only once.

    Raises:
        TrainingError: the folder holds another search, or its state is damaged.
    """

    def __init__(self, folder: Path, run: dict[str, Any]) -> None:
        self.path = folder / NAME
        self.run: dict[str, Any] = json.loads(json.dumps(run, default=str))
        self.done: dict[float, list[Candidate]] = {}
        self.looks: dict[str, int] = {}
        if self.path.exists():
            self._take_over(folder)

    def add(self, keep: float, found: Sequence[Candidate]) -> None:
        """Write down a finished step, whole or not at all."""
        self.done[keep] = list(found)
        steps = {str(share): [one.to_dict() for one in step] for share, step in self.done.items()}
        write_json(self.path, {"run": self.run, "steps": steps, "looks": self.looks})

    def _take_over(self, folder: Path) -> None:
        try:
            content = json.loads(self.path.read_text())
            theirs, looks = dict(content["run"]), dict(content.get("looks", {}))
            steps = {float(keep): [Candidate.from_dict(one) for one in step] for keep, step in content["steps"].items()}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TrainingError(
                f"The state of the search, '{self.path}', cannot be read: {error!r}.", "Delete it to begin anew."
            ) from error
        differing = [f"{name}: {theirs.get(name)!r} then, {now!r} now" for name, now in self.run.items()
                     if theirs.get(name) != now]  # fmt: skip
        if differing:
            raise TrainingError(
                f"The results folder '{folder}' holds another search. What differs:\n  " + "\n  ".join(differing),
                "Name another results folder with -r, or go on with the settings that the search began with.",
            )
        self.looks = looks
        self.done = {
            keep: step
            for keep, step in steps.items()
            if all((folder / name).is_file() for one in step for name in (one.weights, one.file))
        }
        log.info("Going on: %d steps of the search are done.", len(self.done))
