"""Requests that fail for the moment are repeated: throttled ones, lost connections, a server that starts again."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE_S = 120.0
"""How long a request is repeated to a server that has answered before."""
AT_FIRST_S = 15.0
"""The same for a server that has never answered: its name may be wrong."""
_FIRST_S, _LONGEST_S = 0.2, 10.0


def patiently(
    request: Callable[[int], T],
    passes: Callable[[Exception], bool],
    *,
    patience: float,
    wait: Callable[[float], object] = time.sleep,
) -> T:
    """What a request returns in the end, repeated after growing waits of random length.

    Args:
        request: Takes the number of times it was tried before.
        passes: Whether an error may be gone the next time.
        patience: Seconds after which no new try begins.
        wait: Waits some seconds.

    Raises:
        Exception: The last error of the request.
    """
    deadline, tried, longest = time.monotonic() + patience, 0, _FIRST_S
    while True:
        try:
            return request(tried)
        except Exception as error:
            if not passes(error) or time.monotonic() >= deadline:
                raise
        wait(random.uniform(longest / 2, longest))
        tried, longest = tried + 1, min(2 * longest, _LONGEST_S)
