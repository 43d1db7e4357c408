"""The base of every spec section: unknown keys are refused, keys without effect are marked, values never change."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """A part of a spec file. Every key is checked; the loader turns mistakes into lines with their place in the file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, protected_namespaces=())


def without_effect(default: Any, why: str, **options: Any) -> Any:
    """Declare a key of the manuals that limbnet accepts but does not need; the loader says so in one line."""
    return Field(default, json_schema_extra={"no_effect": why}, **options)


def class_name(default: str) -> Any:
    """Declare the `__class_name__` key that the manuals' specs write in each section."""
    return Field(default, alias="__class_name__")
