"""Keeping numpy's linear algebra to one thread while blocks already use all cores."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_limit: Any = None


@lru_cache(maxsize=1)
def _controller() -> Any:
    return ThreadpoolController()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Hold BLAS at one thread while anyone is inside; its setting is one for the whole process.

    OpenBLAS threads that wait for each other spin, so small products from several threads at once are
    slower with two BLAS threads than with one, on two cores by a factor of 100 and more. And the number of
    threads decides how a product is cut, and so its last bits: pixels would depend on what else runs.
    """
    global _users, _limit
    with _lock:
        if _users == 0:
            _take_control()
            _limit = _controller().limit(limits=1, user_api="blas")
        _users += 1
    try:
        yield
    finally:
        with _lock:
            _users -= 1
            if _users == 0:
                _take_control()
                _limit.restore_original_limits()


def _take_control() -> None:
    """Newer threadpoolctl obeys only the first thread that set a limit, and says nothing to the others."""
    for library in _controller().lib_controllers:
        release = getattr(library, "clear_controlling_thread", None)
        if release is not None:
            release(force=True)
