"""Keeping memory that was freed, because the next tile needs it again."""

from __future__ import annotations

import ctypes
import os
import sys
from functools import lru_cache

_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8  # glibc's malloc.h
_LARGEST_MAPPED_APART = 32 << 20  # bytes; glibc allows no more
_KEPT = 512 << 20  # bytes


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
