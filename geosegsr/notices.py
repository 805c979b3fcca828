"""The one way to tell a user of something that was assumed or went wrong without ending the work.

A notice is a `GeoSegSRWarning` of Python's `warnings`: the command line prints it as a line, Python code can filter it, and
`kept_notices` collects it for the report of a run. `logging` is for what only -v shows.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from geosegsr.errors import GeoSegSRWarning, redacted

_PACKAGE = str(Path(__file__).parent)
_kept: ContextVar[list[str] | None] = ContextVar("kept_notices", default=None)


def warn(message: str) -> None:
    """Warn the user, as of the line outside this package that led here.

    Args:
        message: A sentence without its full stop; it is redacted.
    """
    message = redacted(message)
    kept = _kept.get()
    if kept is not None:
        kept.append(message)
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, GeoSegSRWarning, stacklevel=level)


@contextmanager
def kept_notices() -> Iterator[list[str]]:
    """All notices of this thread inside the block; other threads keep their own."""
    messages: list[str] = []
    token = _kept.set(messages)
    try:
        yield messages
    finally:
        _kept.reset(token)
