"""geosegsr train: images in, a model for upscale --model out."""

from __future__ import annotations

import os
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from geosegsr_cli.parts.groups import GroupedCommand
from geosegsr_cli.parts.options import BandList, Nodata, Places, Scale, one_line, verbosity
from geosegsr_cli.parts.scores import (
    describe_result,
    describe_shortfall,
    describe_success,
    describe_validation,
    score_table,
)
from geosegsr_cli.parts.screen import open_screen, say

if TYPE_CHECKING:
    from geosegsr.training.config import TrainConfig
    from geosegsr.training.events import Event, Started, Stepped
    from geosegsr.training.loop import TrainResult

_AUTO = "auto"
_NOTHING_GAINED = 3
"""Exit code of a run whose model is not better than bicubic interpolation, its start and the bundled model."""

# Option -> where it belongs in the configuration.
_PLACES = {
    "hr": "data.hr",
    "lr": "data.lr",
    "val": "data.val",
    "val_lr": "data.val_lr",
    "val_share": "data.val_share",
    "bands": "data.bands",
    "nodata": "data.nodata",
    "radiometry": "data.radiometry",
    "patch": "data.patch",
    "max_shift": "data.max_shift",
    "workers": "data.workers",
    "threads": "threads",
    "scale": "model.scale",
    "init": "model.init",
    "train_only": "model.train",
    "unit_from": "model.unit_from",
    "tower": "model.tower",
    "batch": "optimiser.batch",
    "learning_rate": "optimiser.learning_rate",
    "steps": "schedule.steps",
    "minutes": "schedule.minutes",
    "device": "device",
    "precision": "precision",
    "seed": "seed",
    "tracker": "trackers",
}


_GROUPS = {
    "Images": ("--hr", "--lr", "--val", "--val-lr", "--val-share", "--bands", "--nodata", "--max-shift"),
    "What the model learns": (
        "--scale",
        "--preset",
        "--config",
        "--set",
        "--degradation",
        "--radiometry",
        "--range",
    ),
    "Weights": ("--init", "--unit-from", "--train-only", "--tower"),
    "Length and pace": ("--steps", "--minutes", "--batch", "--patch", "--learning-rate", "--seed"),
    "Machine": ("--device", "--precision", "--threads", "--workers"),
    "Run": ("--run", "--resume", "--check", "--tracker"),
}


@click.command(
    "train", cls=GroupedCommand, groups=_GROUPS, short_help="Train a model on images of one sensor."
)
@click.option(
    "--hr",
    type=Places(),
    multiple=True,
    metavar="DIR|GLOB|FILE",
    help="High-resolution images; required, and may be repeated.",
)
@click.option(
    "--lr",
    type=Places(),
    multiple=True,
    metavar="DIR|GLOB|FILE",
    help="Real low-resolution images of the same ground. Default: made from --hr.",
)
@click.option(
    "--val",
    type=Places(),
    multiple=True,
    metavar="DIR|GLOB|FILE",
    help="High-resolution images of other places, for validation. Default: --val-share of the ground.",
)
@click.option(
    "--val-lr",
    type=Places(),
    multiple=True,
    metavar="DIR|GLOB|FILE",
    help="Low-resolution images of the same ground as --val. Default: made from --val.",
)
@click.option(
    "--val-share", type=float, help="Share of the ground held out for validation without --val. Default: 0.1."
)
@click.option("-s", "--scale", type=Scale(), help="Upscaling factor: 2, 3, 4 or 8. Default: 4.")
@click.option(
    "--preset",
    metavar="NAME",
    help="Network and recipe: compact, compact-sensor, segsr, segsr-swinir, segsr-rcan. Default: compact, "
    "or compact-sensor where the images are not sharp and clean.",
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    help="TOML file with settings, such as a run's config.toml. Default: none.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any setting, such as optimiser.ema=0.99; may be repeated.",
)
@click.option(
    "--degradation",
    metavar="NAME|FILE",
    help="How lr is made from hr: auto (with the blur and noise that the images show), bicubic, box, or a TOML file. Default: auto.",
)
@click.option("-b", "--bands", type=BandList(), help="Bands to use, in this order: 1,2,3. Default: all.")
@click.option(
    "--nodata", type=Nodata(),
    help="Value of pixels without data, or auto: that of a region along the border, if a file declares none. Default: as declared.",
)  # fmt: skip
@click.option(
    "--radiometry", type=click.Choice(["auto", "dtype", "declared", "percentiles", "standard"]),
    help="Source of the model's value range. Default: auto.",
)  # fmt: skip
@click.option(
    "--range",
    "value_range",
    type=float,
    nargs=2,
    metavar="LO HI",
    help="Value range of the model, in DN. Default: as --radiometry finds it.",
)
@click.option(
    "--max-shift", type=float, help="Largest shift between lr and hr to correct, in lr pixels. Default: 3."
)
@click.option(
    "--init",
    metavar="FILE|bundled|none",
    help="Checkpoint to start from, a converted one of another project too; none: random weights. "
    "Default: bundled, where it has the preset's shape.",
)
@click.option(
    "--unit-from", metavar="FILE",
    help="SwinIR, HAT or RCAN network of another project, whose trunk to start with. Default: none.",
)  # fmt: skip
@click.option(
    "--train-only", type=click.Choice(["all", "trunk", "lora"]), help="Weights to train. Default: all."
)
@click.option(
    "--tower", metavar="NAME:TAG|FILE", help="Pretrained weights of the semantic tower. Default: none."
)
@click.option("--steps", type=int, help="Length of the run, in steps. Default: the preset's.")
@click.option("--minutes", type=float, help="Length of the run, in minutes. Default: --steps decides.")
@click.option("--batch", type=int, help="Patches per step and process. Default: the preset's.")
@click.option("--patch", type=int, help="Side of a patch, in lr pixels. Default: the preset's.")
@click.option(
    "--learning-rate",
    type=float,
    help="Peak learning rate. Default: the preset's, and lower for pretrained weights.",
)
@click.option("--workers", type=int, help="Threads that prepare patches. Default: 1.")
@click.option("--threads", type=int, help="CPU threads for arithmetic. Default: the idle cores.")
@click.option("--seed", type=int, help="Seed of all random numbers. Default: 0.")
@click.option("--device", help="auto, cpu or cuda. Default: auto.")
@click.option(
    "--precision", type=click.Choice(["auto", "fp32", "bf16", "fp16"]), help="Arithmetic. Default: auto."
)
@click.option(
    "--tracker",
    type=click.Choice(["tensorboard", "wandb", "mlflow"]),
    multiple=True,
    help="Tracker for loss, scores and pictures; may be repeated.",
)
@click.option(
    "--run", type=click.Path(path_type=Path), help="Folder of the run. Default: runs/PRESET-xSCALE-TIME."
)
@click.option(
    "--resume",
    type=click.Path(path_type=Path),
    metavar="RUN",
    help="Folder of an interrupted run to resume. Default: a new run.",
)
@click.option(
    "--check",
    is_flag=True,
    help="Print what the run would train on, and stop. Pictures of it go to RUN-check where --run is given.",
)
@click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
@click.option("-v", "--verbose", count=True, help="Increase verbosity; -vv for debug output.")
def command(
    run: Path | None, resume: Path | None, check: bool, quiet: bool, verbose: int, **options: Any
) -> None:
    """Train a model on images of one sensor, for upscale --model.

    Low-resolution images are made from --hr by a degradation, or given by --lr. To train on several GPUs, run
    torchrun --nproc-per-node N -m geosegsr_cli.commands.train with the same options.

    The exit code is 3 if the run found nothing better than bicubic interpolation, its start and the bundled model.
    """
    verbosity(quiet, verbose)
    from geosegsr.errors import Cancelled
    from geosegsr.files import temporary_folder

    click.get_current_context().with_resource(temporary_folder())  # torch wants one as soon as it is loaded
    lines = click.get_current_context().with_resource(closing(TrainLines(quiet=quiet)))
    from geosegsr.training.loop import train
    from geosegsr.training.run_folder import RunFolder

    if resume is not None:
        given = sorted(name for name, value in options.items() if value not in (None, ()))
        given += ["check"] if check else []
        if given or run is not None:
            raise click.UsageError(
                f"--resume continues a run with its own settings. Leave out {', '.join(given) or 'run'}."
            )
        folder, config = resume, RunFolder(resume).read_config()
    else:
        config = _configuration(**options)
        folder = run or _new_folder(config)
    if check:
        _check(config, lines, run)
        return
    try:
        result = train(config, folder, resume=resume is not None, on_event=lines)
    except Cancelled as stopped:
        click.echo(one_line(str(stopped)), err=True)
        raise
    finally:
        lines.close()
    _conclude(result, config.model.scale, quiet=quiet)


def _check(config: TrainConfig, lines: TrainLines, run: Path | None) -> None:
    """Print what a run would train on; pictures are written beside the folder of the run, if that is named."""
    from geosegsr.training.dataset import as_found, prepare_data
    from geosegsr.training.overview import overview, write_pictures

    data = prepare_data(config)
    found = list(overview(as_found(config, data), data))
    if run is not None:
        found += write_pictures(data, run.with_name(f"{run.name}-check"))
    lines.close()
    for line in found:
        click.echo(one_line(line))


def _conclude(result: TrainResult, scale: int, *, quiet: bool) -> None:
    """Print scores and verdict; leave with an exit code of its own where nothing was gained."""
    behind = result.falls_short_of
    lines = [describe_result(result), *score_table(result)]
    if behind is None and result.score is not None:
        lines += describe_success(result, scale)
    for line in () if quiet else lines:
        click.echo(one_line(line))
    if behind is not None:
        click.echo(one_line(describe_shortfall(behind)), err=True)
        click.get_current_context().exit(_NOTHING_GAINED)


def _configuration(
    preset: str | None,
    config: Path | None,
    changes: tuple[str, ...],
    degradation: str | None,
    value_range: tuple[float, float] | None,
    **options: Any,
) -> TrainConfig:
    from geosegsr.schema import read_toml
    from geosegsr.sensor.degradation import Degradation
    from geosegsr.training.config import parse_change, resolve_config

    wanted = dict(parse_change(text) for text in changes)
    wanted |= {_PLACES[name]: value for name, value in options.items() if value not in (None, ())}
    if degradation not in (None, _AUTO):
        wanted["degradation"] = Degradation.load(str(degradation)).to_dict()
    elif "degradation" not in (read_toml(config) if config else {}) and not any(
        key.startswith("degradation") for key in wanted
    ):
        wanted.setdefault("find_sensor", True)
    if value_range is not None:
        wanted |= {"data.radiometry": "range", "data.range": value_range}
    resolved = resolve_config(preset, config, wanted)
    if not resolved.data.hr and not resolved.data.sources:
        raise click.UsageError("Pass --hr with the images to train on.")
    return resolved


def _new_folder(config: TrainConfig) -> Path:
    from geosegsr.training.config import AUTO_PRESET

    stamp = time.strftime("%Y%m%d-%H%M%S")
    preset = "compact" if config.model.preset == AUTO_PRESET else config.model.preset
    return Path("runs") / f"{preset}-x{config.model.scale}-{stamp}"


class TrainLines:
    """Shows the events of a run: a moving row on a terminal, occasional lines elsewhere."""

    def __init__(self, *, quiet: bool) -> None:
        """Start the clock."""
        self._quiet = quiet
        others = os.environ.get("RANK", "0") != "0"  # of torchrun; one process tells for all
        self._screen = open_screen(quiet=quiet or others)
        self._screen.show("", "preparing the images")
        self._score = ""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        from geosegsr.training import events

        if self._quiet:
            return
        if isinstance(event, events.Started):
            self._start(event)
        elif isinstance(event, events.Stepped):
            self._step(event)
        elif isinstance(event, events.Validated):
            self._score = f", PSNR {event.score.main:.2f}"
            say(describe_validation(event))
        elif isinstance(event, events.Noted):
            say(event.text)

    def close(self) -> None:
        """Clear the moving row."""
        self._screen.close()

    def _start(self, event: Started) -> None:
        for note in event.notes:
            say(note)
        where = f"{event.device}, {event.precision}"
        if event.processes > 1:
            where += f", {event.processes} processes"
        say(f"{event.parameters:,} trainable parameters, on {where}")
        if event.first_step:
            say(f"resuming after step {event.first_step}")
        self._screen.show("", "validating the start")

    def _step(self, event: Stepped) -> None:
        self._screen.show(
            "",
            f"step {event.step}: loss {event.loss:.5f}{self._score}, {event.steps_per_s:.2f} it/s, "
            f"data wait {event.data_wait:.1%}",
            event.share,
        )


if __name__ == "__main__":
    from geosegsr_cli.main import main

    main(["train", *sys.argv[1:]])
