"""Where progress is shown: moving rows on a terminal or in a notebook, a line now and then in a log.

Whatever happens to the work, the clock ticks: every second on a terminal, every half minute in a log.
"""

from __future__ import annotations

import html
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TextIO, cast

import click

from geosegsr_cli.parts.options import TIME_FORMAT, human_seconds, one_line
from geosegsr_cli.parts.streams import Forgiving

if TYPE_CHECKING:
    from rich.live import Live

_LOG_EVERY_S = 25.0
LOG_VARIABLE = "GEOSEGSR_LOG_EVERY"
"""Environment variable with the seconds between two lines of a log."""
_TICK_S = 1.0
_REFRESHES_PER_S = 4


@dataclass
class Row:
    """One piece of work that is going on."""

    text: str
    share: float | None
    """Of the stage, 0 to 1; None where it is not known."""
    began: float = field(default_factory=time.monotonic)
    first: tuple[float, float] | None = None
    """Time and share from which the rest is estimated."""

    def update(self, text: str, share: float | None) -> None:
        """Show this from now on."""
        if share is None or (self.share is not None and share < self.share):
            self.first = None  # another stage
        if share is not None and self.first is None:
            self.first = (time.monotonic(), share)
        self.text, self.share = text, share

    def clock(self) -> str:
        """The share, the time since the work began, and what is left."""
        now = time.monotonic()
        parts = [] if self.share is None else [f"{self.share:.0%}"]
        minutes, seconds = divmod(int(now - self.began), 60)
        parts.append(f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}")
        if self.share is not None and self.first is not None and self.share > self.first[1]:
            rate = (self.share - self.first[1]) / (now - self.first[0])
            parts.append(f"{human_seconds((1 - self.share) / rate)} to go")
        return ", ".join(parts)


class Screen:
    """Shows nothing; the base of those that do."""

    def show(self, key: str, text: str, share: float | None = None, *, now: bool = False) -> None:
        """Show what is going on.

        Args:
            key: Tells rows apart.
            text: What is going on, without its share and time.
            share: Share of it that is done, 0 to 1.
            now: Whether a log tells it at once.
        """

    def drop(self, key: str) -> None:
        """Remove a row."""

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Other text may be printed inside."""
        yield

    def close(self) -> None:
        """Clear all rows."""


class _Rows(Screen):
    """Keeps the rows and calls `_tick` until it is closed."""

    def __init__(self, every_s: float) -> None:
        self._rows: dict[str, Row] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._every_s = every_s
        self._ticker = threading.Thread(target=self._run, daemon=True, name="geosegsr-clock")

    def show(self, key: str, text: str, share: float | None = None, *, now: bool = False) -> None:
        text = one_line(text)
        with self._lock:
            row = self._rows.setdefault(key, Row(text, None))
            row.update(text, share)

    def drop(self, key: str) -> None:
        with self._lock:
            self._rows.pop(key, None)

    def close(self) -> None:
        self._closed.set()

    def _snapshot(self) -> list[tuple[Row, str]]:
        with self._lock:
            return [(row, row.clock()) for row in self._rows.values()]

    def _run(self) -> None:
        while not self._closed.wait(self._every_s):
            self._tick()

    def _tick(self) -> None:
        raise NotImplementedError


class _Log(_Rows):
    """A line with its time where something changes, and every half minute."""

    def __init__(self) -> None:
        super().__init__(_TICK_S)
        self._log_every_s = _log_every_s()
        self._stream = _own_standard_error()
        self._last = time.monotonic()
        self._ticker.start()

    def show(self, key: str, text: str, share: float | None = None, *, now: bool = False) -> None:
        super().show(key, text, share)
        if now:
            self._print(self._rows[key])

    def close(self) -> None:
        super().close()
        with self._lock:
            _close(self._stream)

    def _tick(self) -> None:
        if time.monotonic() - self._last < self._log_every_s:
            return
        for row, _ in self._snapshot()[:1]:  # of a batch, the line about all scenes
            self._print(row)

    def _print(self, row: Row) -> None:
        self._last = time.monotonic()
        with self._lock:
            self._stream.write(f"{time.strftime(TIME_FORMAT)} {row.text}, {row.clock()}\n")
            self._stream.flush()


class _Terminal(_Rows):
    """Rows that move, drawn by rich."""

    def __init__(self) -> None:
        super().__init__(_TICK_S)
        from rich.console import Console

        self._stream = _own_standard_error()
        self._console = Console(file=self._stream, force_terminal=True, highlight=False)
        self._live = self._started()

    def _started(self) -> Live:
        from rich.live import Live

        from geosegsr_cli.parts.above import Above

        live = Live(
            console=self._console,
            get_renderable=self._drawn,
            refresh_per_second=_REFRESHES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start(refresh=True)
        self._usual = sys.stderr
        sys.stderr = cast(TextIO, Above(self._console, self._usual))
        return live

    def _stop(self) -> None:
        sys.stderr = self._usual
        self._live.stop()

    @contextmanager
    def paused(self) -> Iterator[None]:
        self._stop()
        try:
            yield
        finally:
            self._live = (
                self._started()
            )  # one that was stopped would begin above its place, over what was printed

    def close(self) -> None:
        super().close()
        self._stop()
        _close(self._stream)

    def _drawn(self) -> Any:
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 1), expand=False)
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        table.add_column(no_wrap=True, width=16)
        table.add_column(no_wrap=True)
        for row, clock in self._snapshot():
            bar = "" if row.share is None else ProgressBar(total=1.0, completed=row.share, width=16)
            table.add_row(Text(row.text), bar, Text(clock))
        return table


class _Notebook(_Rows):
    """Rows in the output of a notebook's cell."""

    def __init__(self) -> None:
        super().__init__(_TICK_S)
        from IPython.display import HTML, display

        self._html: Any = HTML
        self._output: Any = display(HTML(""), display_id=True)
        self._ticker.start()

    def close(self) -> None:
        super().close()
        self._ticker.join()
        self._output.update(self._html(""))

    def _tick(self) -> None:
        bars = [
            f"{html.escape(row.text)} <progress {'' if row.share is None else f'value={row.share:.3f}'}></progress> {clock}"
            for row, clock in self._snapshot()
        ]
        self._output.update(self._html("<br>".join(bars)))


def open_screen(*, quiet: bool = False, as_json: bool = False) -> Screen:
    """The screen for this process: a notebook's cell, a terminal, or a log.

    Args:
        quiet: Whether nothing is shown.
        as_json: Whether a program reads the results, so that lines of a log will do.
    """
    if quiet:
        return Screen()
    if _in_a_notebook():
        return _Notebook()
    if sys.stderr.isatty() and not as_json and os.environ.get("TERM") != "dumb":
        return _Terminal()
    return _Log()


def _in_a_notebook() -> bool:
    """Whether a notebook's kernel runs this process; one that only imported such things is none."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def _log_every_s() -> float:
    try:
        return float(os.environ.get(LOG_VARIABLE, _LOG_EVERY_S))
    except ValueError:
        return _LOG_EVERY_S


def _own_standard_error() -> TextIO:
    """Standard error as it is now: it may be captured while GDAL writes a file."""
    try:
        number = os.dup(sys.stderr.fileno())
    except (OSError, ValueError, AttributeError):
        return sys.stderr
    return cast(TextIO, Forgiving(os.fdopen(number, "w", encoding="utf-8", errors="backslashreplace")))


def _close(stream: TextIO) -> None:
    if stream is not sys.stderr:
        stream.close()


@contextmanager
def shown(text: str, *, quiet: bool = False, as_json: bool = False) -> Iterator[Screen]:
    """A screen with one row, for work that may take some seconds."""
    screen = open_screen(quiet=quiet, as_json=as_json)
    try:
        screen.show("", text)
        yield screen
    finally:
        screen.close()


def say(text: str) -> None:
    """Print a line on standard error."""
    click.echo(one_line(text), err=True)
