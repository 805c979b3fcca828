"""Types and small pieces that several commands share."""

from __future__ import annotations

import logging
import sys
import warnings
from typing import Any, TextIO

import click


class BandList(click.ParamType[tuple[int, ...]]):
    """Comma-separated 1-based band numbers."""

    name = "bands"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"'{value}' is not a list of band numbers such as 1,2,3.", param, ctx)


class Scale(click.ParamType[int]):
    """An integer factor."""

    name = "factor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from geosegsr.scales import SCALES

        if str(value) not in map(str, SCALES):
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


def verbosity(quiet: bool, verbose: int) -> None:
    """Send the library's log and warnings to standard error."""
    level = logging.ERROR if quiet else [logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        logging.Formatter("%(message)s" if verbose < 2 else "%(asctime)s %(name)s: %(message)s")
    )
    logger = logging.getLogger("geosegsr")
    logger.handlers = [handler]
    logger.setLevel(level)
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)  # its errors reach the user through ours
    warnings.showwarning = _quiet if quiet else _show_warning


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
        click.echo(f"Warning: {message}.", err=True)


def _quiet(*args: Any, **kwargs: Any) -> None:
    pass


def human_bytes(size: float) -> str:
    """Bytes with a decimal unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def human_seconds(seconds: float) -> str:
    """Seconds, minutes and hours as a person says them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
