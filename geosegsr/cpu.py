"""CPU settings of the process: BLAS threads, and freed memory that glibc keeps."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_lock = threading.Lock()
_users = 0
_limit: Any = None
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -3, -1, -4, -8  # glibc's malloc.h
_LARGEST_MAPPED_APART = 32 << 20  # bytes; glibc allows no more
_KEPT = 512 << 20  # bytes


@lru_cache(maxsize=1)
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@contextmanager
def single_threaded_blas() -> Iterator[None]:
    """Limit BLAS to one thread inside the block. The limit holds for the whole process.

    OpenBLAS threads spin while they wait for each other. Small products from several threads at once are therefore
    slower with two BLAS threads than with one, on two cores by a factor of 100 and more. The number of threads also
    determines how a product is split, and so its last bits: pixels would depend on the load of the machine.
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


def start_with_one_blas_thread() -> None:
    """Have OpenBLAS start without threads of its own, in a process that computes blocks and has not loaded numpy.

    Each copy of the library otherwise starts a thread per core, which waits busily before it sleeps: a twentieth of the CPU
    time of a large interpolation. A value of OPENBLAS_NUM_THREADS in the environment is left alone.
    """
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def _take_control() -> None:
    """Let this thread set the limit: newer versions of threadpoolctl obey only the first thread that did."""
    for library in _controller().lib_controllers:
        release = getattr(library, "clear_controlling_thread", None)
        if release is not None:
            release(force=True)


KEPT_MEMORY = {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_MMAP_THRESHOLD_": str(_LARGEST_MAPPED_APART),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT),
}
"""Environment of a process that is to start as `keep_freed_memory` with `of_any_size` makes one."""


@lru_cache(maxsize=2)
def keep_freed_memory(*, of_any_size: bool = False) -> None:
    """Let glibc keep up to 512 MiB of freed memory for later allocations of this process.

    The features of a network take some megabytes per layer. By default glibc requests this memory from the system and
    returns it for every layer, and the system zeroes the pages each time: a tenth of a scene's CPU time and more. Threads
    other than the first use heaps of 64 MiB, which are too small. Nothing changes under another C library, or where the
    environment configures malloc (MALLOC_ARENA_MAX and others).

    Args:
        of_any_size: Whether allocations of more than 32 MiB are kept, too. Freed memory below one that is still in use is
            then never returned, so this is for processes that do nothing else.
    """
    if any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = _of_glibc("mallopt")
    if mallopt is None:
        return
    mallopt(_MMAP_THRESHOLD, _LARGEST_MAPPED_APART)
    mallopt(_TRIM_THRESHOLD, _KEPT)
    mallopt(_ARENA_MAX, 1)
    if of_any_size:
        mallopt(_MMAP_MAX, 0)


def return_freed_memory() -> None:
    """Give all memory that `keep_freed_memory` has glibc keep back to the system, where what follows needs other memory."""
    trim = _of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _of_glibc(function: str) -> Any:
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None
