"""Dataclasses from TOML and JSON: types, bounds and choices stand beside the fields, and every fault names its field.

    patch: Annotated[int, bounds(8)] = 48

`build` makes a dataclass from plain values, `Checked` checks one that is made in Python, and `json_schema` tells editors
the same rules.
"""

from __future__ import annotations

import ast
import inspect
import math
import operator
import textwrap
import tomllib
import types
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from geosegsr.errors import ConfigError, did_you_mean

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
_JSON = {bool: "boolean", int: "integer", float: "number", str: "string"}
_MOST_SHOWN = 80
"""Characters of a wrong value that a message repeats: files may be hostile."""
_MOST_KEYS = 12
"""Known keys that a message lists."""


@dataclass(frozen=True, eq=False)
class Rule:
    """What a field's value must be, beside its type."""

    holds: Callable[[Any], bool]
    """Whether a value of the field's type obeys."""
    words: str
    """What a value must be, after "must be"."""
    json: Mapping[str, Any] = field(default_factory=dict)
    """The rule in JSON Schema."""
    choices: Collection[Any] = ()
    """All values that obey, if they can be listed."""
    first: bool = False
    """Whether it holds for the number of entries, and so is checked before each of them."""


def bounds(
    ge: float | None = None, le: float | None = None, *, gt: float | None = None, lt: float | None = None
) -> Rule:
    """Bounds of a finite number, or of each number of a list."""
    every = (
        ("at least", "minimum", ge, operator.ge),
        ("above", "exclusiveMinimum", gt, operator.gt),
        ("at most", "maximum", le, operator.le),
        ("below", "exclusiveMaximum", lt, operator.lt),
    )
    given = [(word, key, bound, test) for word, key, bound, test in every if bound is not None]

    def holds(value: Any) -> bool:
        return all(
            (isinstance(number, int) or math.isfinite(number))
            and all(test(number, bound) for _, _, bound, test in given)
            for number in (value if isinstance(value, tuple) else (value,))
        )

    words = " and ".join(f"{word} {bound:g}" for word, _, bound, _ in given) or "finite"
    return Rule(holds, words, {key: bound for _, key, bound, _ in given})


def one_of(choices: Collection[Any]) -> Rule:
    """A choice among words or numbers, or the names of a table, which may grow."""
    return Rule(lambda value: value in choices, "one of", choices=choices)


def length(least: int, most: int | None = None) -> Rule:
    """How many entries a list has."""
    upper = math.inf if most is None else most
    words = f"a list of {least}" if least == most else f"a list of at least {least}"
    words += f" and at most {most}" if most not in (least, None) else ""
    json = {"minItems": least, **({} if most is None else {"maxItems": most})}
    return Rule(lambda value: least <= len(value) <= upper, words, json, first=True)


UPWARDS = Rule(lambda value: value[0] <= value[1], "a range, lower end first")
"""The two ends of a range."""


class Checked:
    """Base of a frozen dataclass whose fields are checked when it is made; lists become tuples.

    Raises:
        ConfigError: A value is of the wrong type or out of bounds.
    """

    def __post_init__(self) -> None:
        cls: Any = type(self)
        for name, hint in _hints(cls).items():
            object.__setattr__(self, name, _conform(getattr(self, name), hint, cls.__name__, name))


def build(cls: Any, values: Any, where: str, prefix: str = "", *, unknown: str = "") -> Any:
    """A dataclass from plain values; sections inside it are dataclasses too.

    Args:
        cls: A dataclass.
        values: A mapping of its fields' names. A single value stands for a list of one; where two are needed, for both.
        where: The file, for messages.
        prefix: The section's dotted name and a dot; empty for the whole.
        unknown: What an unknown key means, for the message about one.

    Raises:
        ConfigError: A key is unknown or missing, or a value of the wrong type or out of bounds.
    """
    if not isinstance(values, Mapping):
        raise _fault(where, prefix.rstrip(".") or "it", "a table", values)
    section = f" [{prefix[:-1]}]" if prefix else ""
    refuse_unknown_keys(values, [entry.name for entry in fields(cls)], where + section, unknown)
    missing = [entry.name for entry in fields(cls) if _is_required(entry) and entry.name not in values]
    if missing:
        raise ConfigError(f"Cannot use {where}{section}: it lacks {', '.join(missing)}.")
    hints = _hints(cls)
    return cls(**{key: _conform(value, hints[key], where, prefix + key) for key, value in values.items()})


def refuse_unknown_keys(
    values: Mapping[str, Any], known: Iterable[str], where: str, meaning: str = ""
) -> None:
    """Refuse the first unknown key, and name the nearest known one.

    Args:
        values: What a user wrote.
        known: The keys that exist.
        where: The file or section, for the message.
        meaning: What an unknown key means, for the message.

    Raises:
        ConfigError: A key is unknown.
    """
    known = list(known)
    for key in map(str, values):
        if key not in known:
            hint = did_you_mean(key[:_MOST_SHOWN], known) or f" {meaning}".rstrip()
            if not hint and len(known) <= _MOST_KEYS:
                hint = f" Known keys are {', '.join(known)}."
            raise ConfigError(f"Cannot use {where}: it has an unknown key {key[:_MOST_SHOWN]!r}.{hint}")


def _conform(value: Any, hint: Any, where: str, name: str) -> Any:
    """A plain value as a field's type, or an error that names the field."""
    if get_origin(hint) is Annotated:
        inner, *rules = get_args(hint)
        for rule in rules:  # before a hostile file's million entries are looked at one by one
            if rule.first and isinstance(value, list | tuple):
                _obey(rule, value, where, name)
        value = _conform(value, inner, where, name)
        for rule in rules:
            _obey(rule, value, where, name)
        return value
    if get_origin(hint) in (Union, types.UnionType):  # only X | None, and X | Literal["word"] | None
        kind, words = _kind_and_words(hint)
        if value is None or (isinstance(value, str) and value in words):
            return value
        if words and isinstance(value, str):
            raise _fault(where, name, " or ".join((_NAMES[kind], *map(repr, words))), value)
        return _conform(value, kind, where, name)
    if get_origin(hint) is tuple:
        return _entries(value, get_args(hint), where, name)
    if get_origin(hint) is dict:
        if not isinstance(value, Mapping):
            raise _fault(where, name, "a table", value)
        kind = get_args(hint)[1]
        return {key: _conform(item, kind, where, f"{name}.{key}") for key, item in value.items()}
    if is_dataclass(hint):
        return value if isinstance(value, hint) else build(hint, value, where, f"{name}.")  # type: ignore[arg-type]
    return value if hint is Any else _scalar(value, hint, where, name)


def _kind_and_words(hint: Any) -> tuple[Any, tuple[str, ...]]:
    """Of a union: its first type, and the words that it takes beside it."""
    words = [get_args(kind) for kind in get_args(hint) if get_origin(kind) is Literal]
    return get_args(hint)[0], words[0] if words else ()


def _obey(rule: Rule, value: Any, where: str, name: str) -> None:
    if rule.holds(value):
        return
    words = f"{rule.words} {', '.join(map(str, rule.choices))}" if rule.choices else rule.words
    near = did_you_mean(value[:_MOST_SHOWN], rule.choices) if rule.choices and isinstance(value, str) else ""
    raise _fault(where, name, words, value, near)


def _entries(value: Any, kinds: tuple[Any, ...], where: str, name: str) -> tuple[Any, ...]:
    """A list as a tuple: tuple[X, ...] of any length, tuple[X, X] of two."""
    count = None if kinds[-1] is ... else len(kinds)
    if isinstance(value, str | int | float):
        value = [value] * (count or 1)
    if not isinstance(value, list | tuple):
        raise _fault(where, name, "a list", value)
    if count is not None and len(value) != count:
        raise _fault(where, name, f"a list of {count}", value)
    return tuple(_conform(item, kinds[0], where, f"{name}[{i}]") for i, item in enumerate(value))


def _scalar(value: Any, kind: type, where: str, name: str) -> Any:
    number = isinstance(value, int) and not isinstance(value, bool)
    if kind is float and number and abs(value) < 2**1000:
        return float(value)
    if not isinstance(value, kind) or (kind is int and not number):
        raise _fault(where, name, _NAMES[kind], value)
    return value


def _fault(where: str, name: str, needed: str, value: Any, hint: str = "") -> ConfigError:
    try:
        shown = repr(list(value) if isinstance(value, tuple) else value)
    except ValueError:  # Python refuses to print whole numbers of thousands of digits
        shown = "a far larger number"
    shown = shown if len(shown) <= _MOST_SHOWN else f"{shown[:_MOST_SHOWN]}..."
    return ConfigError(f"Cannot use {where}: {name} must be {needed}, not {shown}.{hint}")


@lru_cache
def _hints(cls: Any) -> dict[str, Any]:
    hints = get_type_hints(cls, include_extras=True)
    return {entry.name: hints[entry.name] for entry in fields(cls)}


def _is_required(entry: Field[Any]) -> bool:
    return entry.default is MISSING and entry.default_factory is MISSING


def json_schema(cls: Any, title: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what `build` takes, with the fields' docstrings as descriptions."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **_json_object(cls)}


def _json_object(cls: Any) -> dict[str, Any]:
    described = _docstrings(cls)
    properties = {
        name: {**_json_type(hint), **({"description": described[name]} if name in described else {})}
        for name, hint in _hints(cls).items()
    }
    required = [entry.name for entry in fields(cls) if _is_required(entry)]
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": required} if required else {}),
    }


def _json_type(hint: Any) -> dict[str, Any]:
    if get_origin(hint) is Annotated:
        inner, *rules = get_args(hint)
        found = _json_type(inner)
        for rule in rules:
            more = {"enum": list(rule.choices)} if rule.choices else rule.json
            single, several = found.get("anyOf", (found, found))
            if "minItems" in more:
                several.update(more)
            else:
                single.update(more)
                several.get("items", single).update(more)
        return found
    if get_origin(hint) in (Union, types.UnionType):
        kind, words = _kind_and_words(hint)
        found = _json_type(kind)
        if words:
            found = {"anyOf": [found, {"enum": list(words)}]}
        if "anyOf" in found:
            found["anyOf"].append({"type": "null"})
        else:
            found["type"] = [found["type"], "null"]
        return found
    if get_origin(hint) is tuple:
        kinds = get_args(hint)
        count = {} if kinds[-1] is ... else {"minItems": len(kinds), "maxItems": len(kinds)}
        if is_dataclass(kinds[0]):
            return {"type": "array", "items": _json_type(kinds[0])}
        return {"anyOf": [_json_type(kinds[0]), {"type": "array", "items": _json_type(kinds[0]), **count}]}
    if get_origin(hint) is dict:
        return {"type": "object", "additionalProperties": _json_type(get_args(hint)[1])}
    if is_dataclass(hint):
        return _json_object(hint)
    return {} if hint is Any else {"type": _JSON[hint]}


def _docstrings(cls: Any) -> dict[str, str]:
    """The string below each field of a dataclass, from its source."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0].body  # type: ignore[attr-defined]
    return {
        above.target.id: " ".join(str(below.value.value).split())
        for above, below in pairwise(body)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
    }


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"Cannot read a configuration from '{path}': {error}.") from error


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any], whole: tuple[str, ...] = ()) -> dict[str, Any]:
    """One mapping over another, section by section.

    Args:
        base: Values used where the other has none.
        over: Values that win.
        whole: Sections that are one description: their parts are replaced together, not mixed.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and key not in whole
        merged[key] = overlaid(old or {}, value, whole) if both else value
    return merged


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """A value in the sections of its dotted name: "a.b", 1 -> {"a": {"b": 1}}."""
    head, _, rest = dotted.partition(".")
    return {head: nested(rest, value)} if rest else {head: value}


def plain_values(value: Any) -> Any:
    """Lists and mappings without None, as TOML can hold them."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items() if item is not None}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value
