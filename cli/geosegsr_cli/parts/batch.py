"""Many scenes for geosegsr upscale: what is printed for each, and the summary at the end."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosegsr import files
from geosegsr.errors import redacted
from geosegsr_cli.parts.asked import Asked
from geosegsr_cli.parts.beside import Beside
from geosegsr_cli.parts.beside import describe as describe_beside
from geosegsr_cli.parts.options import human_bytes, human_seconds, one_line, paragraph, print_json
from geosegsr_cli.parts.progress import BatchProgress
from geosegsr_cli.parts.screen import shown

if TYPE_CHECKING:
    from geosegsr.pipeline.batch import OnError, Outcome, Unsuitable
    from geosegsr.pipeline.report import Report

_ORDER = ("done", "skipped", "unsuitable", "failed", "stopped")


def is_folder(output: str) -> bool:
    """Whether `output` names a folder for the results."""
    return output.endswith("/") or files.is_folder(output)


def is_one_file(named: Sequence[str], lines: Iterable[str] | None) -> bool:
    """Whether a single scene was named: by its own path, or by a folder that holds nothing but its bands."""
    from geosegsr.pipeline.scene_list import find_scenes
    from geosegsr.raster.products import open_product

    if lines is not None or len(named) != 1:
        return False
    if files.is_folder(named[0]) and open_product(named[0]) is not None:
        return True
    return find_scenes(named) == [named[0]]


def scenes_of(
    named: Sequence[str],
    lines: Iterable[str] | None,
    output: str,
    pattern: str | None,
    *,
    exclude: Sequence[str] = (),
    scale: int,
    model: str,
    separate: bool,
) -> list[tuple[str, Path]]:
    """Each scene with the path of its result."""
    from geosegsr.pipeline.batch import without_results
    from geosegsr.pipeline.scene_list import DEFAULT_NAME, find_scenes, name_results

    if not named and lines is None:
        raise click.UsageError("Missing argument 'SRC...'. Pass scenes, or a list of them with --from-file.")
    if not is_folder(output):
        raise click.UsageError(
            f"Several scenes cannot be written to '{output}', which is not a folder. Pass -o with an existing folder, or "
            f"'{output}/' to create one.{_apart(named)}"
        )
    sources = find_scenes(named, [] if lines is None else _read(lines), exclude)
    targets = name_results(sources, Path(output), scale=scale, model=model, pattern=pattern or DEFAULT_NAME)
    return without_results(list(zip(sources, targets, strict=True)), separate=separate)


def _apart(named: Sequence[str]) -> str:
    """Why a folder of bands is not one product: their names have several dates. Empty if they have not."""
    from geosegsr.pipeline.scene_list import find_scenes
    from geosegsr.raster.acquired import Acquired, several_dates

    if len(named) != 1 or not files.is_folder(named[0]):
        return ""
    names = [Path(found).name for found in find_scenes(named)]
    dates = several_dates(
        (name, acquired) for name in names if (acquired := Acquired.of_name(name)) is not None
    )
    if dates is None:
        return ""
    return (
        f" '{named[0]}' is no single product: its files are of several dates, {dates}. "
        "Move those of one date into a folder of their own to upscale them together."
    )


def _read(lines: Iterable[str]) -> list[str]:
    try:
        found = list(lines)
    except OSError as error:
        raise click.UsageError(f"Cannot read the list of --from-file: {error.strerror}.") from error
    if found and "\0" in found[0]:
        raise click.UsageError(
            "Cannot use the list of --from-file: it begins with binary data. Pass a text file with one path a line."
        )
    return found


def run_batch(
    asked: Asked, scenes: Sequence[tuple[str, Path]], on_error: OnError, unsuitable: Unsuitable
) -> bool:
    """Upscale all scenes and print the outcome of each; return whether all succeeded."""
    from geosegsr.pipeline.batch import upscale_batch

    began = time.monotonic()
    progress = BatchProgress(len(scenes), quiet=asked.quiet, as_json=asked.as_json)
    outcomes: list[Outcome] = []
    try:
        for outcome in upscale_batch(
            scenes, asked.scale, asked.model,
            on_error=on_error, unsuitable=unsuitable, progress=None if asked.quiet else progress, **asked.keywords,
        ):  # fmt: skip
            outcome, written = _with_beside(outcome, asked.beside, progress)
            outcomes.append(outcome)
            with progress.ended(outcome.source, outcome.status):
                _say(outcome, written, as_json=asked.as_json, quiet=asked.quiet)
    finally:
        progress.close()
        if not asked.quiet:
            _summarise(outcomes, len(scenes), time.monotonic() - began)
    return all(outcome.status in ("done", "skipped", "unsuitable") for outcome in outcomes)


def estimate(asked: Asked, scenes: Sequence[tuple[str, Path]], unsuitable: Unsuitable) -> bool:
    """Print what all scenes would take; return whether all of them can be done."""
    from geosegsr.pipeline.dry_run import dry_run_batch

    with shown("measuring a few tiles", as_json=asked.as_json):
        expected = dry_run_batch(asked.request(), scenes, unsuitable)
    if asked.as_json:
        print_json(expected.to_dict())
        return not expected.failures
    for said, reasons in (("Error", expected.failures), ("Left out", expected.unsuitable)):
        for source, reason in reasons.items():
            click.echo(paragraph(f"{said}: {_with_source(source, reason)}", 2, err=True), err=True)
    finished = f"; {expected.finished} finished" if expected.finished else ""
    failed = f"; {len(expected.failures)} cannot be done" if expected.failures else ""
    click.echo(f"scenes   {expected.scenes} to do{finished}{failed}")
    click.echo(f"output   {human_bytes(expected.output_bytes)} of pixels")
    click.echo(f"memory   up to {human_bytes(expected.memory_bytes)}")
    click.echo(f"disk     about {human_bytes(expected.disk_bytes)} while it runs")
    click.echo(f"time     about {human_seconds(expected.seconds)} on this machine")
    return not expected.failures


def describe(report: Report) -> str:
    """A result in one line, and what was taken for its sensor."""
    if report.status == "skipped":
        return one_line(f"{report.path}: skipped, it is finished")
    sensor = f"; sensor: {report.sensor}" if report.sensor else ""
    shares = [float(band["explained"] or 0) for band in report.sharpened]
    guided = f"; detail that the guide explains: {min(shares):.0%} to {max(shares):.0%}" if shares else ""
    files = f" in {len(report.files)} files" if report.files else ""
    return one_line(
        f"{report.path}: {report.width} x {report.height} pixels, {report.bands} "
        f"band{'' if report.bands == 1 else 's'} {report.dtype}{files}, {human_bytes(report.bytes)}, "
        f"in {human_seconds(report.seconds['total'])}{sensor}{guided}"
    )


def _with_beside(outcome: Outcome, beside: Beside, progress: BatchProgress) -> tuple[Outcome, dict[str, Any]]:
    """The outcome of a scene and what was written beside its result; it failed where that failed."""
    if outcome.report is None or not beside.wanted:
        return outcome, {}
    from geosegsr.errors import GeoSegSRError

    try:
        measured = progress.measured(outcome.source)
        return outcome, beside.write(outcome.source, Path(outcome.output), progress=measured)
    except GeoSegSRError as error:
        return replace(outcome, status="failed", error=str(error), kind=type(error).__name__), {}


def _say(outcome: Outcome, written: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    if as_json:
        print_json(outcome.to_dict() | written)
    elif outcome.report is not None and not quiet:
        click.echo(paragraph(describe(outcome.report), 2))
        for line in describe_beside(written):
            click.echo(paragraph(line, 2))
    if outcome.error is not None:
        said = "Left out" if outcome.status == "unsuitable" else "Error"
        click.echo(paragraph(f"{said}: {_with_source(outcome.source, outcome.error)}", 2, err=True), err=True)


def _with_source(source: str, reason: str) -> str:
    """A reason that names its scene: the summary at the end does not repeat it."""
    return reason if redacted(source) in redacted(reason) else f"{source}: {reason}"


def _summarise(outcomes: Sequence[Outcome], scenes: int, seconds: float) -> None:
    counts: Counter[str] = Counter(outcome.status for outcome in outcomes)
    click.echo(f"{scenes} scene{'' if scenes == 1 else 's'} in {human_seconds(seconds)}", err=True)
    for status in _ORDER:
        if counts[status]:
            click.echo(f"  {status:<10}{counts[status]:>6}", err=True)
    if len(outcomes) < scenes:
        click.echo(f"  {'not done':<10}{scenes - len(outcomes):>6}", err=True)
