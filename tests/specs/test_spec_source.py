"""How the text of a spec file is read: values, JSON, anchors, limits, and files that are no specs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spec_text import Write, mistakes

from limbnet.errors import SpecError
from limbnet.specs.load import load_train_spec
from limbnet.specs.source import MAX_BYTES, read_source, to_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2.e-5", 2e-5),
        ("8.e-08", 8e-8),
        ("5.0e-4", 5e-4),
        ("1e-9", 1e-9),
        ("1E5", 1e5),
        ("-.5", -0.5),
        ("+3", 3),
        ("010", 10),
        ("1e", "1e"),
        ("e5", "e5"),
        (".", "."),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2017-01-01", "2017-01-01"),
        (".nan", ".nan"),
        (".inf", ".inf"),
        ("", None),
        ("~", None),
        ("null", None),
        ("None", None),
        ("none", None),
        ('"None"', None),
        ("yes", True),
        ("False", False),
        ('"1e-9"', "1e-9"),
        ('"true"', "true"),
        ("[1, 2.]", [1, 2.0]),
        ('{"a":1}', {"a": 1}),
    ],
)
def test_scalars(write: Write, text: str, value: object) -> None:
    found = read_source(write(f"key: {text}\n")).content["key"]
    assert found == value
    assert type(found) is type(value)


def test_json_escapes_and_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "spec.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps({"a/b": "\u00fc\U0001f600\t\\/"}).encode())
    assert read_source(path).content == {"a/b": "\u00fc\U0001f600\t\\/"}


def test_anchors_and_merge_keys(write: Write) -> None:
    content = read_source(write("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [{x: 5}, *a]}\n")).content
    assert content["b"] == {"x": 1, "y": 3}
    assert content["c"] == {"x": 5, "y": 2}


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_yaml_round_trip(tmp_path: Path, value: object) -> None:
    def as_read(item: Any) -> Any:  # quoted or not, these words mean no value
        if isinstance(item, dict):
            return {key: as_read(inner) for key, inner in item.items()}
        if isinstance(item, list):
            return [as_read(inner) for inner in item]
        return None if item in ("None", "none", "null", "NULL", "Null", "NONE") else item

    path = tmp_path / "value.yaml"
    path.write_text(to_yaml({"value": value}), encoding="utf-8")
    assert read_source(path).content == {"value": as_read(value)}


def test_missing_file_names_its_neighbour(write: Write) -> None:
    path = write("a: 1")
    with pytest.raises(SpecError, match=r"There is no file .* Did you mean 'spec.yaml'\?"):
        load_train_spec(path.with_name("spek.yaml"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x89HDF\r\n\x1a\n\xff\xfe", "no text file"),
        (b"- a\n- b\n", "found a list of 2, expected a spec"),
        (b"hello", "found the text 'hello', expected a spec"),
        (b"a: [1, 2\nb: 3\n", ":2: .*expected ',' or ']'"),
        (b"a:\n\t- b\n", ":2: found character"),
        (b'{"a": 1,, "b": 2}', ":1: "),
        (b"a: " + b"[" * 5000 + b"]" * 5000, "nests deeper than 40 levels"),
        (b"a: &a [*a]\n", "unfolds to more than"),
        (
            b"a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
            + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 10)),
            "unfolds to more than",
        ),
        (b"a: &a 1\nb: *c\n", ":2: found undefined alias"),
        (b"num_epoch: !!python/object/apply:os.system ['true']\n", "the YAML tag|expected a whole number"),
        (b"num_epoch: " + b"9" * 5000, "num_epoch: found the text '9999.*expected a whole number"),
        (b'final_model_name: "\\ud83d"', "holds half a character"),
        (b"a\x00b: 1", "special characters are not allowed"),
        (b"? [a]\n: 1\n", "a key must be a word"),
        (b"x: 1\n---\ny: 2\n", ":2: but found another document"),
        (b"a" * (MAX_BYTES + 1), "has 1.0 MiB, a spec file at most 1 MiB"),
    ],
)
def test_files_that_are_no_specs(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=message):
        load_train_spec(path)


def test_folder_and_empty_file(tmp_path: Path, write: Write) -> None:
    with pytest.raises(SpecError, match="is a folder"):
        load_train_spec(tmp_path)
    assert mistakes(load_train_spec, write("")) == ["1: 'dataloader' is missing"]
