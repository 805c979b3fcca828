"""Plain mappings into dataclasses, refusing what they do not know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from geosegsr.errors import ConfigError


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
            near = get_close_matches(key, known, n=1, cutoff=0.4)
            hint = f"Did you mean '{near[0]}'?" if near else f"Known keys are {', '.join(known)}."
            raise ConfigError(f"Cannot read {where}: it has an unknown key '{key}'. {hint}")
