"""The base of every spec section: unknown keys are refused, keys without effect are marked, values never change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError


class Section(BaseModel):
    """A part of a spec file. Every key is checked; the loader turns mistakes into lines with their place."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=(), allow_inf_nan=False
    )

    def mistakes(self) -> Iterator[tuple[str, str]]:
        """Yield (key, what is wrong) where values that are right by themselves contradict each other.

        The key may be a dotted path below this section, or empty for the section itself.
        """
        yield from ()

    def idle_keys(self) -> Iterator[tuple[str, str]]:
        """Yield (key, why) for keys that have no effect beside the other values of this section."""
        yield from ()

    @model_validator(mode="after")
    def _refuse_mistakes(self) -> Self:
        mistakes = list(self.mistakes())
        if mistakes:
            text = "; ".join(f"{key}: {what}" if key else what for key, what in mistakes)
            raise PydanticCustomError("mistakes", "{text}", {"text": text, "mistakes": mistakes})
        return self


def without_effect(default: Any, why: str) -> Any:
    """Declare a key of the manuals that limbnet accepts but does not need.

    The loader says so in one line and leaves the value out, so a loaded spec always holds the default.
    """
    return Field(default, json_schema_extra={"no_effect": why})


def written_path(default: Any) -> Any:
    """Declare a path that limbnet writes to: it is taken as given, never looked up beside the spec file."""
    return Field(default, json_schema_extra={"written": True})


def class_name(default: str) -> Any:
    """Declare the `__class_name__` key that the manuals' specs write in each section."""
    return Field(default, alias="__class_name__")
