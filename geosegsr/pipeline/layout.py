"""From a raster's facts and a model's to the grid, bands and range of one run; shared by files and arrays."""

from __future__ import annotations

import logging
from math import ceil

import numpy as np

from geosegsr.errors import ConfigError
from geosegsr.models.contract import Upscaler
from geosegsr.notices import warn
from geosegsr.raster.bands import BandGroup, OtherBands, bands_alone, group_bands
from geosegsr.raster.contract import Raster
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import Sampling
from geosegsr.tiling.grid import TileGrid
from geosegsr.tiling.render import Rendering

log = logging.getLogger("geosegsr")

_BLOCK_SIDES = 2048, 1024  # output pixels
_ENOUGH_BLOCKS = 9
"""Blocks wait for those above and to the left; with fewer than these there is often only one that need not."""


def plan_rendering(
    raster: Raster,
    upscaler: Upscaler,
    wanted: Window,
    *,
    other_bands: OtherBands | None = None,
    range: tuple[float, float] | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    block: int | None = None,
    samplings: tuple[Sampling, ...] = (),
    consistent: bool = False,
    spread: bool = False,
) -> tuple[Rendering, Window]:
    """Decide how a raster goes through a model.

    Args:
        raster: The input.
        upscaler: The model.
        wanted: The part to compute, in the raster's pixels.
        other_bands: See `group_bands`.
        range: DN that the model sees as 0 and 1; by default as the model's card says.
        tile: Side of a tile, in lr pixels; by default the model's.
        overlap: Pixels that neighbouring tiles share; by default the model's.
        block: Side of a block, in output pixels; by default 2048, or 1024 where only that gives nine blocks.
        samplings: From `samplings_of`, to compare the result with its input; empty not to.
        consistent: Whether to make the result agree with its input, as the samplings see it.
        spread: Whether to tell the spread over an ensemble, which the model must then be.

    Returns:
        The rendering, and the window that its grid counts from: the wanted part and some context.
    """
    facts = upscaler.facts
    groups = groups_for(upscaler, raster.colours, raster.path, other_bands)
    if range is not None and not (np.isfinite(range).all() and range[0] < range[1]):
        raise ConfigError(
            f"Cannot use range {range[0]:g} to {range[1]:g}: LO must be below HI, both finite. Pass --range LO HI."
        )
    radiometry: Radiometry | None = None
    if not facts.linear:
        policy = {"kind": "auto"} if facts.card is None else facts.card.radiometry
        radiometry = resolve_radiometry(raster, {**policy, "apart": bands_alone(groups)}, range)
        log.info("range of %s: %s", raster.path, radiometry.describe())
    chosen_overlap = facts.overlap if overlap is None else overlap
    if 0 <= chosen_overlap < 2 * facts.halo:
        warn(
            f"an overlap of {chosen_overlap} is less than the {2 * facts.halo} pixels of context that "
            f"'{facts.name}' needs: seams may show"
        )
    # A pixel of the result is compared with its input `reach` around it; if it was moved, that read `margin` more.
    margin = max((s.reach + (s.margin if consistent else 0) for s in samplings), default=0)
    region = wanted.grown(max(chosen_overlap, facts.halo, margin), raster.height, raster.width)
    grid = TileGrid.plan(
        region.height,
        region.width,
        tile=facts.tile if tile is None else tile,
        overlap=chosen_overlap,
        halo=facts.halo,
        block=_block_side(block, facts.scale, wanted),
        wanted=wanted.shifted(-region.row, -region.col),
        multiple_of=facts.multiple_of,
        min_size=facts.min_size,
        margin=margin,
    )
    rendering = Rendering(
        grid, upscaler, groups, radiometry, raster.dtype, raster.nodata,
        samplings_by_band(samplings, groups, raster.count), consistent, spread,
    )  # fmt: skip
    return rendering, region


def groups_for(
    upscaler: Upscaler, colours: tuple[str, ...], scene: str, other_bands: OtherBands | None = None
) -> tuple[BandGroup, ...]:
    """As `group_bands`, for a model that says itself what it was trained on."""
    facts = upscaler.facts
    return group_bands(
        colours,
        model=facts.name,
        model_bands=facts.bands,
        model_band_names=() if facts.card is None else facts.card.band_names,
        knows_grey=facts.card is not None and facts.card.grey,
        other_bands=other_bands,
        scene=scene,
    )


def samplings_by_band(
    samplings: tuple[Sampling, ...], groups: tuple[BandGroup, ...], count: int
) -> tuple[Sampling, ...]:
    """The sampling of each image band: a model's band has its own, the others the last."""
    own = {
        band: sampling
        for group in groups
        if group.through == "model"
        for band, sampling in zip(group.bands, samplings[:-1], strict=False)
    }
    return tuple(own.get(band, samplings[-1]) for band in range(count)) if samplings else ()


def _block_side(block: int | None, scale: int, wanted: Window) -> int:
    """Side of a block in lr pixels; a side that is no size at all stays so, for the grid to refuse."""
    side = block
    if side is None:
        counts = {s: ceil(wanted.height * scale / s) * ceil(wanted.width * scale / s) for s in _BLOCK_SIDES}
        side = next((s for s in _BLOCK_SIDES if counts[s] >= _ENOUGH_BLOCKS), _BLOCK_SIDES[0])
    return side if side < 1 else max(1, side // scale)
