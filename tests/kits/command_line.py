"""Runs the `geosegsr` command, in this process or in one of its own, and reads what it says."""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import signal
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from geosegsr_cli.main import main

from geosegsr.errors import GeoSegSRWarning

# Under nohup, and in the background of a script, SIGINT is ignored, and children inherit that.
_CODE = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from geosegsr_cli.main import main; main()"
)
PROGRAM = [sys.executable, "-c", _CODE]
"""The command line in a process of its own, which Ctrl-C interrupts wherever the tests run."""
PATIENCE_S = 120
"""Until a command counts as hung."""

_PROGRESS = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d .*, (\d+%, )?\d+:\d\d:\d\d(, .* to go)?$")
_FOLDERS = os.pathsep.join(str(Path(__file__).resolve().parents[2] / name) for name in (".", "cli"))


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        """Lines on standard error that neither warn nor tell of progress."""
        return [line for line in self.lines if not line.startswith("Warning: ")]

    @property
    def warned(self) -> list[str]:
        return [line for line in self.lines if line.startswith("Warning: ")]

    @property
    def lines(self) -> list[str]:
        return [line for line in self.err.splitlines() if not _PROGRESS.match(line)]


def run_here(capfd: pytest.CaptureFixture[str], *args: object) -> Outcome:
    """Run a command in this process, and leave the process's state as it was."""
    capfd.readouterr()
    with _own_state(), pytest.raises(SystemExit) as stop:
        main([str(arg) for arg in args])
    out, err = capfd.readouterr()
    return Outcome(int(stop.value.code or 0), out, err)


@contextmanager
def _own_state() -> Iterator[None]:
    """Warnings are shown as on the command line; signals, streams, logging and warnings are restored."""
    streams = sys.stdin, sys.stdout, sys.stderr
    handler = signal.getsignal(signal.SIGTERM)
    unraisable = sys.unraisablehook
    loggers = {name: logging.getLogger(name) for name in ("geosegsr", "rasterio")}
    kept = {name: (logger.handlers, logger.level) for name, logger in loggers.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", GeoSegSRWarning)
            yield
    finally:
        sys.stdin, sys.stdout, sys.stderr = streams
        signal.signal(signal.SIGTERM, handler)
        sys.unraisablehook = unraisable
        for name, logger in loggers.items():
            logger.handlers, logger.level = kept[name]


def start(*args: object, **kwargs: Any) -> subprocess.Popen[str]:
    """Start a command in a process of its own."""
    return subprocess.Popen(
        [*PROGRAM, *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        **kwargs,
    )


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a command to end."""
    try:
        out, err = process.communicate(timeout=PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Outcome(process.returncode, out, err)


def run_in_shell(redirections: str, *args: object) -> Outcome:
    """Run a command in a process of its own, with its streams turned elsewhere as a shell does it."""
    words = shlex.join([*PROGRAM, *map(str, args)])
    process = subprocess.Popen(
        ["bash", "-c", f"set -o pipefail; {words} {redirections}"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
    )  # fmt: skip
    return finish(process)


def run(*args: object, **kwargs: Any) -> Outcome:
    """Run a command in a process of its own."""
    return finish(start(*args, **kwargs))


def environment() -> Mapping[str, str]:
    """For processes that must find this package, be it installed or not."""
    paths = [_FOLDERS, os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}


def assert_refused(outcome: Outcome, code: int, *parts: object) -> None:
    """One line that begins with "Error: ", is a sentence, and names what it is about."""
    assert outcome.code == code, outcome
    assert len(outcome.said) == 1, outcome.err
    (line,) = outcome.said
    assert line.startswith("Error: ")
    assert line.endswith((".", "?"))
    assert ".." not in line.replace("...", "")
    for part in parts:
        assert str(part) in line, line
    # With --json the same error is on standard output, for programs.
    assert not outcome.out or json.loads(outcome.out)["status"] == "failed"
