"""The grid, band groups and value range of one run, from a raster and a model; shared by files and arrays."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from geosegsr.context import begin
from geosegsr.errors import ConfigError
from geosegsr.models.contract import Facts, Upscaler, for_sensor
from geosegsr.models.interpolation import is_repetition
from geosegsr.notices import warn
from geosegsr.pipeline.options import RenderOptions
from geosegsr.pipeline.sensing import Sensing, sense
from geosegsr.pipeline.suitability import calls_for_consistency, is_alike, warn_of_misfit
from geosegsr.raster.bands import BandGroup, OtherBands, bands_alone, group_bands
from geosegsr.raster.cog_levels import cut_unit
from geosegsr.raster.contract import Raster
from geosegsr.raster.intake import Intake, refuse_no_image
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import Sampling
from geosegsr.sensor.degradation import samplings_of, wants_consistency
from geosegsr.sensor.descriptor import sampling_of
from geosegsr.tiling.grid import TileGrid, Tiling
from geosegsr.tiling.render import Rendering

log = logging.getLogger("geosegsr")

_LARGE_BLOCK, _SMALL_BLOCK = 2048, 1024  # sides, in output pixels
_INTERPOLATED_TWICE, _ENLARGED_TWICE = 0.15, 0.06
"""Share of a scene's side. A network of the preset `compact` takes some six times as long as a second compression."""
_ENOUGH_BLOCKS, _MANY_BLOCKS = 9, 36
"""The fewest blocks of one side, else they are cut smaller. Those of a network wait for others above and to the left, so that
threads idle at the begin and the end, and take more memory."""


@dataclass(frozen=True)
class Layout:
    """How a raster goes through a model."""

    rendering: Rendering
    region: Window
    """What the rendering's grid counts from: the wanted part and some context."""
    sensing: Sensing
    """How the raster was imaged."""


def plan_rendering(
    raster: Raster,
    upscaler: Upscaler,
    wanted: Window,
    options: RenderOptions,
    intake: Intake,
    *,
    measured: bool = True,
    uncertainty: bool = False,
    creation: Mapping[str, str] | None = None,
) -> Layout:
    """Decide how a raster goes through a model.

    Args:
        raster: The input.
        upscaler: The model, or the ensemble of it.
        wanted: The part to compute, in the raster's pixels.
        options: All of them, as `with_defaults` returns them.
        intake: What was decided for the raster.
        measured: Whether a trained model's result is compared with its input, even where it is not made consistent.
        uncertainty: Whether to compute the standard deviation over an ensemble, which the model must then be.
        creation: All creation options of the COG that is made of the blocks; None where there is none.

    """
    if not is_repetition(upscaler):
        refuse_no_image(raster, intake)
    groups = groups_for(upscaler, raster.colours, raster.path, options["other_bands"], intake)
    radiometry = _radiometry(raster, upscaler, groups, options["value_range"])
    sensing = sense(raster, upscaler.facts, groups, radiometry, options["sensor"])
    warn_of_misfit(raster, upscaler.facts, groups, sensing)
    consistent = wants_consistency(upscaler, options["consistency"]) and (
        options["consistency"] is True or calls_for_consistency(upscaler.facts, groups, sensing)
    )
    samplings: tuple[Sampling, ...] = ()
    if consistent or (measured and not upscaler.facts.linear):
        samplings = samplings_by_band(upscaler, groups, raster.count, sensing)
    # A pixel of the result is compared with its input `reach` around it; if it was moved, that read `margin` more.
    margin = max((s.reach + (s.margin if consistent else 0) for s in samplings), default=0)
    grid, region = _grid(raster, upscaler, wanted, options, margin, creation)
    rendering = Rendering(
        grid, upscaler, groups, radiometry, raster.dtype, raster.nodata,
        samplings, consistent, uncertainty, _told(upscaler, groups, sensing), intake.top,
    )  # fmt: skip
    return Layout(rendering, region, sensing)


def _told(upscaler: Upscaler, groups: tuple[BandGroup, ...], sensing: Sensing) -> tuple[Upscaler, ...]:
    """The model for each group of bands, told how they were imaged; empty if it takes no descriptor."""
    if not upscaler.facts.takes_sensor:
        return ()
    return tuple(
        upscaler if group.through in ("bicubic", "nearest") else for_sensor(upscaler, sensor.numbers)
        for group, sensor in zip(groups, sensing.sensors, strict=True)
    )


def _radiometry(
    raster: Raster, upscaler: Upscaler, groups: tuple[BandGroup, ...], value_range: tuple[float, float] | None
) -> Radiometry | None:
    """The DN that a trained model sees as 0 and 1; None for an interpolation, which has no range."""
    if value_range is not None:
        _check_range(value_range)
    if upscaler.facts.linear:
        return None
    card = upscaler.facts.card
    begin("finding the value range")
    policy = {"kind": "auto"} if card is None else card.radiometry
    radiometry = resolve_radiometry(raster, {**policy, "apart": bands_alone(groups)}, value_range)
    log.info("range of %s: %s", raster.path, radiometry.describe())
    return radiometry


def _check_range(value_range: Any) -> None:
    """Refuse a range that is not two finite numbers, the first below the second."""
    try:
        low, high = map(float, value_range)
        right = np.isfinite([low, high]).all() and low < high
    except (TypeError, ValueError):
        right = False
    if not right:
        several = isinstance(value_range, Sequence) and not isinstance(value_range, str)
        ends = value_range if several else (value_range,)
        shown = " to ".join(f"{end:g}" if isinstance(end, int | float) else str(end) for end in ends)
        raise ConfigError(
            f"Cannot use range {shown}: it must be two finite numbers, LO below HI. Pass --range LO HI, or in Python "
            "value_range=(LO, HI)."
        )


def _grid(
    raster: Raster,
    upscaler: Upscaler,
    wanted: Window,
    options: RenderOptions,
    margin: int,
    creation: Mapping[str, str] | None,
) -> tuple[TileGrid, Window]:
    """The grid of tiles and blocks, and the window that it counts from."""
    facts = upscaler.facts
    overlap = facts.overlap if options["overlap"] is None else options["overlap"]
    if 0 <= overlap < 2 * facts.halo:
        warn(
            f"an overlap of {overlap} is less than the {2 * facts.halo} pixels of context that "
            f"'{facts.name}' needs: seams may be visible"
        )
    region = wanted.grown(max(overlap, facts.halo, margin), raster.height, raster.width)
    tile = facts.tile if options["tile"] is None else options["tile"]
    grid = TileGrid.plan(
        region.height,
        region.width,
        Tiling(tile, overlap, facts.halo, facts.multiple_of, facts.min_size, _waste(facts)),
        block=_block_side(options["block"], facts, wanted),
        wanted=wanted.shifted(-region.row, -region.col),
        margin=margin,
    )
    if creation is not None:
        grid = _fitted_to_cog(grid, raster, facts.scale, wanted, options["block"], creation)
    return grid, region


def _waste(facts: Facts) -> float:
    """What tiles may compute twice if their blocks become tiles of the COG in return, and are not compressed a second time."""
    return _INTERPOLATED_TWICE if facts.linear else _ENLARGED_TWICE


def _fitted_to_cog(
    grid: TileGrid,
    raster: Raster,
    scale: int,
    wanted: Window,
    asked: int | None,
    creation: Mapping[str, str],
) -> TileGrid:
    """The grid with blocks of whose tiles the COG can be made, unless that would take more tiles to compute."""
    if grid.block >= max(wanted.height, wanted.width):
        return grid
    # A side that was asked for is kept to. Others were rounded down to input pixels, and may grow by half.
    most = grid.block * scale if asked is not None else (grid.block + 1) * scale * 3 // 2
    shape = wanted.height * scale, wanted.width * scale
    unit = cut_unit(shape, scale, most, raster.dtype, creation) // scale
    if not unit or not grid.is_even(unit):
        return grid
    return grid.with_blocks(max(unit, grid.block // unit * unit), unit)


def groups_for(
    upscaler: Upscaler,
    colours: tuple[str, ...],
    scene: str,
    other_bands: OtherBands | None = None,
    intake: Intake | None = None,
) -> tuple[BandGroup, ...]:
    """As `group_bands`, with what the model's facts say about its bands, and what the scene's bands are."""
    facts = upscaler.facts
    kinds = () if intake is None or is_repetition(upscaler) else intake.kinds
    return group_bands(
        colours,
        model=facts.name,
        model_bands=facts.bands,
        model_band_names=facts.band_names if facts.card is None else facts.card.band_names,
        knows_grey=None if facts.card is None else facts.card.knows_grey,
        other_bands=other_bands,
        scene=scene,
        repeated=tuple(band for band, kind in enumerate(kinds) if kind != "image"),
    )


def samplings_by_band(
    upscaler: Upscaler, groups: tuple[BandGroup, ...], count: int, sensing: Sensing
) -> tuple[Sampling, ...]:
    """The sampling of each image band: that of its own sensor, or of the model's training where both are alike."""
    *own, other = samplings_of(upscaler)
    by_band = [other] * count
    for group, sensor in zip(groups, sensing.sensors, strict=True):
        if not is_alike(upscaler.facts, sensor):
            trained = [sampling_of(sensor, upscaler.facts.scale)] * len(group.bands)
        elif group.through == "model" and own:
            trained = own
        else:
            trained = [other] * len(group.bands)
        for band, sampling in zip(group.bands, trained, strict=True):
            by_band[band] = sampling
    return tuple(by_band)


def _block_side(block: int | None, facts: Facts, wanted: Window) -> int:
    """Side of a block in lr pixels; an impossible side is passed on for the grid to refuse."""
    side, scale = block, facts.scale
    if side is None:
        fewest = {
            _LARGE_BLOCK: _ENOUGH_BLOCKS if facts.linear else _MANY_BLOCKS,
            _SMALL_BLOCK: _ENOUGH_BLOCKS,
        }
        if scale == 1:  # a block is sharpened, which takes many planes of its own size
            del fewest[_LARGE_BLOCK]
        counts = {s: ceil(wanted.height * scale / s) * ceil(wanted.width * scale / s) for s in fewest}
        side = next((s for s in fewest if counts[s] >= fewest[s]), max(fewest))
    return side if side < 1 else max(1, side // scale)
