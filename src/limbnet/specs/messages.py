"""Turn pydantic's errors into lines that name the key, what was found and what was expected."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from limbnet.errors import nearest
from limbnet.specs.source import KeyPath, Source, dotted, shortened

_EXPECTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "text",
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a section of keys",
    "model_type": "a section of keys",
    "model_attributes_type": "a section of keys",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "literal_error": "{expected}",
    "too_long": "{max_length} of them",
    "too_short": "at least {min_length}",
}


def problem_lines(error: ValidationError, content: Any, source: Source) -> list[tuple[int, str]]:
    """Return (line, text) for every mistake that pydantic found in the values of a file."""
    problems = []
    for detail in error.errors(include_url=False):
        keys = _key_path(detail, content)
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue  # pydantic counts the good items alone; the bad ones have messages of their own
        if detail["type"] == "mistakes":
            for key, what in detail["ctx"]["mistakes"]:
                below = (int(part) if part.isdecimal() else part for part in key.split("."))
                at = (*keys, *below) if key else keys
                problems.append((source.line(at), f"{dotted(at)}: {what}" if at else what))
        elif detail["type"] == "missing" and isinstance(keys[-1], int):
            text = f"{dotted(keys[:-1])}: found {keys[-1]} values, expected more"
            problems.append((source.line(keys[:-1]), text))
        elif detail["type"] == "missing":
            problems.append((source.line(keys[:-1]), f"'{dotted(keys)}' is missing"))
        else:
            problems.append((source.line(keys), f"{dotted(keys)}: {_complaint(detail)}"))
    return problems


def _complaint(detail: ErrorDetails) -> str:
    context, found = detail.get("ctx", {}), detail["input"]
    expected = _EXPECTED.get(detail["type"])
    if expected is None:
        return f"found {shown(found)}: {detail['msg'][0].lower()}{detail['msg'][1:]}"
    text = f"found {shown(found)}, expected {expected.format(**context)}"
    if detail["type"] == "literal_error" and isinstance(found, str):
        text += "." + nearest(
            found, [choice.strip(" '") for choice in context["expected"].replace(" or ", ",").split(",")]
        )
    return text


def _key_path(detail: ErrorDetails, content: Any) -> KeyPath:
    """Return where in the file an error lies: pydantic's location without the class names it puts between keys."""
    keys: list[str | int] = []
    location = detail["loc"]
    for number, part in enumerate(location):
        last = number == len(location) - 1
        known = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
        if part in known:
            content = content[part]
        elif not (last and detail["type"] == "missing"):
            continue
        keys.append(part)
    return tuple(keys)


def shown(value: Any) -> str:
    """Describe a value of a spec file in a few words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text '{shortened(value)}'"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return "a section of keys" if isinstance(value, dict) else shortened(str(value))
