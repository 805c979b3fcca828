"""geosegsr evaluate: scores of a model or of a finished file, beside those of bicubic interpolation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosegsr_cli.parts.foreign import foreign_options, opened
from geosegsr_cli.parts.groups import GroupedCommand
from geosegsr_cli.parts.options import (
    BandList,
    Places,
    Scale,
    json_option,
    one_line,
    paragraph,
    print_json,
    verbosity,
)
from geosegsr_cli.parts.progress import told
from geosegsr_cli.parts.screen import Screen, shown

if TYPE_CHECKING:
    from geosegsr.evaluation.comparison import Comparison
    from geosegsr.evaluation.table import Evaluation
    from geosegsr.models.contract import Upscaler

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
@click.argument("sr", required=False)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    help="bundled, a .safetensors file, nearest, bilinear, bicubic, lanczos, or a network as for upscale. "
    "Repeat it to compare models.",
)
@foreign_options
@click.option(
    "--hr",
    type=Places(),
    multiple=True,
    metavar="DIR|GLOB|FILE",
    help="Reference (hr) images; may be repeated. A file SR can do with --lr alone.",
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
    sr: str | None,
    models: tuple[str, ...],
    hr: tuple[str, ...],
    lr: tuple[str, ...],
    tile: int | None,
    overlap: int | None,
    picture: Path | None,
    warp: bool,
    by_band: bool,
    as_json: bool,
    quiet: bool,
    trust_model: bool,
    model_range: tuple[float, float] | None,
    **how: Any,
) -> None:
    """Score a model on a folder (--model M --hr DIR), or a finished file (SR.tif --hr HR.tif, or SR.tif --lr LR.tif).

    Bicubic interpolation is scored beside it; several --model are scored side by side. Each subfolder of --hr gets its
    own row; its images may differ in bands.
    """
    verbosity(quiet, 0)
    if (sr is None) == (not models):
        raise click.UsageError("Pass either a file SR or --model M, not both.")
    if not hr and (sr is None or len(lr) != 1):
        raise click.UsageError(
            "Missing option '--hr'. Only a file SR can be compared with its input alone: pass --lr."
        )
    if sr is not None and (len(hr) > 1 or len(lr) > 1):
        raise click.UsageError("A file SR is compared with a single --hr and at most one --lr.")
    if sr is None and warp:
        raise click.UsageError("--warp is for a file SR. Pairs of a model are aligned without it.")
    if len(models) > 1 and (picture is not None or by_band):
        raise click.UsageError("--picture and --by-band show one model. Leave them out, or pass one --model.")
    from geosegsr.files import temporary_folder

    click.get_current_context().with_resource(temporary_folder())  # torch wants one as soon as it is loaded
    screen = click.get_current_context().with_resource(
        shown("reading the images", quiet=quiet, as_json=as_json)
    )
    if sr is not None and not hr:
        _print_appraisal(sr, lr[0], screen, as_json=as_json)
        return
    if sr is not None:
        from geosegsr.evaluation.evaluate import evaluate_file

        asked = {name: how[name] for name in ("scale", "value_range", "border")}
        where: dict[str, Any] = {"tile": tile, "overlap": overlap, "picture": picture, "warp": warp}
        score = evaluate_file(sr, hr[0], lr[0] if lr else None, **asked, **where)
        screen.close()
        _print_scores(score, by_band=by_band, as_json=as_json)
        return
    chosen: dict[str, Any] = {"device": how["device"], "precision": how["precision"]}
    networks = [opened(name, trust_model=trust_model, model_range=model_range, **chosen) for name in models]
    how |= {"progress": lambda done, total: screen.show("", f"{done}/{total} images", done / total)}
    result = _score_models(networks, hr, lr, picture, how)
    screen.close()
    _print_scores(result, by_band=by_band, as_json=as_json)


def _print_appraisal(sr: str, lr: str, screen: Screen, *, as_json: bool) -> None:
    """What the input alone says of a result."""
    from geosegsr.appraisal.inputs import open_pairs
    from geosegsr.appraisal.report import appraise
    from geosegsr.appraisal.words import lines, to_dict

    found = appraise(open_pairs(lr, sr), progress=told(screen))
    screen.close()
    if as_json:
        print_json(to_dict(*found))
        return
    for line in lines(*found):
        click.echo(paragraph(line, 9 if line.startswith(" ") else 2))


def _score_models(
    networks: Sequence[str | Upscaler],
    hr: tuple[str, ...],
    lr: tuple[str, ...],
    picture: Path | None,
    how: dict[str, Any],
) -> Evaluation | Comparison:
    from geosegsr.evaluation.comparison import compare_models
    from geosegsr.evaluation.evaluate import evaluate_model
    from geosegsr.sensor.degradation import Degradation

    degradation = how["degradation"]
    how = how | {
        "degradation": None if degradation is None else Degradation.load(degradation),
        "bands": how["bands"] or (),
    }
    if len(networks) > 1:
        return compare_models(networks, hr, lr, **how)
    return evaluate_model(networks[0], hr, lr, picture=picture, **how)


def _print_scores(found: Evaluation | Comparison, *, by_band: bool, as_json: bool) -> None:
    from geosegsr.evaluation.comparison import Comparison, comparison_table
    from geosegsr.evaluation.table import table

    if as_json:
        print_json(found.to_dict())
        return
    text = comparison_table(found) if isinstance(found, Comparison) else table(found, by_band=by_band)
    for line in text.split("\n"):
        click.echo(one_line(line))
