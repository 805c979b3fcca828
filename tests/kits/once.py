"""Something that is done once, however many threads call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


def once_before(step: Callable[..., Any], act: Callable[[], object]) -> Callable[..., Any]:
    """`step`, before whose first call `act` is done.

    Blocks and cells are computed side by side: the others wait for it, since a file that changes while it is read is
    another error.
    """
    alone = threading.Lock()
    done: list[object] = []

    def called(*args: Any, **kwargs: Any) -> Any:
        with alone:
            if not done:
                done.append(act())
        return step(*args, **kwargs)

    return called
