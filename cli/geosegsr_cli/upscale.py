"""geosegsr upscale: one scene in, one COG out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from geosegsr_cli.options import BandList, KeyValue, Scale, human_bytes, human_seconds, json_option, verbosity
from geosegsr_cli.progress import ProgressLine


@click.command("upscale", short_help="Enlarge a scene into a COG on the same ground.")
@click.argument("src")
@click.option(
    "-o", "--output", "dst", required=True, type=click.Path(path_type=Path), help="The COG to write."
)
@click.option("-s", "--scale", type=Scale(), default=4, show_default=True, help="2, 3, 4 or 8.")
@click.option(
    "-m", "--model", default="bicubic", show_default=True,
    help="nearest, bilinear, bicubic, lanczos, or a .safetensors file.",
)  # fmt: skip
@click.option("-b", "--bands", type=BandList(), help="Bands to use, in this order: 1,2,3. Default: all.")
@click.option(
    "--other-bands", type=click.Choice(["model", "bicubic", "drop"]),
    help="Bands beyond the model's: one at a time through it, interpolated, or left out.",
)  # fmt: skip
@click.option("--nodata", type=float, help="Value of pixels without data. Default: as the file says.")
@click.option(
    "--alpha", type=click.Choice(["auto", "mask", "image"]), default="auto", show_default=True,
    help="What a band tagged alpha is; auto looks at its values.",
)  # fmt: skip
@click.option(
    "--range", "range_", type=float, nargs=2, metavar="LO HI",
    help="DN that a trained model sees as 0 and 1. Default: from dtype, declared scale or percentiles.",
)  # fmt: skip
@click.option("--tile", type=int, help="Side of a tile, in input pixels. Default: the model's.")
@click.option("--overlap", type=int, help="Pixels that neighbouring tiles share. Default: the model's.")
@click.option("--block", type=int, help="Side of an output block, in output pixels. Default: 2048.")
@click.option("--aoi", metavar="FILE|WKT", help="Area of interest: polygons; what lies outside is masked.")
@click.option("--bbox", type=float, nargs=4, metavar="W S E N", help="Area of interest as a box.")
@click.option("--aoi-crs", help="CRS of --aoi or --bbox. Default: the file's own; else the scene's.")
@click.option("--window", type=int, nargs=4, metavar="COL ROW W H", help="Area of interest in input pixels.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
    help="Arithmetic of a trained model.",
)  # fmt: skip
@click.option("--workers", type=int, help="Worker processes on this machine. Default: threads of one.")
@click.option("--scheduler", metavar="ADDRESS", help="Dask scheduler to work on, such as tcp://host:8786.")
@click.option(
    "--co", "creation", type=KeyValue(), multiple=True, help="Creation option of GDAL's COG driver."
)
@click.option("--overwrite", is_flag=True, help="Replace an existing output once the new one is verified.")
@click.option(
    "--no-resume", is_flag=True, help="Discard an unfinished run of this output instead of going on."
)
@click.option("--dry-run", is_flag=True, help="Only print what it would take.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", count=True, help="Say more; twice for all.")
def command(
    src: str,
    dst: Path,
    scale: int,
    model: str,
    creation: tuple[tuple[str, str], ...],
    workers: int | None,
    scheduler: str | None,
    overwrite: bool,
    no_resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    range_: tuple[float, float] | None,
    **options: Any,
) -> None:
    """Enlarge the raster SRC into a Cloud-Optimized GeoTIFF on the same ground.

    SRC is a path or anything GDAL opens. A run that was interrupted goes on when the same command is given
    again.
    """
    verbosity(quiet, verbose)
    options["range"] = range_
    if dry_run:
        _dry_run(src, dst, scale, model, options, as_json=as_json)
        return
    from geosegsr.upscale import upscale

    line = ProgressLine()
    try:
        report = upscale(
            src,
            dst,
            scale,
            model,
            workers=workers,
            scheduler=scheduler,
            creation=dict(creation),
            overwrite=overwrite,
            resume=not no_resume,
            progress=None if quiet else line,
            **options,
        )
    finally:
        line.close()
    if as_json:
        click.echo(json.dumps(report.to_dict()))
    elif not quiet:
        click.echo(
            f"{report.path}: {report.width} x {report.height} pixels, {report.bands} "
            f"band{'' if report.bands == 1 else 's'} {report.dtype}, {human_bytes(report.bytes)}, "
            f"in {human_seconds(report.seconds['total'])}"
        )


def _dry_run(src: str, dst: Path, scale: int, model: str, options: dict[str, Any], *, as_json: bool) -> None:
    from geosegsr.estimate import estimate
    from geosegsr.runplan import plan
    from geosegsr.scratch import temporary_folder

    with temporary_folder(dst.parent):
        expected = estimate(plan(src, scale, model, **options))
    if as_json:
        click.echo(json.dumps(expected.to_dict()))
        return
    again = expected.tiles_computed / expected.tiles
    click.echo(
        f"output   {expected.width} x {expected.height} pixels, {expected.bands} bands {expected.dtype}"
    )
    click.echo(
        f"work     {expected.blocks} blocks, {expected.tiles} tiles, computed {again:.2f} times on average"
    )
    click.echo(f"memory   up to {human_bytes(expected.memory_bytes)}")
    click.echo(f"disk     about {human_bytes(expected.disk_bytes)} while it runs")
    click.echo(f"time     about {human_seconds(expected.seconds)} on this machine")
