"""geosegsr upscale: one scene or many in, COGs out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from geosegsr import files
from geosegsr.cpu import keep_freed_memory, start_with_one_blas_thread
from geosegsr.stores.address import address_of
from geosegsr_cli.parts import batch, single
from geosegsr_cli.parts.asked import Asked
from geosegsr_cli.parts.beside import Beside, beside_options
from geosegsr_cli.parts.foreign import foreign_options, opened
from geosegsr_cli.parts.groups import GroupedCommand
from geosegsr_cli.parts.options import (
    BandList,
    KeyValue,
    NameList,
    Nodata,
    Scale,
    band_kind_option,
    json_option,
    verbosity,
)
from geosegsr_cli.parts.screen import shown

if TYPE_CHECKING:
    from geosegsr.pipeline.batch import OnError, Unsuitable
    from geosegsr.workers.scheduler import Scheduler


_GROUPS = {
    "Result": ("--output", "--scale", "--model", "--uncertainty", "--separate", "--stac", "--datetime", "--co"),
    "Look and judge": ("--preview", "--report"),
    "Several scenes": ("--from-file", "--name", "--exclude", "--on-error", "--unsuitable"),
    "What the scene holds": (
        "--bands", "--groups", "--other-bands", "--nodata", "--band-kind", "--alpha", "--range", "--sensor", "--guide",
    ),
    "Area of interest": ("--aoi", "--bbox", "--aoi-crs", "--window"),
    "How it is computed": ("--consistency", "--ensemble", "--tile", "--overlap", "--block", "--device", "--precision",
        "--model-range", "--trust-model"),
    "Workers": (
        "--workers", "--scheduler", "--scheduler-ca", "--scheduler-cert", "--scheduler-key",
    ),
    "Run": ("--scratch", "--overwrite", "--no-resume", "--dry-run"),
}  # fmt: skip


@click.command(
    "upscale", cls=GroupedCommand, groups=_GROUPS, short_help="Upscale scenes into COGs on the same ground."
)
@click.argument("src", nargs=-1)
@click.option(
    "-o", "--output", "dst",
    help="COG to write; required: a path, or s3://BUCKET/KEY, gs://... or az://... For several scenes: an existing "
    "folder, or a name that ends in /.",
)  # fmt: skip
@click.option(
    "--from-file", "listed", type=click.File(encoding="utf-8-sig", errors="surrogateescape"), metavar="LIST",
    help="File with one scene per line; - reads standard input.",
)  # fmt: skip
@click.option(
    "--name", "pattern",
    help="Name of each result in a folder. Fields: {stem}, {parent}, {scale}, {model}. "
    "Default: {stem}_x{scale}.tif.",
)  # fmt: skip
@click.option(
    "--on-error", type=click.Choice(["skip", "stop"]),
    help="When a scene fails: skip it (default) or stop.",
)  # fmt: skip
@click.option(
    "--exclude", multiple=True, metavar="PATTERN",
    help="Scenes to leave out, such as '*_mask.tif' or 'old/*'; may be repeated.",
)  # fmt: skip
@click.option(
    "--unsuitable", type=click.Choice(["skip", "fail"]),
    help="When a scene is of a kind that cannot be upscaled, such as classes: leave it out, or fail (default).",
)  # fmt: skip
@click.option(
    "-s", "--scale", type=Scale(unchanged=True), default=4, show_default=True,
    help="Upscaling factor: 2, 3, 4 or 8; 1 stops at the grid of --guide, or of a product's sharpest bands.",
)  # fmt: skip
@click.option(
    "--guide", type=click.Path(path_type=Path), metavar="FILE",
    help="Sharper raster of the same ground, by which SRC is first sharpened to its grid.",
)  # fmt: skip
@click.option(
    "-m", "--model", default="bundled", show_default=True,
    help="bundled (pretrained), nearest, bilinear, bicubic, lanczos, a .safetensors file, or a network of another "
    "project: .pth, .onnx, .pt, .pt2.",
)  # fmt: skip
@foreign_options
@click.option(
    "-b",
    "--bands",
    type=BandList(named=True),
    help="Bands to use, in this order: 1,2,3, or by name: B11,B8A. Default: all.",
)
@click.option(
    "--groups", type=NameList(), help="Parts of a product to use, by pixel size: 10m,20m. Default: all."
)
@click.option(
    "--other-bands", type=click.Choice(["model", "bicubic", "drop"]),
    help="Bands the model was not trained on: run each through the model as grey (default), interpolate, or drop.",
)  # fmt: skip
@click.option(
    "--nodata", type=Nodata(), metavar="V|auto",
    help="Value of pixels without data; auto finds it along the border. Default: as declared by the file.",
)  # fmt: skip
@band_kind_option
@click.option(
    "--alpha", type=click.Choice(["auto", "mask", "image"]), default="auto", show_default=True,
    help="How to treat a band tagged alpha; auto decides by its values.",
)  # fmt: skip
@click.option(
    "--range", "value_range", type=float, nargs=2, metavar="LO HI",
    help="DN that a trained model sees as 0 and 1. Default: as the model's card says.",
)  # fmt: skip
@click.option("--tile", type=int, help="Side of a tile, in input pixels. Default: the model's.")
@click.option(
    "--overlap", type=int, help="Overlap of neighbouring tiles, in input pixels. Default: the model's."
)
@click.option(
    "--block", type=int,
    help="Side of an output block, in output pixels. Default: 2048, or 1024 for small scenes.",
)  # fmt: skip
@click.option("--aoi", metavar="FILE|WKT", help="Area of interest: polygons; pixels outside are masked.")
@click.option("--bbox", type=float, nargs=4, metavar="W S E N", help="Area of interest: a bounding box.")
@click.option("--aoi-crs", help="CRS of --aoi or --bbox. Default: the file's own, else the scene's.")
@click.option(
    "--window",
    type=int,
    nargs=4,
    metavar="COL ROW W H",
    help="Area of interest: a window in input pixels; with --guide, in pixels of the guide's size.",
)
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), default="auto", show_default=True,
    help="Arithmetic of a trained model.",
)  # fmt: skip
@click.option(
    "--sensor", default="auto", show_default=True, metavar="auto|bicubic|FILE",
    help="How SRC was imaged: auto estimates blur, noise and compression; bicubic is sharp and clean; or a TOML file.",
)  # fmt: skip
@click.option(
    "--consistency/--no-consistency", default=None,
    help="Adjust the result so that downsampling it reproduces SRC. "
    "Default: where SRC was imaged as the model's training images were.",
)  # fmt: skip
@click.option(
    "--ensemble", is_flag=True, help="Average over the 8 flips and rotations of each tile; 8 times slower."
)
@click.option(
    "--uncertainty", type=click.Path(path_type=Path), metavar="FILE",
    help="Second COG to write: standard deviation over the ensemble, in DN. Needs --ensemble.",
)  # fmt: skip
@click.option(
    "--workers", type=int, help="Worker processes on this machine. Default: threads of one process."
)
@click.option(
    "--scheduler", metavar="ADDRESS",
    help="Dask scheduler to run on, such as tls://host:8786. Work travels as pickles: whoever controls the scheduler "
    "can run any program here and on the workers.",
)  # fmt: skip
@click.option(
    "--scheduler-ca", type=click.Path(), metavar="FILE",
    help="TLS: certificate of the authority that signed the scheduler's. Default: as Dask's configuration says.",
)  # fmt: skip
@click.option("--scheduler-cert", type=click.Path(), metavar="FILE", help="TLS: certificate of this client.")
@click.option(
    "--scheduler-key", type=click.Path(), metavar="FILE",
    help="TLS: key of --scheduler-cert, unless that file holds it, too.",
)  # fmt: skip
@click.option(
    "--co", "creation", type=KeyValue(), multiple=True,
    help="Creation option of GDAL's COG driver; may be repeated.",
)  # fmt: skip
@click.option(
    "--separate", is_flag=True,
    help="Write each band to a COG of its own, named after it: out_B02.tif, out_B03.tif and so on for -o out.tif.",
)  # fmt: skip
@beside_options
@click.option(
    "--stac",
    is_flag=True,
    help="Write a STAC item beside each COG, with the suffix .json, and two pictures for it.",
)
@click.option(
    "--datetime", "acquired", metavar="TIME[/TIME]",
    help="Acquisition time for the STAC item. Default: from the scene's tags or name.",
)  # fmt: skip
@click.option(
    "--scratch", type=click.Path(path_type=Path), metavar="FOLDER|URL",
    help="Folder in which results for an object store are made. Default: one of yours in the temporary folder. "
    "Or a prefix such as s3://BUCKET/PREFIX for the blocks of a run, so that workers need no shared folder.",
)  # fmt: skip
@click.option(
    "--overwrite", is_flag=True,
    help="Replace an existing file from another source, model or options, once the new one is verified.",
)  # fmt: skip
@click.option(
    "--no-resume", is_flag=True,
    help="Discard an unfinished run. With --overwrite, recompute a finished result, too.",
)  # fmt: skip
@click.option(
    "--dry-run", is_flag=True, help="Only check, and print the expected size, memory, disk space and time."
)
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", count=True, help="Increase verbosity; -vv for debug output.")
def command(
    src: tuple[str, ...],
    dst: str | None,
    listed: TextIO | None,
    pattern: str | None,
    on_error: OnError | None,
    exclude: tuple[str, ...],
    unsuitable: Unsuitable | None,
    scale: int,
    model: str,
    creation: tuple[tuple[str, str], ...],
    workers: int | None,
    scheduler: str | None,
    scheduler_ca: str | None,
    scheduler_cert: str | None,
    scheduler_key: str | None,
    stac: bool,
    acquired: str | None,
    scratch: Path | None,
    overwrite: bool,
    no_resume: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
    verbose: int,
    uncertainty: Path | None,
    trust_model: bool,
    model_range: tuple[float, float] | None,
    preview_name: str | None,
    report_name: str | None,
    **pixels: Any,
) -> None:
    """Upscale the raster SRC into a Cloud-Optimized GeoTIFF on the same ground.

    SRC is a path, a Sentinel-2 or Landsat product, or anything GDAL opens. Re-run the same command to resume an interrupted run. A finished result is
    left untouched.

    Several SRC, a folder, a quoted pattern such as "in/**/*.tif", or a list are written to a folder. Each scene is
    treated as if it were upscaled alone.
    """
    verbosity(quiet, verbose)
    start_with_one_blas_thread()
    keep_freed_memory(of_any_size=True)
    dst = _named_output(dst, src)
    with shown("finding the scenes", quiet=quiet, as_json=as_json):  # this loads GDAL
        is_batch = batch.is_folder(dst) or not batch.is_one_file(src, listed)
    _refuse_misplaced(dst, is_batch, uncertainty, pattern or on_error or exclude or unsuitable)
    network = opened(
        model, trust_model=trust_model, model_range=model_range,
        device=pixels["device"], precision=pixels["precision"],
    )  # fmt: skip
    asked = Asked(
        scale=scale,
        model=network,
        pixels=pixels,
        files={
            "creation": dict(creation),
            "stac": stac,
            "acquired": acquired,
            "overwrite": overwrite,
            "resume": not no_resume,
        },
        workers=workers,
        scheduler=_scheduler(scheduler, scheduler_ca, scheduler_cert, scheduler_key),
        scratch=scratch,
        beside=Beside(preview_name, report_name, overwrite),
        as_json=as_json,
        quiet=quiet,
    )
    if not is_batch:
        asked.beside.check([(src[0], Path(dst))], several=False, separate=asked.separate)
        (single.estimate if dry_run else single.run_single)(asked, src[0], dst, uncertainty)
        return
    with shown("finding the scenes", quiet=quiet, as_json=as_json):
        scenes = batch.scenes_of(
            src, listed, dst, pattern, exclude=exclude, scale=scale, model=model, separate=asked.separate
        )
    asked.beside.check(scenes, several=True, separate=asked.separate)
    if dry_run:
        well = batch.estimate(asked, scenes, unsuitable or "fail")
    else:
        well = batch.run_batch(asked, scenes, on_error or "skip", unsuitable or "fail")
    click.get_current_context().exit(0 if well else 1)


def _named_output(dst: str | None, src: tuple[str, ...]) -> str:
    if dst is None:
        meant = len(src) > 1 and not files.exists(src[-1]) and not src[-1].startswith("-")
        raise click.UsageError(
            f"Missing option '-o'. Did you mean -o {src[-1]}?" if meant
            else "Missing option '-o'. Pass -o FILE.tif, or -o FOLDER/ for several scenes."
        )  # fmt: skip
    if not dst:
        raise click.UsageError(
            "-o is empty. Pass a file or a folder for the result. Is a shell variable unset?"
        )
    address_of(dst)  # refuses a key that pathlib would change
    return dst


def _refuse_misplaced(dst: str, is_batch: bool, uncertainty: Path | None, for_folders: object) -> None:
    if is_batch and uncertainty is not None:
        raise click.UsageError("--uncertainty names one file. Pass it with a single SRC and -o FILE.")
    if not is_batch and for_folders:
        raise click.UsageError(
            f"--name, --exclude, --unsuitable and --on-error need a folder, and '{dst}' is not one. Leave them out, or pass -o FOLDER/."
        )


def _scheduler(address: str | None, *files: str | None) -> Scheduler | None:
    if address is None:
        if any(files):
            raise click.UsageError(
                "--scheduler-ca, --scheduler-cert and --scheduler-key are for a scheduler. Pass --scheduler, too."
            )
        return None
    from geosegsr.workers.scheduler import Scheduler

    return Scheduler(address, *files)
