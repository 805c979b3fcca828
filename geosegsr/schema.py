"""Plain mappings, as read from TOML or JSON, into dataclasses: unknown keys and wrong types are refused."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from geosegsr.errors import ConfigError, did_you_mean

_NAMES = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def refuse_unknown_keys(values: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    """Stop at the first key that nobody reads, and name the one that was probably meant.

    Args:
        values: What a user wrote.
        known: The keys that exist.
        where: The file or section, for the message.

    Raises:
        ConfigError: A key is unknown.
    """
    known = list(known)
    for key in values:
        if key not in known:
            hint = did_you_mean(key, known) or f" Known keys are {', '.join(known)}."
            raise ConfigError(f"Cannot read {where}: it has an unknown key '{key}'.{hint}")


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file.

    Raises:
        ConfigError: It cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"Cannot read a configuration from '{path}': {error}.") from error


def build(cls: Any, values: Any, where: str, prefix: str = "") -> Any:
    """A dataclass from plain values; sections inside it are dataclasses too, or read themselves by their `from_dict`.

    Args:
        cls: A dataclass.
        values: A mapping of its fields' names.
        where: The file, for messages.
        prefix: The section's dotted name and a dot; empty for the whole.

    Raises:
        ConfigError: A key is unknown, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"Cannot read {where}: '{prefix.rstrip('.')}' is {values!r}, not a table.")
    name = prefix.rstrip(".")
    if name and hasattr(cls, "from_dict"):
        return cls.from_dict(dict(values), f"[{name.rpartition('.')[2]}] of {where}")
    section = f" [{name}]" if name else ""
    refuse_unknown_keys(values, [entry.name for entry in fields(cls)], where + section)
    hints = get_type_hints(cls)
    ready: dict[str, Any] = {}
    for key, value in values.items():
        inner = _section_of(hints[key])
        if inner is None:
            ready[key] = _checked(value, hints[key], f"{prefix}{key}", where)
        elif get_origin(hints[key]) is tuple:
            entries = _entries(value, prefix + key)
            ready[key] = tuple(build(inner, entry, where, f"{prefix}{key}.") for entry in entries)
        elif value is None and inner is not hints[key]:
            ready[key] = None
        else:
            ready[key] = build(inner, value, where, f"{prefix}{key}.")
    return cls(**ready)


def _section_of(hint: Any) -> Any:
    """The dataclass that a field holds one of, perhaps, or several of; None for plain values."""
    return next((kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)), None)


def _checked(value: Any, hint: Any, name: str, where: str) -> Any:
    """The value as the field's type, or an error that names the field."""
    kind = str(hint)
    if kind.startswith("tuple"):
        items = [value] if isinstance(value, str | int | float) else list(value)
        inner = str if "str" in kind else (int if "int" in kind else float)
        return tuple(_scalar(item, inner, name, where) for item in items)
    if kind.startswith("dict"):
        if not isinstance(value, Mapping):
            raise ConfigError(f"Cannot read {where}: {name} is {value!r}, not a table.")
        return dict(value)
    for inner in (bool, int, float, str):
        if hint is inner or kind.startswith(inner.__name__):
            return None if value is None and "None" in kind else _scalar(value, inner, name, where)
    raise AssertionError(kind)


def _scalar(value: Any, kind: type, name: str, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigError(f"Cannot read {where}: {name} is {value!r}, and needed is {_NAMES[kind]}.")
    return value


def _entries(value: Any, name: str) -> list[Any]:
    if isinstance(value, list | tuple):
        return list(value)
    raise ConfigError(f"Cannot read {name}: it is {value!r}, not a list of tables.")


def choose(name: str, value: str, known: tuple[str, ...]) -> None:
    """Refuse a word that is none of those known, and name the one that was probably meant.

    Raises:
        ConfigError: It is unknown.
    """
    if value not in known:
        raise ConfigError(
            f"Cannot train with {name} = '{value}': it can be {', '.join(known)}.{did_you_mean(value, known)}"
        )


def overlaid(base: Mapping[str, Any], over: Mapping[str, Any], whole: tuple[str, ...] = ()) -> dict[str, Any]:
    """One mapping over another, section by section.

    Args:
        base: What holds where the other says nothing.
        over: What wins.
        whole: Sections that are one description: their parts are replaced together, not mixed.
    """
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        both = isinstance(old, Mapping) and isinstance(value, Mapping) and key not in whole
        merged[key] = overlaid(old or {}, value, whole) if both else value
    return merged


def nested(dotted: str, value: Any) -> dict[str, Any]:
    """A value in the sections that its dotted name tells: "a.b", 1 -> {"a": {"b": 1}}."""
    head, _, rest = dotted.partition(".")
    return {head: nested(rest, value)} if rest else {head: value}


def plain_values(value: Any) -> Any:
    """Lists and mappings without None, as TOML can hold them."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items() if item is not None}
    return [plain_values(item) for item in value] if isinstance(value, list | tuple) else value
