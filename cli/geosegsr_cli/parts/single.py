"""One scene for geosegsr upscale: what is printed while it runs, and at its end."""

from __future__ import annotations

from pathlib import Path

import click

from geosegsr_cli.parts.asked import Asked
from geosegsr_cli.parts.batch import describe
from geosegsr_cli.parts.beside import describe as describe_beside
from geosegsr_cli.parts.options import human_bytes, human_seconds, paragraph, print_json
from geosegsr_cli.parts.progress import ProgressBar, told
from geosegsr_cli.parts.screen import open_screen, shown


def run_single(asked: Asked, src: str, dst: str, uncertainty: Path | None) -> None:
    """Upscale a scene, and print its report."""
    with ProgressBar(open_screen(quiet=asked.quiet, as_json=asked.as_json)) as bar:
        from geosegsr.pipeline.upscale import upscale

        report = upscale(
            src, dst, asked.scale, asked.model,
            progress=None if asked.quiet else bar, uncertainty=uncertainty, **asked.keywords,
        )  # fmt: skip
    speaks = not (asked.as_json or asked.quiet)
    if speaks:
        click.echo(paragraph(describe(report), 2))
    written = {}
    if asked.beside.wanted:
        with shown("looking at the result", quiet=asked.quiet, as_json=asked.as_json) as screen:
            written = asked.beside.write(src, Path(dst), report.uncertainty, progress=told(screen))
    if asked.as_json:
        print_json(report.to_dict() | written)
    elif speaks:
        for line in describe_beside(written):
            click.echo(paragraph(line, 2))


def estimate(asked: Asked, src: str, dst: str, uncertainty: Path | None) -> None:
    """Print what a scene would take."""
    from geosegsr.pipeline.dry_run import dry_run

    with shown("measuring a few tiles", as_json=asked.as_json):
        expected = dry_run(asked.request(), src, Path(dst), uncertainty)
    if asked.as_json:
        print_json(expected.to_dict())
        return
    click.echo(
        f"output   {expected.width} x {expected.height} pixels, {expected.bands} bands {expected.dtype}"
    )
    if expected.finished:
        click.echo("work     none: the result is finished")
        return
    again = expected.tiles_computed / expected.tiles
    click.echo(
        f"work     {expected.blocks} blocks, {expected.tiles} tiles, each computed at most {again:.2f} times on average"
    )
    click.echo(f"memory   up to {human_bytes(expected.memory_bytes)}")
    click.echo(f"disk     about {human_bytes(expected.disk_bytes)} while it runs")
    click.echo(f"time     about {human_seconds(expected.seconds)} on this machine")
