"""`rio upscale`: geosegsr upscale as a command of rasterio."""

from __future__ import annotations

import click


@click.command(
    "upscale",
    short_help="Upscale rasters by super-resolution (geosegsr).",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def upscale(arguments: tuple[str, ...]) -> None:
    """As geosegsr upscale, with the same options."""
    from geosegsr_cli.main import main  # rio loads this module for every command of its own

    main(["upscale", *arguments], program="rio")
