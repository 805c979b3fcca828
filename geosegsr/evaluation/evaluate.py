"""How good a model, or a finished file, is: against the truth, its own input, and bicubic interpolation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from geosegsr.errors import ConfigError, SceneError
from geosegsr.evaluation.enlarge import Enlarger, as_file
from geosegsr.evaluation.finished import common_ground, read_patch, scale_of, warped
from geosegsr.evaluation.seams import file_seam, model_seam
from geosegsr.evaluation.subjects import Subject, open_subjects
from geosegsr.evaluation.table import EVERYTHING, Evaluation
from geosegsr.evaluation.tally import Label, Tally
from geosegsr.evaluation.tiles import LONGEST, cut_tiles, is_measured, windows
from geosegsr.files import is_file, is_same
from geosegsr.imagery.images import report_left_out
from geosegsr.imagery.sources import Patch
from geosegsr.models.catalogue import is_foreign, load_foreign, located, resolve_upscaler
from geosegsr.models.checkpoint import read_card
from geosegsr.models.contract import BUNDLED, Upscaler
from geosegsr.models.ensemble import Ensemble
from geosegsr.models.interpolation import Interpolator
from geosegsr.models.threads import arithmetic_threads, idle_threads
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation, wants_consistency
from geosegsr.sensor.descriptor import SensorDescriptor

_BUNDLED_SCALE = 4


def evaluate_model(
    model: str | Path | Upscaler,
    hr: Sequence[str],
    lr: Sequence[str] = (),
    *,
    scale: int | None = None,
    degradation: Degradation | None = None,
    bands: Sequence[int] = (),
    value_range: tuple[float, float] | None = None,
    border: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    sensor: str | Path | SensorDescriptor = "auto",
    consistency: bool | None = None,
    ensemble: bool = False,
    picture: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Enlarge images whose truth is known, and measure the results.

    Args:
        model: As for `upscale`.
        hr: Folders, patterns or files of the truth. Subfolders of a folder become groups.
        lr: The real low-resolution side; by default the input is made from the truth.
        scale: Output pixels per input pixel; by default a checkpoint's own, 4 for "bundled".
        degradation: hr to lr; by default the checkpoint's own, else bicubic.
        bands: 1-based bands to use; by default all that the model takes.
        value_range: LO and HI in DN that the model sees as 0 and 1; by default as its card says.
        border: Pixels left out at each edge; by default as many as the scale.
        device: As for `upscale`.
        precision: As for `upscale`.
        sensor: As for `upscale`; "auto" estimates it for each image.
        consistency: As for `upscale`.
        ensemble: As for `upscale`.
        picture: A PNG to write: lr, bicubic, sr and hr of some tiles.
        progress: Called with (images done, images).

    Raises:
        GeoSegSRError: The model or the images cannot be used.
    """
    upscaler = open_model(model, scale, device, precision, ensemble=ensemble)
    policy, own = _of_card(upscaler)
    if value_range is not None:
        policy = {"kind": "range", "lo": value_range[0], "hi": value_range[1]}
    reduction = (degradation or own or Degradation()).at_rest()
    enlarger = Enlarger(upscaler, consistency, sensor, value_range, quantised=reduction.quantise)
    subjects, failures = open_subjects(hr, lr, bands, upscaler, policy)
    tally = Tally(upscaler.facts.scale, border)
    with arithmetic_threads(idle_threads()):
        failures += _measure(subjects, enlarger, reduction, tally, policy, progress)
        report_left_out(failures, len(failures) + tally.images, "cannot be evaluated")
        seam = model_seam(enlarger, [s.scene for s in subjects if s.scene is not None], reduction)
    tally.draw(picture)
    made = "lr from real pairs" if lr else f"lr by the degradation '{reduction.kernel[0]}'"
    notes = _notes(made, ensemble, wants_consistency(upscaler, consistency), failures)
    return Evaluation(upscaler.facts.name, upscaler.facts.scale, tally.rows(), seam, notes)


def evaluate_file(
    sr: str | Path,
    hr: str | Path,
    lr: str | Path | None = None,
    *,
    scale: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    value_range: tuple[float, float] | None = None,
    border: int | None = None,
    picture: Path | None = None,
    warp: bool = False,
) -> Evaluation:
    """Measure a finished file.

    Args:
        sr: The enlarged raster.
        hr: The truth, on the same pixel grid unless `warp`; where it covers other ground, the common ground is measured.
        lr: The input; by default made from the truth by bicubic downsampling.
        scale: Output pixels per input pixel; by default as the file's tags say.
        tile: Side of the tiles that the file was made of, in lr pixels; by default as its tags say.
        overlap: Pixels that these tiles share, in lr pixels; by default as its tags say.
        value_range: LO and HI in DN that count as 0 and 1; by default by dtype, declared scale or percentiles of hr.
        border: Pixels left out at each edge; by default as many as the scale.
        picture: A PNG to write: lr, bicubic, sr and hr of some windows.
        warp: Whether to resample a truth on another grid, or in another CRS, onto the grid of the result.

    Raises:
        GeoSegSRError: The files do not lie on one grid, or cannot be read.
    """
    result, truth = Scene.open(sr), Scene.open(hr)
    source = None if lr is None else Scene.open(lr)
    scale = scale or scale_of(result, source)
    truth, moved = warped(truth, result) if warp else (truth, "")
    ground = common_ground(result, truth, source, scale)
    area = ground.window
    radiometry = resolve_radiometry(truth, {"kind": "auto"}, value_range)
    label = Label(str(sr), EVERYTHING, f"{truth.count} bands, {truth.dtype}")
    bicubic, tally = Interpolator("bicubic", scale), Tally(scale, border)
    with arithmetic_threads(idle_threads()):
        for window in windows(area.height, area.width, LONGEST, scale):
            part = window.shifted(area.row, area.col)
            patch, image = read_patch((result, truth, source), ground, part, scale, radiometry)
            if is_measured(patch):
                tally.add(label, patch, image, as_file(bicubic(patch.lr[None])[0], radiometry, truth.dtype))
        if not tally.images:
            raise SceneError(f"Cannot evaluate '{sr}': no part of it is at least half valid on both sides.")
        seam = file_seam(result, radiometry, scale, tile, overlap)
    tally.draw(picture)
    made = (
        f"lr '{lr}'" if lr is not None else "lr by bicubic downsampling of hr: pass --lr for the real input"
    )
    notes: tuple[str, ...] = (made, f"value range {radiometry.describe()}")
    if is_same(sr, hr):
        notes += ("SR and --hr are the same file: these scores say nothing",)
    if moved:
        notes += (moved,)
    if (area.height, area.width) != (result.height, result.width):
        notes += (f"on the {area.width} x {area.height} pixels that both files cover",)
    return Evaluation(str(sr), scale, tally.rows(), seam, notes)


def open_model(
    model: str | Path | Upscaler,
    scale: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    *,
    ensemble: bool = False,
) -> Upscaler:
    """The model at its own scale, unless another is given; arguments and errors as of `evaluate_model`."""
    model = located(model)
    if not isinstance(model, str | Path):
        scale = scale or model.facts.scale
    elif model == BUNDLED:
        scale = scale or _BUNDLED_SCALE
    elif scale is None and is_file(model):
        if is_foreign(model):
            model = load_foreign(model, device=device, precision=precision)
            scale = model.facts.scale
        else:
            scale = read_card(model).scale
    if scale is None:
        raise ConfigError(f"Cannot evaluate '{model}' without its scale. Pass --scale 2, 3, 4 or 8.")
    upscaler = resolve_upscaler(model, scale, device=device, precision=precision)
    return Ensemble.of(upscaler) if ensemble else upscaler


def _of_card(upscaler: Upscaler) -> tuple[dict[str, Any], Degradation | None]:
    """Radiometry and degradation of a model's training."""
    card = upscaler.facts.card
    if card is None:
        return {"kind": "auto"}, None
    where = f"the card of '{upscaler.facts.name}'"
    return card.radiometry, None if card.degradation is None else Degradation.from_dict(
        card.degradation, where
    )


def _measure(
    subjects: Sequence[Subject],
    enlarger: Enlarger,
    sensor: Degradation,
    tally: Tally,
    policy: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> list[str]:
    """Add the tiles of all images to the tally; returns a message for each image that failed."""
    facts, failures = enlarger.upscaler.facts, []
    bicubic = Enlarger(Interpolator("bicubic", facts.scale), quantised=sensor.quantise)
    side = max(min(LONGEST // facts.scale, facts.tile), 1) * facts.scale
    for number, subject in enumerate(subjects):
        source = subject.source
        try:
            for patch in cut_tiles(source, side, facts.scale, sensor):
                sr, simple = enlarger(source, patch.lr), bicubic(source, patch.lr)
                tally.add(subject.label, patch, sr, simple, span=_span(policy, patch), scene=subject.scene)
        except SceneError as error:
            failures.append(str(error))
        if progress is not None:
            progress(number + 1, len(subjects))
    return failures


def _span(policy: dict[str, Any], patch: Patch) -> float:
    """What counts as the full range: 1, or the truth's spread where the model's range has no ends."""
    if policy["kind"] != "standard":
        return 1.0
    low, high = np.percentile(patch.hr[:, patch.valid], [0.1, 99.9])
    return float(max(high - low, 1e-9))


def _notes(made: str, ensemble: bool, consistent: bool, failures: Sequence[str]) -> tuple[str, ...]:
    """How the input and the results were made, and what was left out."""
    left_out = f"{len(failures)} image{'' if len(failures) == 1 else 's'} left out: " + " ".join(failures[:3])
    found = {
        made: True,
        "mean over 8 orientations": ensemble,
        "adjusted for consistency with lr": consistent,
        left_out: bool(failures),
    }
    return tuple(note for note, applies in found.items() if applies)
