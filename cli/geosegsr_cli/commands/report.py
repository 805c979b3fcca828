"""geosegsr report: what a result is worth, as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from geosegsr_cli.parts.options import human_bytes, json_option, one_line, paragraph, print_json, verbosity
from geosegsr_cli.parts.progress import told
from geosegsr_cli.parts.screen import shown

if TYPE_CHECKING:
    from geosegsr.appraisal.report import Appraisal


@click.command("report", short_help="Judge a result by its input, in one HTML file.")
@click.argument("src")
@click.argument("result")
@click.option(
    "-o", "--output", "out", metavar="FILE",
    help="HTML file to write. Default: beside RESULT, with the suffix .html.",
)  # fmt: skip
@click.option(
    "--truth",
    metavar="FILE",
    help="Raster of the same ground at the result's resolution, to measure against.",
)
@click.option(
    "--uncertainty", metavar="FILE",
    help="Uncertainty of the result, as upscale --uncertainty wrote it.",
)  # fmt: skip
@click.option(
    "--model", type=click.Path(path_type=Path), metavar="FILE",
    help="Checkpoint that made RESULT, to show its guidance maps. Default: a bundled one, if it did.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a file that is no report.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
def command(
    src: str,
    result: str,
    out: str | None,
    truth: str | None,
    uncertainty: str | None,
    model: Path | None,
    overwrite: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Judge RESULT by the raster SRC that it was made of, and write a report.

    No truth is needed. The report holds a verdict in words, pictures to compare, and all measures; it needs no network.
    """
    verbosity(quiet, 0)
    from geosegsr.files import temporary_folder

    click.get_current_context().with_resource(temporary_folder())  # torch wants one as soon as it is loaded
    with shown("judging the result", quiet=quiet, as_json=as_json) as screen:
        from geosegsr.appraisal.report import report

        made = report(
            src, result, out,
            truth=truth, uncertainty=uncertainty, model=model, overwrite=overwrite, progress=told(screen),
        )  # fmt: skip
    if as_json:
        print_json(made.to_dict())
    elif not quiet:
        say(made)


def say(made: Appraisal) -> None:
    """The verdict, and where the report is."""
    from geosegsr.evaluation.table import counted

    click.echo(paragraph(made.verdict.headline))
    for finding in made.verdict.findings:
        if finding.grade != "good":
            click.echo(paragraph(f"  {finding}", 2))
    click.echo(
        one_line(
            f"{made.path}: {counted(made.places, 'place')}, {human_bytes(made.bytes)}. Open it in a browser."
        )
    )
