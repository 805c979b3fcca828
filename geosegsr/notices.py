"""What a run assumes is said as a warning, and kept for the run's report.

Warnings belong to the process; several runs in threads of it each keep their own.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from geosegsr.errors import GeoSegSRWarning

_kept: ContextVar[list[str] | None] = ContextVar("assumptions", default=None)


def warn(message: str) -> None:
    """Tell the user of something that was assumed, in a sentence without its full stop."""
    kept = _kept.get()
    if kept is not None:
        kept.append(message)
    warnings.warn(message, GeoSegSRWarning, stacklevel=3)


@contextmanager
def kept_assumptions() -> Iterator[list[str]]:
    """All that this thread warns of inside the block."""
    messages: list[str] = []
    token = _kept.set(messages)
    try:
        yield messages
    finally:
        _kept.reset(token)
