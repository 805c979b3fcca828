"""The geosegsr command: its arguments, and running it with its progress. Nothing here needs QGIS."""

from __future__ import annotations

import json
import os
import queue
import re
import shlex
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d "
_BLOCKS = re.compile(_TIME + r"\d+/\d+ blocks.*?, (\d+)%")
_LOG_LINE = re.compile(_TIME)
_STAGES = {"writing the COG": 90.0, "verifying": 95.0}
_SHARE_OF_BLOCKS = 0.9
_POLL_S = 0.2


class FailedError(Exception):
    """The command ended with an error, or was stopped."""


def upscale_arguments(source: str, output: str, *, scale: int, model: str, options: str = "") -> list[str]:
    """Arguments of geosegsr for an upscaled raster.

    Args:
        source: What GDAL opens.
        output: File to write; an existing one is replaced.
        scale: 2, 3, 4 or 8.
        model: A name or a file.
        options: More options, as typed in a shell.
    """
    return _arguments(source, output, options, "--scale", str(scale), "--model", model or "bundled")


def sharpen_arguments(source: str, guide: str, output: str, *, options: str = "") -> list[str]:
    """Arguments of geosegsr for coarse bands on the pixels of a sharper raster; others as in `upscale_arguments`."""
    return _arguments(source, output, options, "--guide", guide, "--scale", "1")


def report_arguments(source: str, result: str, output: str) -> list[str]:
    """Arguments of geosegsr for a report on a result; an existing file is replaced."""
    return ["report", "-o", output, "--overwrite", "--json", "--", source, result]


def _arguments(source: str, output: str, options: str, *own: str) -> list[str]:
    try:
        more = shlex.split(options or "")
    except ValueError as error:
        raise FailedError(
            f"Cannot read the options '{options}': {error}. Close all quotation marks."
        ) from error
    # The source comes last, after --, so that a name that begins with a dash is no option.
    return ["upscale", "-o", output, *own, "--overwrite", "--json", *more, "--", source]


def percent_of(line: str) -> float | None:
    """The progress that a line of the log tells, 0 to 100; None if it tells none."""
    blocks = _BLOCKS.match(line)
    if blocks:
        return _SHARE_OF_BLOCKS * float(blocks[1])
    text = re.sub("^" + _TIME, "", line)
    return next((share for stage, share in _STAGES.items() if text.startswith(stage)), None)


def environment(outer: Mapping[str, str]) -> dict[str, str]:
    """The environment of the command: that of QGIS without its Python, and with a line of progress every second."""
    own = {name: value for name, value in outer.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    return {**own, "GEOSEGSR_LOG_EVERY": "1"}


def run(
    program: str,
    arguments: Sequence[str],
    *,
    tell: Callable[[str], None],
    progress: Callable[[float], None],
    stopped: Callable[[], bool],
) -> dict[str, Any]:
    """Run the command.

    Args:
        program: The command, or its path.
        arguments: From one of the functions above.
        tell: Called with each line that is no progress.
        progress: Called with 0 to 100.
        stopped: Whether the user cancelled; the same algorithm with the same output resumes the run.

    Returns:
        What --json printed.

    Raises:
        FailedError: With the command's own message.
    """
    try:
        process = subprocess.Popen(
            [program, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True, errors="replace", env=environment(os.environ),
        )  # fmt: skip
    except OSError as error:
        raise FailedError(
            f"Cannot run '{program}': {error.strerror}. Install it with pip install 'geosegsr[report]', and put its path into the "
            "environment variable GEOSEGSR_COMMAND."
        ) from error
    with process:
        lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        answer: list[str] = []
        threads = [
            threading.Thread(target=_collect, args=(process.stderr, lines), daemon=True),
            threading.Thread(target=lambda: answer.append(process.stdout.read()), daemon=True),
        ]
        for thread in threads:
            thread.start()
        errors = _follow(process, lines, tell, progress, stopped)
        for thread in threads:
            thread.join()
        if process.wait():
            raise FailedError(
                errors[-1] if errors else f"'{program}' ended with exit code {process.returncode}."
            )
    result: dict[str, Any] = json.loads(answer[0])
    return result


def _collect(stream: Any, lines: queue.SimpleQueue[str | None]) -> None:
    for line in stream:
        lines.put(line.rstrip())
    lines.put(None)


def _follow(
    process: subprocess.Popen[str],
    lines: queue.SimpleQueue[str | None],
    tell: Callable[[str], None],
    progress: Callable[[float], None],
    stopped: Callable[[], bool],
) -> list[str]:
    """Pass on lines until the command ends; returns its errors."""
    errors = []
    interrupted = False
    while True:
        if stopped() and not interrupted:
            process.send_signal(signal.SIGTERM)  # finished blocks are kept
            interrupted = True
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if line is None:
            return errors
        share = percent_of(line)
        if share is not None:
            progress(share)
        elif line and not _LOG_LINE.match(line):
            tell(line)
        if line.startswith(("Error: ", "Interrupted.")):
            errors.append(line.removeprefix("Error: "))
