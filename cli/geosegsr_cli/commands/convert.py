"""geosegsr convert: published SeG-SR weights as a geosegsr checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from geosegsr_cli.parts.options import human_bytes, one_line, verbosity
from geosegsr_cli.parts.screen import shown


@click.command("convert", short_help="Convert published SeG-SR weights to a checkpoint.")
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
@click.option("--name", help="Name of the model. Default: the file's name.")
@click.option("--overwrite", is_flag=True, help="Replace an existing file.")
def command(
    source: Path,
    output: Path,
    prompts: Path | None,
    prompt_seed: int | None,
    name: str | None,
    overwrite: bool,
) -> None:
    """Convert the published state dict SOURCE (.pth or .safetensors) to a checkpoint.

    Such a file lacks the prompts of the units. Pass them with --prompts, or draw random ones with --prompt-seed.
    """
    verbosity(quiet=False, verbose=0)
    from geosegsr.files import temporary_folder

    click.get_current_context().with_resource(temporary_folder(output.absolute().parent))
    with shown("converting"):
        from geosegsr.models.conversion import convert_published

        card = convert_published(
            source, output, prompts=prompts, prompt_seed=prompt_seed, name=name, overwrite=overwrite
        )
    size = human_bytes(output.stat().st_size)
    click.echo(one_line(f"Wrote {output} ({size}): '{card.name}', x{card.scale}, {card.bands} bands."))
