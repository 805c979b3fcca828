"""Dataclasses from plain values: what is taken, what each message says, and the same rules as JSON Schema."""

import json
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import pytest
import tomlkit
from json_schemas import FOLDER, SCHEMAS, text_of
from jsonschema import Draft202012Validator

from geosegsr.errors import ConfigError
from geosegsr.models.catalogue import bundled_checkpoints
from geosegsr.models.checkpoint import read_card
from geosegsr.models.segsr.presets import presets
from geosegsr.schema import UPWARDS, Checked, bounds, build, json_schema, length, one_of
from geosegsr.training.config import TrainConfig, resolve_config


@dataclass(frozen=True)
class Inner(Checked):
    share: Annotated[float, bounds(0, lt=1)] = 0.5
    """How much."""
    span: Annotated[tuple[float, float], bounds(gt=0), UPWARDS] = (1.0, 2.0)


@dataclass(frozen=True)
class Outer(Checked):
    name: str
    count: Annotated[int, bounds(1, 8)] = 1
    kind: Annotated[str, one_of(("box", "mtf"))] = "box"
    on: bool = True
    level: Annotated[float, bounds()] | None = None
    sides: Annotated[tuple[int, ...], length(1, 3), bounds(1)] = (1,)
    words: tuple[str, ...] = ()
    weights: dict[str, float] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    inner: Inner = field(default_factory=Inner)
    parts: tuple[Inner, ...] = ()
    mark: float | Literal["auto"] | None = None


def test_plain_values_become_the_fields_types() -> None:
    values = {
        "name": "a", "level": 3, "sides": [1, 2], "words": "one", "weights": {"l1": 1}, "free": {"x": [None]},
        "inner": {"span": 2}, "parts": [{}, {"share": 0}], "mark": "auto",
    }  # fmt: skip
    made = build(Outer, values, "'x.toml'")
    parts = (Inner(), Inner(share=0.0))
    assert made == Outer(
        "a", 1, "box", True, 3.0, (1, 2), ("one",), {"l1": 1.0}, {"x": [None]}, Inner(span=(2.0, 2.0)), parts,
        "auto",
    )  # fmt: skip
    assert build(Outer, {"name": "a", "mark": 3}, "'x.toml'").mark == 3.0
    assert isinstance(made.level, float) and isinstance(made.weights["l1"], float)


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"count": 0}, "count must be at least 1 and at most 8, not 0."),
    ({"count": 2**5000}, "count must be at least 1 and at most 8, not 1"),
    ({"count": 2**50_000}, "count must be at least 1 and at most 8, not a far larger number."),
    ({"count": True}, "count must be a whole number, not True."),
    ({"mark": "atuo"}, "mark must be a number or 'auto', not 'atuo'."),
    ({"mark": [1]}, "mark must be a number, not [1]."),
    ({"count": 1.0}, "count must be a whole number, not 1.0."),
    ({"on": 1}, "on must be true or false, not 1."),
    ({"name": 3}, "name must be text, not 3."),
    ({"kind": "mft"}, "kind must be one of box, mtf, not 'mft'. Did you mean 'mtf'?"),
    ({"level": "high"}, "level must be a number, not 'high'."),
    ({"level": float("nan")}, "level must be finite, not nan."),
    ({"level": float("inf")}, "level must be finite, not inf."),
    ({"level": 10**400}, "level must be a number, not 1"),
    ({"sides": []}, "sides must be a list of at least 1 and at most 3, not []."),
    ({"sides": [0, 1]}, "sides must be at least 1, not [0, 1]."),
    ({"sides": [1, "2"]}, "sides[1] must be a whole number, not '2'."),
    ({"sides": {"a": 1}}, "sides must be a list, not {'a': 1}."),
    ({"weights": {"l1": "x"}}, "weights.l1 must be a number, not 'x'."),
    ({"weights": 1}, "weights must be a table, not 1."),
    ({"inner": []}, "inner must be a table, not []."),
    ({"inner": {"share": 1}}, "inner.share must be at least 0 and below 1, not 1.0."),
    ({"inner": {"span": [2, 1]}}, "inner.span must be a range, lower end first, not [2.0, 1.0]."),
    ({"inner": {"span": [1]}}, "inner.span must be a list of 2, not [1]."),
    ({"parts": [{}, {"share": -1}]}, "parts[1].share must be at least 0 and below 1, not -1.0."),
    ({"parts": [{}, {"shar": 1}]}, "[parts[1]]: it has an unknown key 'shar'. Did you mean 'share'?"),
    ({"colour": 1}, "it has an unknown key 'colour'. Known keys are name, count, kind,"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_a_fault_names_file_field_need_and_find(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        build(Outer, {"name": "a", **change}, "'x.toml'")
    assert str(refused.value).startswith("Cannot use 'x.toml'") and message in str(refused.value)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


def test_what_is_missing_is_named() -> None:
    with pytest.raises(ConfigError, match=r"Cannot use 'x\.toml': it lacks name\."):
        build(Outer, {}, "'x.toml'")


def test_a_million_entries_are_refused_by_their_number() -> None:
    with pytest.raises(ConfigError, match="sides must be a list of at least 1 and at most 3"):
        build(Outer, {"name": "a", "sides": ["x"] * 10**6}, "'x.toml'")


def test_what_is_made_in_python_is_checked_too() -> None:
    with pytest.raises(ConfigError, match="Cannot use Outer: count must be at least 1 and at most 8, not 9"):
        Outer("a", count=9)
    with pytest.raises(ConfigError, match="Cannot use Inner: share"):
        replace(Inner(), share=2.0)
    assert Outer("a", sides=[2, 3]).sides == (2, 3)  # type: ignore[arg-type]


UNTOLD = ("not 1.0.", "lower end first", "finite", "larger number", "level must be a number, not 1")
"""Ends of messages whose fault JSON Schema cannot tell: 1.0 is whole there, and no number is too large."""


@pytest.mark.parametrize(
    "change",
    [
        change
        for change, message in FAULTS
        if "below 1" in message or not any(end in message for end in UNTOLD)
    ],
)
def test_the_json_schema_refuses_the_same(change: dict[str, Any]) -> None:
    validator = Draft202012Validator(json_schema(Outer, "Outer"))
    assert validator.is_valid({"name": "a"})
    assert not validator.is_valid({"name": "a", **change})


def test_the_json_schema_is_one_and_describes_the_fields() -> None:
    schema = json_schema(Outer, "Outer")
    Draft202012Validator.check_schema(schema)
    assert schema["required"] == ["name"]
    assert schema["properties"]["inner"]["properties"]["share"] == {
        "type": "number", "minimum": 0, "exclusiveMaximum": 1, "description": "How much.",
    }  # fmt: skip


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_shipped_schemas_are_those_of_the_code(name: str) -> None:
    shipped = (FOLDER / f"{name}.schema.json").read_text(encoding="utf-8")
    assert shipped == text_of(name), "run `make schemas`, or `python tests/kits/json_schemas.py`"


@pytest.mark.parametrize("preset", presets())
def test_every_resolved_configuration_fits_the_shipped_schema(preset: str) -> None:
    validator = Draft202012Validator(json_schema(TrainConfig, ""))
    written = tomlkit.parse(tomlkit.dumps(resolve_config(preset).to_dict())).unwrap()
    assert [error.message for error in validator.iter_errors(written)] == []


def test_the_bundled_cards_fit_the_shipped_schema() -> None:
    validator = Draft202012Validator(json_schema(*SCHEMAS["card"]))
    for path in bundled_checkpoints():
        card = json.loads(json.dumps(read_card(path).to_dict()))
        assert [error.message for error in validator.iter_errors(card)] == []


def test_a_file_with_a_byte_order_mark(tmp_path):
    """As editors on Windows write it."""
    from geosegsr.schema import read_toml
    from geosegsr.sensor.degradation import Degradation
    from geosegsr.sensor.descriptor import SensorDescriptor

    path = tmp_path / "a.toml"
    path.write_text('kernel = ["box"]\n', encoding="utf-8-sig")
    assert read_toml(path) == {"kernel": ["box"]}
    assert Degradation.load(path).kernel == ("box",)
    path.write_text("noise = 0.01\n", encoding="utf-8-sig")
    assert SensorDescriptor.load(path, 4).noise == 0.01
