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

_WIDTH, _INDENT = 80, 12
_ADD = "add"
_BUNDLED = "any scene: sharp or blurred, clean or noisy"
_INTERPOLATIONS = {
    "nearest": "classes, masks, palettes",
    "bilinear": "smooth fields; never leaves the input's range",
    "bicubic": "images, where no detail may be guessed",
    "lanczos": "as bicubic, sharper, rings at edges",
}


@click.command("models", short_help="List the models, show a checkpoint's card, or add a model.")
@click.argument("words", nargs=-1, metavar="[MODEL | add SOURCE]")
@click.option(
    "--name", metavar="NAME", help="With add: what --model shall call it. Default: the name of the file."
)
@click.option(
    "--sha256", metavar="HEX", help="With add: the checksum that the file must have. Default: not checked."
)
@click.option(
    "--stac",
    type=click.Path(path_type=Path),
    metavar="FILE.json",
    help="With MODEL: write its card as a STAC item, too. Default: none.",
)
@click.option("--overwrite", is_flag=True, help="With --stac: replace a file that is no item of a model.")
@json_option
def command(
    words: tuple[str, ...],
    name: str | None,
    sha256: str | None,
    stac: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """List the models, show the card of MODEL, or add a model for --model NAME.

    MODEL is a checkpoint, or the name of a model that was added. SOURCE is a checkpoint, an address, or
    hf:OWNER/NAME on Hugging Face; its checksums are checked. GEOSEGSR_MODELS is the folder of added models.
    """
    verbosity(quiet=False, verbose=0)
    from geosegsr.models.catalogue import bundled_checkpoints, located
    from geosegsr.models.checkpoint import read_card
    from geosegsr.models.library import add_model, library_models

    adds = len(words) == 2 and words[0] == _ADD
    if len(words) > 1 + adds or (words == (_ADD,)) or (not adds and (name or sha256)):
        raise click.UsageError("Pass nothing, a MODEL, or add SOURCE with its --name and --sha256.")
    if stac is not None and (adds or not words):
        raise click.UsageError("--stac writes the card of one MODEL. Pass its name or file.")
    if adds:
        path = add_model(words[1], name=name, sha256=sha256)
        if as_json:
            print_json({str(path): read_card(path).to_dict()}, indent=2)
        else:
            click.echo(one_line(str(path)))
            click.echo(f"Use it: geosegsr upscale SCENE -o RESULT --model {path.stem}")
        return
    if words:
        path = Path(str(located(words[0])))
        card = read_card(path)
        if stac is not None:
            from geosegsr.models.stac import write_model_item

            write_model_item(path, stac, overwrite=overwrite)
        if as_json:
            print_json(card.to_dict(), indent=2)
        else:
            click.echo("\n".join(_card_lines(card)))
            if stac is not None:
                click.echo(one_line(f"{'STAC item':<12}{stac}"))
        return
    from geosegsr.models.interpolation import KERNELS

    bundled = {path: read_card(path) for path in bundled_checkpoints()}
    cards_of = {path: _card_of(path) for path in library_models()}
    added = {path: found for path, found in cards_of.items() if found is not None}
    if as_json:
        cards = {str(path): card.to_dict() for path, card in {**bundled, **added}.items()}
        print_json({"interpolation": list(KERNELS), "checkpoints": cards}, indent=2)
        return
    for line in _table(bundled, added):
        click.echo(one_line(line))


def _card_of(path: Path) -> ModelCard | None:
    """The card of an added model; None for a file that is no checkpoint, which is said."""
    from geosegsr.errors import CheckpointError
    from geosegsr.models.checkpoint import read_card

    try:
        return read_card(path)
    except CheckpointError as error:
        click.echo(one_line(str(error)), err=True)
        return None


def _table(bundled: Mapping[Path, ModelCard], added: Mapping[Path, ModelCard]) -> list[str]:
    """The models, what they gain, when to use them, and what they were trained on."""
    rows = [("model", "scale", "dB over bicubic", "when to use")]
    rows += [("bundled", f"x{card.scale}", _gains(card), _BUNDLED) for card in bundled.values()]
    rows += [(name, "any", "0" if name == "bicubic" else "", use) for name, use in _INTERPOLATIONS.items()]
    rows += [(path.stem, f"x{card.scale}", _gains(card), card.trained_on) for path, card in added.items()]
    widths = [max(len(row[column]) for row in rows) + 2 for column in range(3)]
    indent = " " * sum(widths)
    lines = []
    for *cells, use in rows:
        first = "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        wrapped = textwrap.wrap(use, _WIDTH, initial_indent=first, subsequent_indent=indent)
        lines += wrapped or [first.rstrip()]
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
        ("parents", ", ".join(card.parents)),
        ("licence", card.licence),
        ("notes", card.notes),
        ("storage", card.storage),
        ("sha256", card.sha256),
    ]
    shown = [line for name, value in rows if value != "" for line in _wrapped(name, str(value))]
    return [*shown, *_metric_lines(card)]


def _wrapped(name: str, value: str) -> list[str]:
    """A row of a card, wrapped to the width of a terminal; a checksum stays whole."""
    return textwrap.wrap(
        one_line(value), _WIDTH, initial_indent=f"{name:<{_INDENT}}", subsequent_indent=" " * _INDENT,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip


def _metric_lines(card: ModelCard) -> list[str]:
    """The measures of a card: a table of test sets where bicubic interpolation is beside the model, else name and value."""
    sets = {
        name: row
        for name, row in card.metrics.items()
        if isinstance(row, dict) and {"psnr", "psnr_bicubic"} <= row.keys()
    }
    others = {name: value for name, value in card.metrics.items() if name not in sets}
    lines = _wrapped("metrics", ", ".join(f"{name} {value}" for name, value in others.items()))
    if not sets:
        return lines if others else []
    width = max(len(name) for name in sets)
    lines = [*(lines if others else []), "", f"{'test set':<{width}}{'PSNR':>9}{'bicubic':>9}{'gain':>8}"]
    return [
        *lines,
        *(
            one_line(
                f"{name:<{width}}{row['psnr']:9.2f}{row['psnr_bicubic']:9.2f}{row['psnr'] - row['psnr_bicubic']:+8.2f}"
            )
            for name, row in sets.items()
        ),
    ]


def _network_lines(card: ModelCard) -> list[tuple[str, Any]]:
    trunk = f"{len(card.config['depths'])} {card.config['unit']} units of width {card.config['width']}"
    tower = "{tower_layers} layers of width {tower_width}, patch {tower_patch}".format(**card.config)
    compat = ", ".join(f"{k} {v}" for k, v in card.config["compat"].items())
    return [("trunk", trunk), ("tower", tower), ("compat", compat)]
