"""geosegsr convert: published SeG-SR weights, or a network of another project, as a geosegsr checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from geosegsr_cli.parts.options import human_bytes, one_line, verbosity
from geosegsr_cli.parts.screen import shown


@click.command("convert", short_help="Convert a network of another project to a checkpoint.")
@click.argument("source", type=click.Path(path_type=Path))
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help=".safetensors file to write."
)
@click.option(
    "--prompts", type=click.Path(path_type=Path),
    help="Prompts of the units: a .safetensors or .pth file with text_locals.0, text_locals.1, ...",
)  # fmt: skip
@click.option(
    "--prompt-seed",
    type=click.IntRange(0, 2**63 - 1),
    help="Seed to draw random prompts from, instead of --prompts.",
)
@click.option("--licence", default="", help="Licence of the weights, for the card.")
@click.option("--trained-on", default="", help="Training data or origin of the weights, for the card.")
@click.option("--name", help="Name of the model. Default: the file's name.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def command(
    source: Path,
    output: Path,
    prompts: Path | None,
    prompt_seed: int | None,
    licence: str,
    trained_on: str,
    name: str | None,
    overwrite: bool,
) -> None:
    """Convert SOURCE, the state dict of another project (.pth or .safetensors), to a checkpoint with a card.

    Published SeG-SR weights lack the prompts of the units: pass them with --prompts, or draw random ones with
    --prompt-seed. Other architectures are recognised by the package spandrel.
    """
    verbosity(quiet=False, verbose=0)
    from geosegsr.files import temporary_folder

    click.get_current_context().with_resource(temporary_folder(output.absolute().parent))
    with shown("converting"):
        from geosegsr.models.conversion import convert_published, holds_published

        if prompts is not None or prompt_seed is not None or holds_published(source):
            card = convert_published(
                source, output, prompts=prompts, prompt_seed=prompt_seed,
                name=name, licence=licence, trained_on=trained_on, overwrite=overwrite,
            )  # fmt: skip
        else:
            from geosegsr.models.foreign.conversion import convert_foreign

            card = convert_foreign(
                source, output, name=name, licence=licence, trained_on=trained_on, overwrite=overwrite
            )
    size = human_bytes(output.stat().st_size)
    click.echo(one_line(f"Wrote {output} ({size}): '{card.name}', x{card.scale}, {card.bands} bands."))
