"""Errors that libtiff and GDAL's own threads only print: a full disk is told of nowhere else.

Standard error belongs to the process. While any file is being written, what goes there is caught; all that is no
such error is passed on.
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
    """Stands between the process and its standard error while anyone is inside."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[object] = set()

    def enter(self) -> tuple[object, int]:
        """Begin to catch; returns what `leave` asks for."""
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
        """The errors since `enter`; the last one out gives standard error back."""
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
        """Give standard error back at once; those who are inside learn of no more errors."""
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
def printed_errors(found: list[str]) -> Iterator[None]:
    """Collect the errors printed meanwhile, without their full stops.

    No one says whose an error is: with several files being written at a time, it counts for all of them.
    """
    visitor, begin = _catcher.enter()
    try:
        yield
    finally:
        found += _catcher.leave(visitor, begin)


def release_standard_error() -> None:
    """Have standard error back before a file is finished, for a process that is about to leave."""
    _catcher.release()


def _file_in_memory() -> IO[bytes]:
    """A file that needs no disk, where the system has such: the disk may be full, or read-only but for the output."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("geosegsr"), "w+b")
    return tempfile.TemporaryFile()
