"""The text of a spec file, YAML or JSON: read into plain values with the line of every key, and written back.

Scalars follow YAML 1.2 where YAML 1.1 surprises: `2.e-5` and `1e-9` are numbers, `010` is ten, dates stay text. The
words None, none and null mean no value, quoted or not. Anchors, aliases and merge keys work, within limits on size and
depth.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from limbnet.errors import SpecError, nearest

KeyPath = tuple[str | int, ...]

MAX_BYTES = 1 << 20
MAX_DEPTH = 40
MAX_VALUES = 100_000

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    # kind: (what the whole scalar looks like, its possible first characters; "" is the empty scalar)
    "null": (r"~|null|Null|NULL|none|None|NONE|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE|yes|Yes|YES|no|No|NO|on|On|ON|off|Off|OFF", list("tTfFyYnNoO")),
    "int": (r"[-+]?[0-9]+", list("-+0123456789")),
    "float": (r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*|[0-9]+(?=[eE]))([eE][-+]?[0-9]+)?", list("-+.0123456789")),
}
_YES = ("true", "yes", "on")


class _Loader(yaml.SafeLoader):
    """Composes nodes with the scalars above, down to a limited depth."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the parent class declares it so
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _TooMuch(f"nests deeper than {MAX_DEPTH} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class _Dumper(yaml.SafeDumper):
    """Quotes exactly the texts that `_Loader` would read as something else; short lists stay on one line."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - the parent class declares it so

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


for _name, (_pattern, _first) in _SCALARS.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), _first)


class _TooMuch(Exception):
    """The file exceeds a limit."""


@dataclass
class Source:
    """A spec file as plain values (dict, list, str, int, float, bool, None) with the line of every key.

    Attributes:
        path: the file.
        content: its values.
        lines: key path to line number, from 1.
        problems: (line, text) of mistakes already found: keys given twice, keys that are no text, unknown YAML tags.
    """

    path: Path
    content: Any = None
    lines: dict[KeyPath, int] = field(default_factory=dict)
    problems: list[tuple[int, str]] = field(default_factory=list)
    values: int = 0

    def line(self, keys: KeyPath) -> int:
        """Return the line of a key, or of the closest section around it that is in the file."""
        while keys not in self.lines and keys:
            keys = keys[:-1]
        return self.lines.get(keys, 1)

    def fill(self, node: yaml.Node, keys: KeyPath = (), depth: int = 0) -> Any:
        """Return the plain value of a YAML node and note the lines of its keys."""
        self.values += 1
        if self.values > MAX_VALUES or depth > MAX_DEPTH:
            raise _TooMuch(f"unfolds to more than {MAX_VALUES} values or {MAX_DEPTH} levels (aliases of aliases?)")
        self.lines.setdefault(keys, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys, depth)
        if isinstance(node, yaml.SequenceNode):
            return [self.fill(item, (*keys, number), depth + 1) for number, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, keys: KeyPath, depth: int) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append((line, "a key must be a word, here it is a list or a section"))
                continue
            key = str(key_node.value)
            if key == "<<" and key_node.style is None:
                parts = value_node.value if isinstance(value_node, yaml.SequenceNode) else [value_node]
                for part in reversed(parts):
                    inner = self.fill(part, (*keys, key), depth + 1)
                    merged |= inner if isinstance(inner, dict) else {}
                continue
            if key in values:
                first = self.lines[(*keys, key)]
                self.problems.append((line, f"'{dotted((*keys, key))}' is given twice, first in line {first}"))
                continue
            self.lines[(*keys, key)] = line
            values[key] = self.fill(value_node, (*keys, key), depth + 1)
        return {**merged, **values}

    def _scalar(self, node: yaml.Node) -> Any:
        text, kind = str(node.value), node.tag.removeprefix(_TAG)
        line = node.start_mark.line + 1
        if kind == "null" or (kind == "str" and text in ("None", "none", "NONE", "null", "Null", "NULL")):
            return None
        if kind == "bool":
            return text.lower() in _YES
        if kind in ("int", "float"):
            try:
                return int(text) if kind == "int" else float(text)
            except ValueError:  # a number of thousands of digits stays text, which no number may be
                return text
        if kind != "str":
            self.problems.append((line, f"the YAML tag '{node.tag}' means nothing in a spec"))
        try:
            # JSON writes characters beyond U+FFFF as two escapes
            return text.encode("utf-16", "surrogatepass").decode("utf-16")
        except UnicodeDecodeError:
            self.problems.append((line, f"{shortened(ascii(text))} holds half a character"))
            return ""


def read_source(path: Path | str) -> Source:
    """Read a YAML or JSON file, told apart by nothing: JSON is read as the YAML that it is.

    Raises:
        SpecError: the file is missing, unreadable, no text, too large, too deep, or no YAML; with its line.
    """
    source = Source(Path(path))
    text = _text(source.path)
    if text.lstrip().startswith(("{", "[")):
        text = text.replace("\t", " ")  # JSON may be indented by tabs, YAML may not, and neither has tabs inside texts
    try:
        node = _Loader(text).get_single_node()
        source.content = {} if node is None else source.fill(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise SpecError(
            f"{where}: {error.problem or error.context}.", "Mend the line: the file is neither YAML nor JSON."
        ) from None
    except (yaml.YAMLError, _TooMuch) as error:
        raise SpecError(f"{path}: the file {error}." if isinstance(error, _TooMuch) else f"{path}: {error}") from None
    return source


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise SpecError(
                f"'{path}' has {path.stat().st_size / 2**20:.1f} MiB, a spec file at most {MAX_BYTES >> 20} MiB.",
                "Is it an annotation or a model file? The spec is the small file that names it.",
            )
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        names = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise SpecError(f"There is no file '{path}'.{nearest(path.name, names)}") from None
    except IsADirectoryError:
        raise SpecError(f"'{path}' is a folder, not a spec file.") from None
    except UnicodeDecodeError:
        raise SpecError(f"'{path}' is no text file.", "Give a spec file: YAML or JSON in UTF-8.") from None
    except OSError as error:
        raise SpecError(f"Cannot read '{path}': {error.strerror or error}.") from None


def to_yaml(content: Any) -> str:
    """Write plain values as YAML that `read_source` reads back to the same values."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _text_node(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar(_TAG + "str", text, style=None if text.isprintable() else '"')


def _short_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.Node:
    plain = not any(isinstance(item, dict | list) for item in items)
    return dumper.represent_sequence(_TAG + "seq", items, flow_style=plain)


_Dumper.add_representer(str, _text_node)
_Dumper.add_representer(list, _short_list)


def dotted(keys: KeyPath) -> str:
    """Write a key path as `dataloader.image_config.image_dims[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


def shortened(text: str, limit: int = 60) -> str:
    """Cut a long text in its middle."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 3 :]}"
