"""Errors that libtiff and GDAL's own threads report on standard error only, such as a full disk.

Standard error belongs to the process. While any file is being written, it is captured; everything but such errors is
passed on.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO

# "_tiffSeekProc: No space left on device." and "ERROR 1: LZWEncode: ..."
_ERROR = re.compile(rb"(?:_tiff\w+Proc|ERROR \d+): (.*)")
_MAY_BECOME_ERROR = (b"_tiff", b"ERROR")
_STANDARD_ERROR = 2


class _Catcher:
    """Captures the standard error of the process while any caller is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[object] = set()

    def enter(self) -> tuple[object, int]:
        """Begin to capture; returns the arguments of `leave`."""
        with self._lock:
            if not self._inside:
                self._caught = _file_in_memory()
                self._passed_on = 0
                self._real = os.dup(_STANDARD_ERROR)
                os.dup2(self._caught.fileno(), _STANDARD_ERROR)
            visitor = object()
            self._inside.add(visitor)
            return visitor, self._end()

    def leave(self, visitor: object, begin: int) -> list[str]:
        """The errors since `enter`; the last caller restores standard error."""
        with self._lock:
            if visitor not in self._inside:  # `release` came first
                return []
            since = os.pread(self._caught.fileno(), self._end() - begin, begin)
            self._inside.remove(visitor)
            self._pass_on(all_of_it=not self._inside)
            if not self._inside:
                self._restore()
        matches = (_ERROR.match(line) for line in since.splitlines())
        return [match[1].decode(errors="replace").rstrip(".") for match in matches if match]

    def release(self) -> None:
        """Restore standard error at once; callers still inside receive no more errors."""
        with self._lock:
            if self._inside:
                self._inside.clear()
                self._pass_on(all_of_it=True)
                self._restore()

    def _end(self) -> int:
        return os.fstat(self._caught.fileno()).st_size

    def _pass_on(self, *, all_of_it: bool) -> None:
        new = os.pread(self._caught.fileno(), self._end() - self._passed_on, self._passed_on)
        lines = new.splitlines(keepends=True)
        if (
            lines
            and not all_of_it
            and lines[-1].startswith(_MAY_BECOME_ERROR)
            and not lines[-1].endswith(b"\n")
        ):
            lines.pop()  # its rest is still to come
        self._passed_on += sum(map(len, lines))
        with suppress(OSError):  # whoever read it may have gone
            os.write(self._real, b"".join(line for line in lines if not _ERROR.match(line)))

    def _restore(self) -> None:
        os.dup2(self._real, _STANDARD_ERROR)
        os.close(self._real)
        self._caught.close()


_catcher = _Catcher()


@contextmanager
def captured_errors(found: list[str]) -> Iterator[None]:
    """Collect the errors that libtiff and GDAL report inside the block, without their full stops.

    They do not name a file: while several are being written, an error counts for all of them.
    """
    visitor, begin = _catcher.enter()
    try:
        yield
    finally:
        found += _catcher.leave(visitor, begin)


def release_standard_error() -> None:
    """Restore standard error before a file is finished, for a process that is about to exit."""
    _catcher.release()


def _file_in_memory() -> IO[bytes]:
    """A file in memory, where the system has such: the disk may be full, or read-only except for the output."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("geosegsr"), "w+b")
    return tempfile.TemporaryFile()
