"""geosegsr info: the metadata of a scene, and what upscale would assume about it."""

from __future__ import annotations

from typing import Any

import click

from geosegsr_cli.parts.options import Nodata, band_kind_option, json_option, paragraph, print_json, verbosity
from geosegsr_cli.parts.screen import shown


@click.command("info", short_help="Show a scene's metadata and what upscale would assume.")
@click.argument("file")
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
    "--sensor",
    is_flag=True,
    help="Estimate how the scene was imaged, as upscale does at x4. Takes some seconds.",
)
@json_option
def command(file: str, nodata: Any, band_kinds: Any, alpha: Any, sensor: bool, as_json: bool) -> None:
    """Show the metadata of the raster FILE, and what upscale would assume about it.

    FILE may be a product, such as a Sentinel-2 .SAFE folder: its parts are listed first.
    """
    verbosity(quiet=False, verbose=0)
    from geosegsr.raster.describe import describe

    with shown("reading the file", as_json=as_json):
        facts = describe(file, nodata=nodata, alpha=alpha, band_kinds=band_kinds)
    if sensor and "bands" in facts:
        with shown("estimating the sensor", as_json=as_json):
            facts["sensor"] = _sensor(file, nodata=nodata, alpha=alpha, band_kinds=band_kinds)
    if as_json:
        print_json(facts)
        return
    for name, value in [*_parts(facts), *(_lines(facts) if "bands" in facts else ())]:
        click.echo(paragraph(f"{name:<11}{value}", 11))


def _sensor(file: str, **options: Any) -> str:
    """What upscale would take for the sensor; loads torch."""
    from geosegsr.pipeline.plan import plan

    return plan(file, **options).sensing.describe()


def _parts(facts: dict[str, Any]) -> list[tuple[str, str]]:
    """One line for each raster that a source holds, with the name to pass to upscale."""
    return [
        (
            "part",
            f"{part['source']}: {', '.join(part['bands'][:16])}{', ...' if len(part['bands']) > 16 else ''}; "
            f"{part['width']} x {part['height']} pixels of {part['pixel_size'][0]:g}",
        )
        for part in facts["parts"]
    ]


def _lines(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows, cols = facts["block_shape"]
    count = len(facts["bands"])
    overviews = ", ".join(map(str, facts["overviews"])) or "none"
    lines = [
        ("file", f"{facts['path']} ({facts['driver']})"),
        (
            "size",
            f"{facts['width']} x {facts['height']} pixels, {count} band{'' if count == 1 else 's'} {facts['dtype']}",
        ),
        ("layout", f"blocks of {cols} x {rows}, overviews {overviews}"),
        ("place", _place(facts)),
        ("mask", f"{', '.join(facts['mask']) or 'none'}; {facts['valid_share']:.1%} valid in a sample"),
        ("range", f"{facts['value_range']}, unless the model's card says otherwise"),
    ]
    if "sensor" in facts:
        lines.append(("sensor", facts["sensor"]))
    lines += [(f"band {band['index']}", _band(band)) for band in facts["bands"]]
    lines += [("note", line) for line in facts["intake"]]
    if facts["alpha_looks_like_image"]:
        lines.append(
            ("note", "the band tagged alpha looks like an image, such as near infrared; see --alpha")
        )
    if facts["white_is_zero"]:
        lines.append(
            ("note", "0 is shown as white (MINISWHITE); a result shows it as black, with the same values")
        )
    if facts["shown"]:
        lines.append(
            (
                "note",
                f"shown {facts['shown']} by its EXIF orientation; a result keeps its pixels as they are stored",
            )
        )
    return lines


def _place(facts: dict[str, Any]) -> str:
    if facts["gcps"]:
        text = f"{facts['gcps']} ground control points in {facts['gcps_crs'] or 'no CRS'}"
    elif facts["transform"]:
        text = (
            f"{facts['crs'] or 'no CRS'}, pixels of {facts['resolution'][0]:g} x {facts['resolution'][1]:g}"
        )
        if facts["transform"][2] or facts["transform"][4]:
            text += ", rotated"
    else:
        text = facts["crs"] or "no CRS and no geotransform"
    return text + (", RPCs" if facts["rpcs"] else "")


def _band(band: dict[str, Any]) -> str:
    parts = [band["role"], band["colour"]]
    if band["description"]:
        parts.append(band["description"])
    if band["scale"] != 1 or band["offset"] != 0:
        parts.append(f"value = {band['scale']:g} * DN + {band['offset']:g} {band['unit'] or ''}".rstrip())
    return ", ".join(parts)
