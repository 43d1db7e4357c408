"""Load spec files: every mistake at once, in the user's words, with its line; one line for each key without effect."""

from __future__ import annotations

import json
import logging
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin

from pydantic import AliasChoices, ValidationError
from pydantic.fields import FieldInfo

from limbnet.errors import SpecError, nearest
from limbnet.skeleton import BODY_18, COCO_17, Skeleton
from limbnet.specs.base import Section
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.inference import InferenceSpec
from limbnet.specs.messages import problem_lines, shown
from limbnet.specs.pose import PoseConfigFile
from limbnet.specs.source import KeyPath, Source, dotted, read_source, to_yaml
from limbnet.specs.study import StudySpec
from limbnet.specs.train import TrainSpec
from limbnet.specs.zoo_train import ZooTrainSpec, is_zoo_recipe

log = logging.getLogger(__name__)

AnySpec = TypeVar("AnySpec", bound=Section)


def load_dataset_spec(path: Path | str, quiet: bool = False) -> DatasetSpec:
    """Read a dataset spec (JSON or YAML); `quiet` when its keys without effect have been told before.

    Raises:
        SpecError: with every mistake in the file, one line each; so do the other `load_` functions.
    """
    source = read_source(path)
    if isinstance(source.content, dict) and {"images", "annotations"} <= source.content.keys():
        raise SpecError(
            f"'{path}' is a COCO annotation file; a dataset spec is needed, which says where it and its pictures lie.",
            "Copy specs/dataset_coco.json of limbnet's repository and set root_directory_path, images_root_dir_path "
            "and annotation_root_dir_path.",
        )
    return _load(DatasetSpec, source, quiet)[0]


def load_pose_config(path: Path | str | None) -> Skeleton:
    """Read a pose config (JSON or YAML) and return its skeleton; None is BodyPoseNet's 18 joints."""
    return BODY_18 if path is None else _load(PoseConfigFile, path)[0].skeleton()


def load_any_train_spec(path: Path | str) -> TrainSpec | ZooTrainSpec:
    """Read a train spec (YAML or JSON) of a BodyPoseNet, or of a published network: `model: {zoo: NAME}`."""
    if is_zoo_recipe(read_source(path).content):
        return _load(ZooTrainSpec, path)[0]
    return load_train_spec(path)


def training_skeleton(spec: TrainSpec | ZooTrainSpec) -> Skeleton:
    """Return what a train spec's network learns; COCO's joints for a published network that names none."""
    path = spec.dataloader.pose_config.pose_config_path
    return COCO_17 if path is None and isinstance(spec, ZooTrainSpec) else load_pose_config(path)


def load_train_spec(path: Path | str) -> TrainSpec:
    """Read the train spec (YAML or JSON) of a BodyPoseNet, and check it against the pose config that it names."""
    if is_zoo_recipe(read_source(path).content):
        raise SpecError(
            f"'{path}' is the recipe of a published network (model.zoo); a BodyPoseNet's is needed here.",
            "`limbnet train` alone takes both.",
        )
    spec, source = _load(TrainSpec, path)
    skeleton = load_pose_config(spec.dataloader.pose_config.pose_config_path)
    mistakes = spec.model.channel_mistakes(skeleton)
    _refuse(source, [(source.line(("model", key)), f"model.{key}: {what}") for key, what in mistakes])
    return spec.without_regularisation()


def load_inference_spec(path: Path | str) -> InferenceSpec:
    """Read an inference spec (YAML or JSON)."""
    return _load(InferenceSpec, path)[0]


def load_study_spec(path: Path | str) -> StudySpec:
    """Read a study (YAML or JSON)."""
    return _load(StudySpec, path)[0]


def resolved(spec: Section) -> str:
    """Write a spec as YAML with every default spelt out; loading it again gives an equal spec.

    Secrets (`key`) and keys without effect are left out.
    """
    return to_yaml(_plain(spec))


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return {
            field.alias or name: _plain(getattr(value, name))
            for name, field in type(value).model_fields.items()
            if not (field.exclude or _extra(field).get("no_effect"))
        }
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _load(schema: type[AnySpec], file: Source | Path | str, quiet: bool = False) -> tuple[AnySpec, Source]:
    source = file if isinstance(file, Source) else read_source(file)
    if not isinstance(source.content, dict):
        found = shown(source.content)
        raise SpecError(f"{source.path}: found {found}, expected a spec: lines of the form 'key: value'.")
    reader = _Reader(source, schema)
    content = reader.section(schema, source.content, ())
    problems = source.problems + reader.problems
    spec = None
    try:
        spec = schema.model_validate_json(json.dumps(content), strict=True)
    except ValidationError as error:
        problems += problem_lines(error, content, source)
    _refuse(source, problems)
    assert spec is not None
    for line, text in () if quiet else sorted(reader.notices + list(_idle(spec, source, ()))):
        log.warning("%s:%d: %s", source.path, line, text)
    return spec, source


def _refuse(source: Source, problems: list[tuple[int, str]]) -> None:
    if problems:
        lines = [f"{source.path}:{line}: {text}" for line, text in sorted(set(problems))]
        count = "one mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        raise SpecError(f"The spec '{source.path}' has {count}:\n  " + "\n  ".join(lines))


def _idle(value: Any, source: Source, keys: KeyPath) -> Iterator[tuple[int, str]]:
    """Yield (line, notice) for keys in the file that have no effect beside the values of other keys."""
    if isinstance(value, Section):
        for name, why in value.idle_keys():
            if (*keys, name) in source.lines:
                yield source.line((*keys, name)), _no_effect((*keys, name), why)
        for name, field in type(value).model_fields.items():
            yield from _idle(getattr(value, name), source, (*keys, field.alias or name))
    elif isinstance(value, tuple):
        for number, item in enumerate(value):
            yield from _idle(item, source, (*keys, number))


def _no_effect(keys: KeyPath, why: str) -> str:
    return f"'{dotted(keys)}' has no effect here: {why}"


class _Reader:
    """Walks a file's values beside the schema: names of keys, classes of sections, keys without effect, paths."""

    def __init__(self, source: Source, schema: type[Section]) -> None:
        self.source = source
        self.homes = {key: home for home, section in _all_sections(schema, ()) for key in _known_keys(section)}
        self.problems: list[tuple[int, str]] = []
        self.notices: list[tuple[int, str]] = []

    def section(self, schema: type[Section], values: dict[str, Any], keys: KeyPath) -> dict[str, Any]:
        """Return the values that pydantic shall check, under their first names."""
        known, content = _known_keys(schema), {}
        for key, value in values.items():
            at = (*keys, key)
            if key not in known:
                self.problems.append((self.source.line(at), self._unknown(key, known, keys)))
                continue
            name, field = known[key]
            if name in content:
                text = f"'{dotted(at)}' is another name of '{name}', which is given too"
                self.problems.append((self.source.line(at), text))
                continue
            if why := _extra(field).get("no_effect"):
                self.notices.append((self.source.line(at), _no_effect(at, why)))
                continue
            self.source.lines.setdefault((*keys, name), self.source.line(at))
            kept, read = self._value(field, value, at)
            if kept:
                content[name] = read
        return content

    def _unknown(self, key: str, known: dict[str, tuple[str, FieldInfo]], keys: KeyPath) -> str:
        where = f"unknown key '{dotted((*keys, key))}'."
        if key in self.homes:
            return f"{where} It belongs to {self.homes[key] or 'the top level'}."
        return where + (nearest(key, known) or f" Known here: {', '.join(known)}.")

    def _value(self, field: FieldInfo, value: Any, keys: KeyPath) -> tuple[bool, Any]:
        """Return (whether to keep the key, its value), with sections inside checked and paths found."""
        sections = _section_types(field.annotation)
        if sections and isinstance(value, dict):
            schema = self._chosen(sections, field, value, keys)
            return schema is not None, schema and self.section(schema, value, keys)
        if sections and isinstance(value, list):
            items = (self._value(field, item, (*keys, number)) for number, item in enumerate(value))
            return True, [item for kept, item in items if kept]
        if Path in _types(field.annotation) and not _extra(field).get("written"):
            return True, self._found(value)
        return True, value

    def _chosen(
        self, sections: tuple[type[Section], ...], field: FieldInfo, value: dict[str, Any], keys: KeyPath
    ) -> type[Section] | None:
        """Return the section class that `__class_name__` names; without one, that of the default or the first."""
        classes = {name: section for section in sections for name in _class_names(section)}
        if not classes:
            return sections[0]
        name = value.get("__class_name__")
        if name is None:
            usual = field.get_default(call_default_factory=True)
            schema = type(usual) if isinstance(usual, sections) else sections[0]
            value["__class_name__"] = _class_names(schema)[0]
            return schema
        if isinstance(name, str) and name in classes:
            return classes[name]
        at = (*keys, "__class_name__")
        guess = nearest(str(name), classes) or f" Known: {', '.join(classes)}."
        self.problems.append((self.source.line(at), f"{dotted(at)}: found {shown(name)}.{guess}"))
        return None

    def _found(self, value: Any) -> Any:
        """Return a path as given when it is there, else the one beside the spec file when that is there."""
        if isinstance(value, dict):
            return {key: self._found(item) for key, item in value.items()}
        if not isinstance(value, str) or Path(value).is_absolute() or _exists(Path(value)):
            return value
        beside = self.source.path.parent / value
        return str(beside) if _exists(beside) else value


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name too long, or with a NUL byte: whoever opens it says so
        return False


def _extra(field: FieldInfo) -> dict[str, Any]:
    return field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}


def _known_keys(schema: type[Section]) -> dict[str, tuple[str, FieldInfo]]:
    """Map every name a key may have to the name pydantic knows it by, and its field."""
    known: dict[str, tuple[str, FieldInfo]] = {}
    for name, field in schema.model_fields.items():
        names = [field.alias or name]
        if isinstance(field.validation_alias, AliasChoices):
            names = [str(choice) for choice in field.validation_alias.choices]
        known |= dict.fromkeys(names, (names[0], field))
    return known


def _types(annotation: Any) -> tuple[Any, ...]:
    """Return the plain types an annotation is made of."""
    if get_origin(annotation) in (Literal, None) and not isinstance(annotation, types.UnionType):
        return (annotation,)
    return tuple(part for argument in get_args(annotation) for part in _types(argument))


def _section_types(annotation: Any) -> tuple[type[Section], ...]:
    return tuple(part for part in _types(annotation) if isinstance(part, type) and issubclass(part, Section))


def _class_names(section: type[Section]) -> tuple[str, ...]:
    field = section.model_fields.get("class_name")
    return get_args(field.annotation) if field else ()


def _all_sections(schema: type[Section], keys: KeyPath) -> Iterator[tuple[str, type[Section]]]:
    """Yield every section below a schema with its dotted place, outer ones last so that they win."""
    for name, field in schema.model_fields.items():
        for section in _section_types(field.annotation):
            yield from _all_sections(section, (*keys, field.alias or name))
    yield dotted(keys), schema
