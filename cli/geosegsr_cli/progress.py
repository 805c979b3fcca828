"""How a run tells where it stands: one moving line on a terminal, plain lines in a log file."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from geosegsr_cli.options import TIME_FORMAT, human_seconds

if TYPE_CHECKING:
    from geosegsr.upscale import Progress

_LOG_EVERY_S = 30.0
_STAGES = {"cog": "writing the COG", "verify": "verifying"}


class ProgressLine:
    """Called with each event of a run; writes to standard error."""

    def __init__(self) -> None:
        """Start the clock."""
        self._terminal = sys.stderr.isatty()
        self._began = time.monotonic()
        self._last = 0.0
        self._width = 0

    def __call__(self, event: Progress) -> None:
        """Show an event."""
        now = time.monotonic()
        final = event.stage != "blocks" or event.done == event.total
        if not self._terminal and not final and now - self._last < _LOG_EVERY_S:
            return
        self._last = now
        self._show(_STAGES.get(event.stage) or self._blocks(event, now - self._began))

    def close(self) -> None:
        """Clear the moving line."""
        if self._terminal and self._width:
            click.echo("\r" + " " * self._width + "\r", err=True, nl=False)

    def _blocks(self, event: Progress, elapsed: float) -> str:
        done = event.done - event.resumed
        text = f"{event.done}/{event.total} blocks"
        if event.resumed:
            text += f" ({event.resumed} from before)"
        if done:
            rate = done / elapsed
            text += f", {rate:.2g} blocks/s" if rate >= 0.1 else f", {1 / rate:.0f} s/block"
            text += f", {human_seconds((event.total - event.done) / rate)} to go"
        return text

    def _show(self, text: str) -> None:
        if not self._terminal:
            click.echo(f"{time.strftime(TIME_FORMAT)} {text}", err=True)
            return
        click.echo("\r" + text.ljust(self._width), err=True, nl=False)
        self._width = len(text)
