"""geosegsr evaluate: scores of a model or of a finished file, beside those of bicubic interpolation."""

from __future__ import annotations

from pathlib import Path

import click

from geosegsr_cli.parts.foreign import foreign_options, opened
from geosegsr_cli.parts.groups import GroupedCommand
from geosegsr_cli.parts.options import BandList, Places, Scale, json_option, one_line, print_json, verbosity
from geosegsr_cli.parts.screen import shown

_GROUPS = {
    "Images": ("--hr", "--lr", "--degradation", "--warp", "--bands", "--range"),
    "Model": (
        "--model",
        "--scale",
        "--device",
        "--precision",
        "--sensor",
        "--consistency",
        "--ensemble",
        "--model-range",
        "--trust-model",
    ),
    "Measures": ("--border", "--tile", "--overlap", "--by-band", "--picture"),
}


@click.command(
    "evaluate",
    cls=GroupedCommand,
    groups=_GROUPS,
    short_help="Score a model or a result against reference images.",
)
@click.argument("sr", required=False, type=click.Path(path_type=Path))
@click.option(
    "-m",
    "--model",
    help="bundled, a .safetensors file, nearest, bilinear, bicubic, lanczos, or a network as for upscale.",
)
@foreign_options
@click.option(
    "--hr",
    type=Places(),
    multiple=True,
    required=True,
    metavar="DIR|GLOB|FILE",
    help="Reference (hr) images; may be repeated.",
)
@click.option(
    "--lr",
    type=Places(),
    multiple=True,
    metavar="DIR|GLOB|FILE",
    help="Real lr images. Default: downsampled from --hr.",
)
@click.option(
    "-s", "--scale", type=Scale(), help="2, 3, 4 or 8. Default: that of the model or file; 4 for bundled."
)
@click.option(
    "--degradation",
    metavar="NAME|FILE",
    help="Degradation from hr to lr: bicubic, box, or a TOML file. Default: the model's.",
)
@click.option(
    "-b",
    "--bands",
    type=BandList(),
    help="Bands to use, in this order: 1,2,3. Default: those that the model takes.",
)
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LO HI",
    help="DN that count as 0 and 1. Default: as for upscale.",
)
@click.option(
    "--warp",
    is_flag=True,
    help="Resample --hr onto the grid of SR, also from another CRS, by cubic convolution.",
)
@click.option("--border", type=int, help="Pixels to ignore at each edge. Default: the scale.")
@click.option(
    "--tile", type=int, help="Tile side of SR, in lr pixels, for the seam score. Default: from its tags."
)
@click.option("--overlap", type=int, help="Tile overlap of SR, in lr pixels. Default: from its tags.")
@click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32", "bf16", "fp16"]),
    default="auto",
    show_default=True,
    help="Arithmetic of a trained model.",
)
@click.option(
    "--sensor", default="auto", show_default=True, metavar="auto|bicubic|FILE",
    help="How lr was imaged, for a model that can be told. As for upscale.",
)  # fmt: skip
@click.option("--consistency/--no-consistency", default=None, help="As for upscale. Default: as for upscale.")
@click.option("--ensemble", is_flag=True, help="As for upscale.")
@click.option(
    "--picture",
    type=click.Path(path_type=Path),
    help="PNG to write, with lr, bicubic, sr and hr side by side.",
)
@click.option("--by-band", is_flag=True, help="Print a row for each band, too.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Suppress warnings and progress.")
def command(
    sr: Path | None,
    model: str | None,
    hr: tuple[str, ...],
    lr: tuple[str, ...],
    scale: int | None,
    degradation: str | None,
    bands: tuple[int, ...] | None,
    value_range: tuple[float, float] | None,
    warp: bool,
    border: int | None,
    tile: int | None,
    overlap: int | None,
    device: str,
    precision: str,
    sensor: str,
    consistency: bool | None,
    ensemble: bool,
    picture: Path | None,
    by_band: bool,
    as_json: bool,
    quiet: bool,
    trust_model: bool,
    model_range: tuple[float, float] | None,
) -> None:
    """Score a model on a folder (--model M --hr DIR), or a finished file (SR.tif --hr HR.tif).

    Bicubic interpolation is scored beside it. Each subfolder of --hr gets its own row; its images may differ in bands.
    """
    verbosity(quiet, 0)
    if (sr is None) == (model is None):
        raise click.UsageError("Pass either a file SR or --model M, not both.")
    from geosegsr.files import temporary_folder

    click.get_current_context().with_resource(temporary_folder())  # torch wants one as soon as it is loaded
    screen = click.get_current_context().with_resource(
        shown("reading the images", quiet=quiet, as_json=as_json)
    )
    from geosegsr.evaluation import evaluate
    from geosegsr.evaluation.table import table

    if sr is not None:
        if len(hr) != 1 or len(lr) > 1:
            raise click.UsageError("A file SR is compared with a single --hr and at most one --lr.")
        found = evaluate.evaluate_file(
            sr, hr[0], lr[0] if lr else None, scale=scale, tile=tile, overlap=overlap, value_range=value_range,
            border=border, picture=picture, warp=warp,
        )  # fmt: skip
    else:
        if warp:
            raise click.UsageError("--warp is for a file SR. Pairs of a model are aligned without it.")
        from geosegsr.sensor.degradation import Degradation

        assert model is not None
        network = opened(
            model, trust_model=trust_model, model_range=model_range, device=device, precision=precision
        )
        found = evaluate.evaluate_model(
            network, hr, lr, scale=scale, degradation=None if degradation is None else Degradation.load(degradation),
            bands=bands or (), value_range=value_range, border=border, device=device, precision=precision,
            sensor=sensor, consistency=consistency, ensemble=ensemble,
            picture=picture, progress=lambda done, total: screen.show("", f"{done}/{total} images", done / total),
        )  # fmt: skip
    screen.close()
    if as_json:
        print_json(found.to_dict())
        return
    for line in table(found, by_band=by_band).split("\n"):
        click.echo(one_line(line))
