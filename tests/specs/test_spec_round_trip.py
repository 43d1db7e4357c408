"""Any spec that is right, written by `resolved`, loads back to an equal one in silence."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import annotated_types
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from limbnet.specs import train as train_schema
from limbnet.specs.base import Section
from limbnet.specs.dataset import DatasetSpec
from limbnet.specs.inference import InferenceSpec
from limbnet.specs.load import _load, load_train_spec, resolved
from limbnet.specs.optimiser import AdamW, WeightedMomentum
from limbnet.specs.train import TrainSpec

_NONE_WORDS = ("none", "null")
texts = st.text(min_size=1, max_size=12).filter(lambda text: text.lower() not in _NONE_WORDS and "/" not in text)


def _bounds(metadata: list[Any]) -> dict[str, Any]:
    bounds: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, annotated_types.Ge | annotated_types.Gt):
            bounds |= {"min_value": item.ge if isinstance(item, annotated_types.Ge) else item.gt}
            bounds |= {"exclude_min": isinstance(item, annotated_types.Gt)}
        if isinstance(item, annotated_types.Le | annotated_types.Lt):
            bounds |= {"max_value": item.le if isinstance(item, annotated_types.Le) else item.lt}
            bounds |= {"exclude_max": isinstance(item, annotated_types.Lt)}
    return bounds


def _of_type(kind: Any, metadata: list[Any]) -> st.SearchStrategy[Any]:
    origin, arguments = get_origin(kind), get_args(kind)
    if hasattr(kind, "__metadata__"):
        return _of_type(
            arguments[0], [entry for item in kind.__metadata__ for entry in getattr(item, "metadata", [item])]
        )
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin is tuple:
        if arguments[-1] is Ellipsis:
            return st.lists(_of_type(arguments[0], []), min_size=1, max_size=3).map(tuple)
        return st.tuples(*(_of_type(argument, []) for argument in arguments))
    if origin is dict:
        return st.dictionaries(texts, _of_type(arguments[1], []), min_size=1, max_size=3)
    if arguments:
        return st.one_of(*(_of_type(argument, metadata) for argument in arguments))
    if kind is type(None):
        return st.none()
    if isinstance(kind, type) and issubclass(kind, Section):
        return sections(kind)
    bounds = _bounds(metadata)
    if kind is int:
        low = bounds.get("min_value", -1000)
        return st.integers(low + bool(bounds.get("exclude_min")), bounds.get("max_value", 1000))
    if kind is float:
        return st.floats(**{"min_value": -1e6, "max_value": 1e6, **bounds})
    return {bool: st.booleans(), str: texts, Path: texts.map(Path)}[kind]


def _of_field(field: FieldInfo) -> st.SearchStrategy[Any]:
    return _of_type(field.annotation, field.metadata)


def sections(schema: type[Section], **fixed: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Sections of one kind in which any key may be given, but for those without effect and secrets."""

    @st.composite
    def build(draw: st.DrawFn) -> Section:
        values = {}
        for name, field in schema.model_fields.items():
            extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
            if name in fixed:
                values[name] = draw(fixed[name])
            elif not extra.get("no_effect") and not field.exclude and (field.is_required() or draw(st.booleans())):
                values[name] = draw(_of_field(field))
        spec = without_contradictions(schema, values)
        assume(not list(spec.idle_keys()))
        return spec

    return build()


def without_contradictions(schema: type[Section], values: dict[str, Any]) -> Section:
    """Return the section, without the keys that contradict others."""
    for _ in range(5):
        try:
            return schema(**values)
        except ValidationError as error:
            mistakes = [mistake for detail in error.errors() for mistake in detail.get("ctx", {}).get("mistakes", [])]
            found = [values.pop(key.split(".")[0], None) for key, _ in mistakes]
            assume(any(value is not None for value in found))
    return schema()


def whole_train_specs() -> st.SearchStrategy[Any]:
    """Train specs, with the keys that must agree with each other drawn together."""
    sides = st.integers(1, 60).map(lambda cells: cells * 16)
    image = st.builds(train_schema.ImageDims, height=sides, width=sides)
    loader = sections(
        train_schema.DataloaderSpec,
        image_config=st.builds(train_schema.ImageConfig, image_dims=image),
        dataset_config=sections(train_schema.DatasetConfig, dataset_weights=st.none(), validation_datasets=st.none()),
        pose_config=st.just(train_schema.PoseConfig()),
    )
    backbone = st.builds(
        train_schema.BackboneAttributes,
        width=st.floats(0.1, 4),
        use_bias=st.booleans(),
        architecture=st.just("resnet"),
        nlayers=st.sampled_from([18, 34, 50]),
    ) | st.builds(train_schema.BackboneAttributes, width=st.floats(0.1, 4))
    model = sections(
        train_schema.ModelSpec, backbone_attributes=backbone, heat_channels=st.none(), paf_channels=st.none()
    )
    return sections(
        TrainSpec,
        dataloader=loader,
        model=model,
        num_epoch=st.integers(1, 50).map(lambda times: 5 * times),
        checkpoint_n_epoch=st.sampled_from([1, 5]),
        load_graph=st.just(False),
        finetuning_config=st.just(train_schema.FinetuningConfig()),
    )


ROUND = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@given(whole_train_specs())
@ROUND
def test_resolved_train_specs_load_back_equal(tmp_path: Path, spec: TrainSpec) -> None:
    path = tmp_path / "experiment_spec.yaml"
    path.write_text(resolved(spec), encoding="utf-8")
    assert load_train_spec(path) == spec


@pytest.mark.parametrize(
    "schema",
    [InferenceSpec, DatasetSpec, train_schema.SpatialAugParams, AdamW, WeightedMomentum, train_schema.LossSpec],
)
@given(data=st.data())
@ROUND
def test_resolved_sections_load_back_equal(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, schema: type[Section], data: st.DataObject
) -> None:
    caplog.clear()
    spec = data.draw(sections(schema))
    path = tmp_path / "section.yaml"
    path.write_text(resolved(spec), encoding="utf-8")
    assert _load(schema, path)[0] == spec
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
