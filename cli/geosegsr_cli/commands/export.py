"""geosegsr export: a model as an ONNX file."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from geosegsr_cli.parts.options import Scale, human_bytes, json_option, one_line, print_json, verbosity
from geosegsr_cli.parts.screen import shown

_SCALE = 4


@click.command("export", short_help="Write a model as an ONNX file, for other programs.")
@click.argument("model")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help=".onnx file to write.")
@click.option(
    "-s",
    "--scale",
    type=Scale(),
    help="Of the bundled model: 2, 3, 4 or 8. Default: 4, or the checkpoint's own.",
)
@click.option(
    "--sensor", default="bicubic", show_default=True, metavar="bicubic|FILE",
    help="How the scenes were imaged, for a model that can be told: bicubic is sharp and clean; or a TOML file.",
)  # fmt: skip
@click.option(
    "--tile", type=click.IntRange(1, 4096),
    help="Side of the input and one image at a time, as Deepness needs. Default: any size, any batch.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
@json_option
def command(
    model: str,
    output: Path,
    scale: int | None,
    sensor: str,
    tile: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Write MODEL, "bundled" or a .safetensors file, as an ONNX file.

    The file takes and returns values of 0 to 1, as the model's card says, in float32. It is compared with the model
    before it appears. Tiling, value range, nodata and georeference are up to the program that runs it.
    """
    verbosity(quiet=False, verbose=0)
    from geosegsr.files import temporary_folder

    context = click.get_current_context()
    context.with_resource(temporary_folder(output.absolute().parent))
    screen = context.with_resource(shown("exporting", as_json=as_json))
    from geosegsr.models.catalogue import bundled_checkpoint, load_upscaler, located
    from geosegsr.models.contract import BUNDLED
    from geosegsr.models.onnx import export_onnx, require_packages
    from geosegsr.sensor.descriptor import SensorDescriptor

    require_packages()
    path = bundled_checkpoint(scale or _SCALE) if model == BUNDLED else Path(str(located(model)))
    upscaler = load_upscaler(path, device="cpu", precision="fp32")
    if scale not in (None, upscaler.facts.scale):
        raise click.UsageError(f"'{model}' has a scale of {upscaler.facts.scale}. Leave out --scale.")
    told = SensorDescriptor.load(sensor, upscaler.facts.scale).numbers
    found = export_onnx(upscaler, output, descriptor=told, tile=tile, overwrite=overwrite)
    screen.close()
    if as_json:
        print_json(asdict(found))
        return
    click.echo(
        one_line(
            f"Wrote {found.path} ({human_bytes(found.bytes)}): '{found.name}', x{found.scale}, {found.bands} bands, "
            f"within {found.largest_difference:.1e} of the model."
        )
    )
