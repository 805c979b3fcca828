"""The processor and its memory: linear algebra in one thread while blocks use all cores, and freed memory kept."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_users = 0
_limit: Any = None
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # glibc's malloc.h
_LARGEST_MAPPED_APART = 32 << 20  # bytes; glibc allows no more
_KEPT = 512 << 20  # bytes


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


@lru_cache(maxsize=1)
def keep_freed_memory() -> None:
    """Let glibc keep up to 512 MB of freed memory for the next allocations of this process.

    A network's features are some megabytes for each layer. glibc takes them from the system and gives them back each time,
    and for threads other than the first out of heaps of 64 MB that never suffice: the pages are zeroed again for every layer,
    which took a tenth of a scene's processor time and more. Nothing happens under another C library, or where
    the environment sets malloc up itself (MALLOC_ARENA_MAX and the like).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    for parameter, value in (
        (_MMAP_THRESHOLD, _LARGEST_MAPPED_APART),
        (_TRIM_THRESHOLD, _KEPT),
        (_ARENA_MAX, 1),
    ):
        mallopt(parameter, value)
