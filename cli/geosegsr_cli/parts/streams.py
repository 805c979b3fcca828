"""Standard streams that are full, closed or missing do not end the work."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO, cast

import click


def secure_streams() -> None:
    """Provide all three streams, so that failures of them neither end the work nor leave a traceback."""
    # A stand-in opened in the wrong direction fails at its first use. It also occupies the descriptor, which would
    # otherwise go to the next file opened, and messages would end up in that file.
    sys.stdin = sys.stdin or _stand_in(0, "r", os.O_WRONLY)
    sys.stdout = cast(TextIO, _Answering(sys.stdout or _stand_in(1, "w", os.O_RDONLY)))
    sys.stderr = cast(TextIO, Forgiving(sys.stderr or _stand_in(2, "w", os.O_WRONLY)))


def _stand_in(number: int, mode: str, flags: int) -> TextIO:
    nothing = os.open(os.devnull, flags)
    if nothing != number:
        os.dup2(nothing, number)
        os.close(nothing)
    os.set_inheritable(number, True)  # child processes need it, too
    return cast(TextIO, os.fdopen(number, mode, encoding="utf-8", errors="backslashreplace", closefd=False))


class Forgiving:
    """Standard error that accepts all text, even if it cannot be written."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def close(self) -> None:
        """Give up what could not be written."""
        with suppress(OSError, ValueError):
            self._stream.close()


class _Answering(Forgiving):
    """Standard output that ends the command when it cannot be written, and then accepts all text."""

    _lost = False

    def write(self, text: str) -> int:
        if not text:
            return self._stream.write(text)  # click probes whether the stream takes text or bytes
        if not self._lost:
            try:
                self._stream.write(text)
            except OSError as error:
                self._lose(error)
        return len(text)

    def flush(self) -> None:
        if not self._lost:
            try:
                self._stream.flush()
            except OSError as error:
                self._lose(error)

    def _lose(self, error: OSError) -> None:
        self._lost = True
        if isinstance(error, BrokenPipeError):  # the reader has left (`| head`): no message
            raise click.exceptions.Exit(1) from error
        raise click.ClickException(
            f"Cannot write to standard output: {error.strerror}. Finished results are kept. "
            "Redirect it to where it can be written."
        ) from error
