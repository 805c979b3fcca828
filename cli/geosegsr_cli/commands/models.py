"""geosegsr models: the available models, and the card of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosegsr_cli.parts.options import json_option, one_line, print_json, verbosity

if TYPE_CHECKING:
    from geosegsr.models.card import ModelCard


@click.command("models", short_help="List the models, or show a checkpoint's card.")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@json_option
def command(file: Path | None, as_json: bool) -> None:
    """List the models that ship with this package, or show the card of the checkpoint FILE."""
    verbosity(quiet=False, verbose=0)
    from geosegsr.models.catalogue import bundled_checkpoints
    from geosegsr.models.checkpoint import read_card

    if file is not None:
        card = read_card(file)
        if as_json:
            print_json(card.to_dict(), indent=2)
        else:
            click.echo("\n".join(_card_lines(card)))
        return
    from geosegsr.models.interpolation import KERNELS

    bundled = {path: read_card(path) for path in bundled_checkpoints()}
    if as_json:
        cards = {str(path): card.to_dict() for path, card in bundled.items()}
        print_json({"interpolation": list(KERNELS), "checkpoints": cards}, indent=2)
        return
    click.echo("Interpolation, any scale and any bands:")
    click.echo("  " + ", ".join(KERNELS))
    click.echo("Checkpoints:" if bundled else "Checkpoints: none ship with this package.")
    for path, card in bundled.items():
        click.echo(f"  {one_line(str(path))}\n    {one_line(_summary(card))}")


def _summary(card: ModelCard) -> str:
    bands = ", ".join(card.band_names)
    return f"{card.name}: x{card.scale}, {card.bands} bands ({bands}), {card.config['unit']} units"


def _card_lines(card: ModelCard) -> list[str]:
    trunk = f"{len(card.config['depths'])} {card.config['unit']} units of width {card.config['width']}"
    tower = "{tower_layers} layers of width {tower_width}, patch {tower_patch}".format(**card.config)
    compat = ", ".join(f"{k} {v}" for k, v in card.config["compat"].items())
    rows: list[tuple[str, Any]] = [
        ("name", card.name),
        ("scale", card.scale),
        (
            "bands",
            f"{card.bands} ({', '.join(card.band_names)}){', and single bands as grey' if card.grey else ''}",
        ),
        ("radiometry", ", ".join(f"{k} {v}" if k != "kind" else str(v) for k, v in card.radiometry.items())),
        ("trunk", trunk),
        ("tower", tower),
        ("compat", compat),
        ("tile", f"{card.tile}, overlap {card.overlap}, halo {card.halo}, multiple of {card.multiple_of}"),
        ("trained on", card.trained_on),
        ("licence", card.licence),
        ("metrics", ", ".join(f"{k} {v}" for k, v in card.metrics.items())),
        ("notes", card.notes),
        ("storage", card.storage),
        ("sha256", card.sha256),
    ]
    return [one_line(f"{name:<11}{value}") for name, value in rows if value != ""]
