"""Progress of a run: one moving line on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from geosegsr.errors import redacted
from geosegsr_cli.parts.options import TIME_FORMAT, human_seconds, one_line

if TYPE_CHECKING:
    from geosegsr.pipeline.report import Progress

_LOG_EVERY_S = 30.0
_STAGES = {"cog": "writing the COG", "verify": "verifying"}


class _Line:
    """A line on standard error, rewritten in place on a terminal."""

    def __init__(self) -> None:
        """Start the clock."""
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._last = 0.0
        self._width = 0

    def close(self) -> None:
        """Clear the moving line."""
        if self._terminal and self._width:
            click.echo("\r" + " " * self._width + "\r", err=True, nl=False)
            self._width = 0

    def _show(self, text: str) -> None:
        text = one_line(text)
        if not self._terminal:
            click.echo(f"{time.strftime(TIME_FORMAT)} {text}", err=True)
            return
        click.echo("\r" + text.ljust(self._width), err=True, nl=False)
        self._width = len(text)


class ProgressLine(_Line):
    """Shows each event of a run."""

    def __call__(self, event: Progress) -> None:
        """Show an event."""
        now = time.monotonic()
        final = event.stage != "blocks" or event.done == event.total
        if not self._terminal and not final and now - self._last < _LOG_EVERY_S:
            return
        self._last = now
        self._show(_STAGES.get(event.stage) or self._blocks(event, now - self._began))

    def _blocks(self, event: Progress, elapsed: float) -> str:
        done = event.done - event.resumed
        text = f"{event.done}/{event.total} blocks"
        if event.resumed:
            text += f" ({event.resumed} resumed)"
        if done:
            rate = done / elapsed
            text += f", {rate:.2g} blocks/s" if rate >= 0.1 else f", {1 / rate:.0f} s/block"
            text += f", {human_seconds((event.total - event.done) / rate)} to go"
        return text


class BatchLine(_Line):
    """Shows the events of a batch, and counts the scenes that have ended."""

    def __init__(self, scenes: int) -> None:
        """Start the clock for this many scenes."""
        super().__init__()
        self._scenes = scenes
        self._ended: Counter[str] = Counter()

    def __call__(self, source: str, event: Progress) -> None:
        """Show the progress of a scene."""
        now = time.monotonic()
        if self._terminal or now - self._last >= _LOG_EVERY_S:
            self._last = now
            stage = _STAGES.get(event.stage) or f"{event.done}/{event.total} blocks"
            self._show(f"{self._so_far(now - self._began)}; {Path(redacted(source)).name}: {stage}")

    def ended(self, status: str) -> None:
        """Count a scene that has ended."""
        self._ended[status] += 1

    def _so_far(self, elapsed: float) -> str:
        ended, made = self._ended.total(), self._ended["done"]
        text = f"{ended}/{self._scenes} scenes"
        if self._ended["failed"]:
            text += f" ({self._ended['failed']} failed)"
        if made:
            text += f", {human_seconds((self._scenes - ended) * elapsed / made)} to go"
        return text
