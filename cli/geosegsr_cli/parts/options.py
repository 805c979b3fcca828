"""Option types, logging and text formats that several commands share."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TextIO, TypeVar

import click

from geosegsr.errors import redacted
from geosegsr_cli.parts.variables import variables_in_use

Function = TypeVar("Function", bound=Callable[..., Any])

log = logging.getLogger("geosegsr")

_MOST_CHARACTERS = 1500

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"
"""Of lines in a log file."""


class BandList(click.ParamType[tuple[int | str, ...]]):
    """Comma-separated 1-based band numbers."""

    name = "bands"

    def __init__(self, *, named: bool = False) -> None:
        """Bands of a scene.

        Args:
            named: Whether a band may be given by its name, too.
        """
        self.named = named

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int | str, ...]:
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        bands = tuple(int(part) if part.lstrip("-").isdecimal() else part for part in parts)
        if not all(parts) or not (self.named or all(isinstance(band, int) for band in bands)):
            such = "such as 1,2,3" + (", or of names such as B04,B03,B02" if self.named else "")
            self.fail(f"'{value}' is not a list of band numbers {such}.", param, ctx)
        return bands


class NameList(click.ParamType[tuple[str, ...]]):
    """Comma-separated names."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        return value if isinstance(value, tuple) else tuple(part.strip() for part in str(value).split(","))


class Scale(click.ParamType[int]):
    """An integer factor."""

    name = "factor"

    def __init__(self, *, unchanged: bool = False) -> None:
        """A factor that models have.

        Args:
            unchanged: Whether 1 is one, too: there may be a guide.
        """
        self.unchanged = unchanged

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from geosegsr.models.segsr.config import SCALES

        if str(value) not in map(str, SCALES) and not (self.unchanged and str(value) == "1"):
            self.fail(f"cannot upscale by {value}: choose one of {', '.join(map(str, SCALES))}.", param, ctx)
        return int(value)


class KeyValue(click.ParamType[tuple[str, str]]):
    """KEY=VALUE."""

    name = "key=value"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, content = str(value).partition("=")
        if not key or not equals:
            self.fail(f"'{value}' is not of the form KEY=VALUE, such as COMPRESS=ZSTD.", param, ctx)
        return key, content


class Nodata(click.ParamType[float | str]):
    """A number, or "auto"."""

    name = "value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float | str:
        if value == "auto":
            return "auto"
        try:
            return float(value)
        except ValueError:
            self.fail(f"'{value}' is neither a number nor 'auto'.", param, ctx)


class BandKinds(click.ParamType[tuple[int, str]]):
    """BAND=KIND."""

    name = "band=kind"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, str]:
        band, _, kind = str(value).partition("=")
        if not (band.isdecimal() and kind):
            self.fail(f"'{value}' is not of the form BAND=KIND, such as 4=class.", param, ctx)
        return int(band), kind


def band_kind_option(function: Function) -> Function:
    """The --band-kind option of the commands that read scenes."""
    return click.option(
        "--band-kind", "band_kinds", type=BandKinds(), multiple=True,
        callback=lambda ctx, param, value: dict(value) or None,
        help="What a band holds, such as 4=class: image, class, mask or angle; may be repeated. "
        "Pixels of all but images are repeated. Default: found out.",
    )(function)  # fmt: skip


class Places(click.ParamType[str]):
    """A file, folder or pattern. An environment variable separates several as PATH does, so that they may contain spaces."""

    name = "place"
    envvar_list_splitter = os.pathsep


@dataclass
class Answer:
    """What standard output carries for programs that read it."""

    as_json: bool = False
    """Whether --json was given."""

    def failed(self, status: str, message: str, error: BaseException | None = None) -> None:
        """Print an error as JSON in place of the result, if --json was given."""
        if self.as_json:
            kind = type(error or KeyboardInterrupt()).__name__
            with suppress(
                click.exceptions.Exit, click.ClickException
            ):  # the error itself is on standard error already
                print_json({"status": status, "error": message, "kind": kind})


def print_json(facts: Any, indent: int | None = None) -> None:
    """Print what --json answers, with the secrets of addresses removed from all texts."""
    click.echo(json.dumps(_redacted(facts), indent=indent))


def _redacted(facts: Any) -> Any:
    if isinstance(facts, str):
        return redacted(facts)
    if isinstance(facts, dict):
        return {_redacted(key): _redacted(value) for key, value in facts.items()}
    return [_redacted(item) for item in facts] if isinstance(facts, (list, tuple)) else facts


def json_option(function: Function) -> Function:
    """The --json option of every command that prints a result."""
    return click.option(
        "--json", "as_json", is_flag=True, is_eager=True, callback=_answer_in_json,
        help="Print the result, or the error, as JSON.",
    )(function)  # fmt: skip


def _answer_in_json(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
    ctx.ensure_object(Answer).as_json = value
    return value


def verbosity(quiet: bool, verbose: int) -> None:
    """Send the library's log and warnings to standard error, with the time if that is not a terminal."""
    level = logging.ERROR if quiet else [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    handler = _ToStandardError()
    source = "%(name)s: " if verbose > 1 else ""
    moment = "" if sys.stderr.isatty() and verbose < 2 else "%(asctime)s "
    handler.setFormatter(_Lines(f"{moment}{source}%(message)s", datefmt=TIME_FORMAT))
    log.handlers = [handler]
    log.setLevel(level)
    gdal = logging.getLogger("rasterio")
    gdal.handlers, gdal.propagate = [logging.NullHandler()], False  # its errors reach the user through ours
    warnings.showwarning = _quiet if quiet else _show_warning
    for variable in variables_in_use(click.get_current_context()):
        log.info("from the environment: %s", variable)


class _ToStandardError(logging.Handler):
    """Prints to what standard error is at the moment, so that a line does not cross rows that move."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(self.format(record), err=True)


class _Lines(logging.Formatter):
    """One line per message, whatever its file names contain; the traceback of a bug follows on its own lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        return one_line(super().formatMessage(record))


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    from geosegsr.errors import GeoSegSRWarning

    if issubclass(category, GeoSegSRWarning):
        click.echo(paragraph(f"Warning: {message}.", 2, err=True), err=True)


def _quiet(*args: Any, **kwargs: Any) -> None:
    pass


def one_line(text: str) -> str:
    """Replace line breaks and control characters, which file names and tags may contain, and limit the length.

    The secrets of addresses are removed.
    """
    line = "".join(char if char.isprintable() else " " for char in redacted(text))
    return line if len(line) <= _MOST_CHARACTERS else f"{line[:_MOST_CHARACTERS]}..."


def paragraph(text: str, indent: int = 0, *, err: bool = False) -> str:
    """A text as `one_line`; on a terminal broken between words, its further lines indented. Logs and pipes get one line.

    Args:
        text: For standard output.
        indent: Blanks before the further lines.
        err: Whether it is for standard error instead.
    """
    line = one_line(text)
    if not (sys.stderr if err else sys.stdout).isatty():
        return line
    width = shutil.get_terminal_size().columns
    wrapped = textwrap.wrap(
        line, width, subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False
    )
    return "\n".join(wrapped) or line


def human_bytes(size: float) -> str:
    """Bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_seconds(seconds: float) -> str:
    """Seconds, minutes and hours for people."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
