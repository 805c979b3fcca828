"""Progress of upscale in words: of one scene, and of a batch with a row for each scene that is being done."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from geosegsr.errors import redacted
from geosegsr_cli.parts.options import human_bytes
from geosegsr_cli.parts.screen import Screen, open_screen

if TYPE_CHECKING:
    from geosegsr.pipeline.report import Progress

_STAGES = {
    "source": "checking that the source did not change",
    "cells": "making the tiles at the edges of blocks",
    "cog": "writing the COG",
    "verify": "verifying",
    "commit": "moving the result into place",
    "upload": "sending the result",
}
_ANNOUNCED = ("blocks", "cog", "verify", "upload")
"""Stages that get a line of their own in a log, however short they are."""
_PLANNING = "reading the scene"
_ALL = ""
"""Key of the row about a whole batch."""


class ProgressBar:
    """Shows each event of a run; used in a `with` statement, as `progress` of `upscale`."""

    def __init__(self, screen: Screen | None = None) -> None:
        """Start the clock.

        Args:
            screen: Where to show it; by default what this process has.
        """
        self._screen = screen or open_screen()
        self._screen.show(_ALL, _PLANNING)
        self._stage = ""

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._screen.close()

    def __call__(self, event: Progress) -> None:
        """Show an event."""
        ended = event.stage == "blocks" and event.done == event.total
        begun, self._stage = event.stage != self._stage, event.stage
        self._screen.show(
            _ALL, _described(event), event.share, now=(begun and event.stage in _ANNOUNCED) or ended
        )


class BatchProgress:
    """Shows a row for each scene that is being done, below one about the batch."""

    def __init__(self, scenes: int, *, quiet: bool, as_json: bool) -> None:
        """Start the clock for this many scenes."""
        self._screen = open_screen(quiet=quiet, as_json=as_json)
        self._began = time.monotonic()
        self._scenes = scenes
        self._ended: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._shares: dict[str, float] = {}
        self._show_all()

    def __call__(self, source: str, event: Progress) -> None:
        """Show the progress of a scene."""
        with self._lock:
            self._shares[source] = event.share or 0.0 if event.stage == "blocks" else float(event.total > 0)
        self._screen.show(source, f"{Path(redacted(source)).name}: {_described(event)}", event.share)
        self._show_all()

    def measured(self, source: str) -> Callable[[float], None]:
        """Shows the share of a result that its report has measured."""
        return told(self._screen, source, f"{Path(redacted(source)).name}: ")

    @contextmanager
    def ended(self, source: str, status: str) -> Iterator[None]:
        """Count a scene that has ended; its outcome may be printed inside."""
        with self._lock:
            self._ended[status] += 1
            self._shares.pop(source, None)
        self._screen.drop(source)
        self._show_all()
        with self._screen.paused():
            yield

    def close(self) -> None:
        """Clear the rows."""
        self._screen.close()

    def _show_all(self) -> None:
        with self._lock:
            ended, failed = self._ended.total(), self._ended["failed"]
            share = (ended + sum(self._shares.values())) / max(self._scenes, 1)
        text = f"{ended}/{self._scenes} scenes" + (f" ({failed} failed)" if failed else "")
        self._screen.show(_ALL, text, share)


def told(screen: Screen, key: str = _ALL, name: str = "") -> Callable[[float], None]:
    """Shows the share of a result that a report has measured.

    Args:
        screen: Where.
        key: The row.
        name: What stands before, to tell rows apart.
    """

    def show(share: float) -> None:
        if share < 1:
            screen.show(key, f"{name}measuring the result", share)
        else:
            screen.show(key, f"{name}drawing the pictures")

    return show


def _described(event: Progress) -> str:
    if event.stage != "blocks":
        size = f", {human_bytes(event.written)}" if event.written else ""
        return _STAGES.get(event.stage, event.stage) + size
    resumed = f" ({event.resumed} resumed)" if event.resumed else ""
    return f"{event.done}/{event.total} blocks{resumed}"
