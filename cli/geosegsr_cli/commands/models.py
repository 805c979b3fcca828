"""geosegsr models: the available models, and the card of a checkpoint."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosegsr_cli.parts.options import json_option, one_line, print_json, verbosity

if TYPE_CHECKING:
    from geosegsr.models.card import ModelCard

_WIDTH = 80
_BUNDLED = "any scene; its sensor decides between two networks"
_INTERPOLATIONS = {
    "nearest": "classes, masks, palettes",
    "bilinear": "smooth fields; never leaves the input's range",
    "bicubic": "images, where no detail may be guessed",
    "lanczos": "as bicubic, sharper, rings at edges",
}


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
    for line in _table(bundled):
        click.echo(one_line(line))


def _table(bundled: Mapping[Path, ModelCard]) -> list[str]:
    """The models, what they gain, when to use them, and what they were trained on."""
    rows = [("model", "scale", "dB over bicubic", "when to use")]
    rows += [("bundled", f"x{card.scale}", _gains(card), _BUNDLED) for card in bundled.values()]
    rows += [(name, "any", "0" if name == "bicubic" else "", use) for name, use in _INTERPOLATIONS.items()]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    lines = [
        "".join(cell.ljust(width) for cell, width in zip(row, (*widths, 0), strict=True)) for row in rows
    ]
    trained: dict[str, list[str]] = {}
    for card in bundled.values():
        trained.setdefault(card.trained_on, []).append(f"x{card.scale}")
    for data, scales in trained.items():
        lines += ["", f"Trained on, {', '.join(scales)}:"]
        lines += textwrap.wrap(data, _WIDTH, initial_indent="  ", subsequent_indent="  ")
    folders = sorted({str(path.parent) for path in bundled})
    return [*lines, "", f"Files: {', '.join(folders)}", "A model's whole card: geosegsr models FILE"]


def _gains(card: ModelCard) -> str:
    """The least and the greatest gain in PSNR over bicubic, among the test sets of a card."""
    gains = [
        row["psnr"] - row["psnr_bicubic"]
        for row in card.metrics.values()
        if isinstance(row, dict) and {"psnr", "psnr_bicubic"} <= row.keys()
    ]
    return f"{min(gains):+.1f} to {max(gains):+.1f}" if gains else ""


def _card_lines(card: ModelCard) -> list[str]:
    network = _network_lines(card) if card.architecture == "segsr" else [("network", card.architecture)]
    rows: list[tuple[str, Any]] = [
        ("name", card.name),
        ("scale", card.scale),
        (
            "bands",
            f"{card.bands} ({', '.join(card.band_names)}){', and single bands as grey' if card.grey else ''}",
        ),
        ("radiometry", ", ".join(f"{k} {v}" if k != "kind" else str(v) for k, v in card.radiometry.items())),
        *network,
        ("tile", f"{card.tile}, overlap {card.overlap}, halo {card.halo}, multiple of {card.multiple_of}"),
        ("trained on", card.trained_on),
        ("licence", card.licence),
        ("metrics", ", ".join(f"{k} {v}" for k, v in card.metrics.items())),
        ("notes", card.notes),
        ("storage", card.storage),
        ("sha256", card.sha256),
    ]
    return [one_line(f"{name:<11}{value}") for name, value in rows if value != ""]


def _network_lines(card: ModelCard) -> list[tuple[str, Any]]:
    trunk = f"{len(card.config['depths'])} {card.config['unit']} units of width {card.config['width']}"
    tower = "{tower_layers} layers of width {tower_width}, patch {tower_patch}".format(**card.config)
    compat = ", ".join(f"{k} {v}" for k, v in card.config["compat"].items())
    return [("trunk", trunk), ("tower", tower), ("compat", compat)]
