"""One block of output from the pixels around it: fill, scale, model, blend, round, mask. No files, no Dask.

The result depends on the scene's pixels, the model and the grid alone, never on the block in which a pixel lies.
Blocks of any size, computed anywhere in any order, give the same raster.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from geosegsr.models.contract import FloatArray, Upscaler
from geosegsr.models.interpolation import is_repetition, repeat_pixels
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.nodata import avoid_nodata, nodata_marker
from geosegsr.raster.radiometry import Radiometry, to_dtype, working_dtype
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import (
    Residual,
    Sampling,
    degraded,
    footprint,
    project,
    quantum_of,
)
from geosegsr.tiling.cache import TileCache
from geosegsr.tiling.grid import Block, TileGrid
from geosegsr.tiling.group import GroupCall, RenderCounts, group_call, output_bands
from geosegsr.tiling.mosaic import BlockInput, GroupCache, Mosaic

_FLAT_SIDE = 5
"""Side of a neighbourhood, in lr pixels, that is flat and saturated."""


@dataclass(frozen=True)
class Rendering:
    """All that turns lr pixels into a block of output."""

    grid: TileGrid
    upscaler: Upscaler
    groups: tuple[BandGroup, ...]
    """Which bands go through the model together."""
    radiometry: Radiometry | None
    """The model's range, for all image bands; None for a linear model."""
    dtype: np.dtype[Any]
    """Of input and output."""
    nodata: float | None
    samplings: tuple[Sampling, ...] = ()
    """The sensor's, one for each image band, to compare the result with its input; empty for no comparison."""
    consistent: bool = False
    """Whether the result is made consistent with its input."""
    uncertainty: bool = False
    """Whether to compute the standard deviation over the members of an ensemble."""
    told: tuple[Upscaler, ...] = ()
    """The model for each group, told how its bands were imaged; empty where it takes no descriptor."""
    top: float | None = None
    """The highest DN that a pixel can hold; None for the data type's own."""

    def upscaler_of(self, group: int) -> Upscaler:
        """The model that a group of bands goes through."""
        return self.told[group] if self.told else self.upscaler


@dataclass(frozen=True)
class Rendered:
    """A finished block."""

    image: NDArray[Any]
    """The scene's dtype, shape (bands in output order, scale * rows, scale * cols)."""
    uncertainty: NDArray[np.float32] | None
    """Same shape, in DN: standard deviation over the ensemble, NaN where the image has no data; None if not asked for."""
    residuals: tuple[Residual, ...]
    """Difference of each band from its input; empty where the sensor is not known."""
    counts: RenderCounts


def render_block(
    rendering: Rendering,
    block: Block,
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    wanted: NDArray[np.bool_],
    cache: TileCache | None = None,
) -> Rendered:
    """Compute a block.

    Args:
        rendering: Grid, model and radiometry.
        block: One of the grid's blocks.
        values: The scene's dtype, shape (bands, h, w): the block's source window.
        valid: Same shape; pixels that hold data.
        wanted: Same shape; valid pixels that belong to the result. The others keep nodata, or the value
            of the input pixel they lie in.
        cache: Keeps results of tiles for the blocks beside and below; of the same rendering and scene.
    """
    source = BlockInput(values, valid, wanted)
    bands = output_bands(rendering.groups)
    scale = rendering.upscaler.facts.scale
    shape = (len(bands), block.window.height * scale, block.window.width * scale)
    image = np.empty(shape, dtype=rendering.dtype)
    uncertainty = np.empty(shape, dtype=np.float32) if rendering.uncertainty else None
    residuals = [Residual() for _ in bands if rendering.samplings]
    counts = RenderCounts()
    for number in range(len(rendering.groups)):
        parts = GroupCache(cache, number, rendering.grid, scale)
        for band in _group_bands(rendering, number, block, source, parts, counts):
            slot = bands.index(band.number)
            image[slot], residual = band.finished(rendering, counts)
            if residual is not None:
                residuals[slot] = residual
            if uncertainty is not None:
                uncertainty[slot] = band.finished_uncertainty(scale)
        del band  # so that its planes are not held while the next group is computed
    return Rendered(image, uncertainty, tuple(residuals), counts)


def _group_bands(
    rendering: Rendering,
    number: int,
    block: Block,
    source: BlockInput,
    cache: GroupCache,
    counts: RenderCounts,
) -> list[_Band]:
    """The bands of one group, enlarged over all that is computed for a block."""
    grid, group = rendering.grid, rendering.groups[number]
    call = group_call(
        group, rendering.upscaler_of(number), rendering.radiometry, uncertainty=rendering.uncertainty
    )
    dtype = working_dtype(rendering.dtype, call.linear)
    adjusted = bool(rendering.samplings) and group.through != "nearest"
    if is_repetition(call.upscaler) and rendering.dtype.kind in "iu" and not adjusted:
        dtype = rendering.dtype  # float64 holds whole numbers to 2**53 only
    planes, covered = Mosaic(call, grid, block, source, dtype, cache, counts).blended()
    dn, deviation = planes[: len(group.bands)], planes[len(group.bands) :] if call.uncertainty else None
    if call.radiometry is not None:
        dn = call.radiometry.from_model(dn, out=dn)
        deviation = None if deviation is None else call.radiometry.uncertainty_from_model(deviation)
    whole, corner = grid.computed_window(block), grid.source_window(block)
    read = whole.shifted(-corner.row, -corner.col).slices
    return [
        _Band(
            number=band,
            dn=dn[position],
            uncertainty=None if deviation is None else deviation[position],
            values=source.values[band][read],
            valid=source.valid[band][read],
            wanted=source.wanted[band][read],
            repeated=group.through == "nearest",
            saturated=_saturated(rendering, call, source.values[band], read),
            covered=covered,
            corner=(whole.row, whole.col),
            inner=block.window.shifted(-whole.row, -whole.col),
        )
        for position, band in enumerate(group.bands)
    ]


@dataclass(frozen=True)
class _Band:
    """One band over all that was computed for a block, h x w lr pixels."""

    number: int
    """Its position among the scene's image bands."""
    dn: FloatArray
    """The model's result, not rounded, shape (scale * h, scale * w)."""
    uncertainty: FloatArray | None
    """Standard deviation over the ensemble, in DN, same shape; None where there is no ensemble."""
    values: NDArray[Any]
    """The input in DN, shape (h, w), as are the next three."""
    valid: NDArray[np.bool_]
    """Pixels that hold data."""
    wanted: NDArray[np.bool_]
    """Valid pixels that belong to the result."""
    repeated: bool
    """Whether its pixels are repeated, so that nothing is adjusted or compared."""
    saturated: NDArray[np.bool_] | None
    """Pixels inside flat saturated ground, shape (h, w); None where there is none."""
    covered: NDArray[np.bool_]
    """Pixels over which tiles were computed."""
    corner: tuple[int, int]
    """Row and column of the first pixel, in the region."""
    inner: Window
    """The block itself, counted from that corner."""

    def finished(self, rendering: Rendering, counts: RenderCounts) -> tuple[NDArray[Any], Residual | None]:
        """The block's pixels: consistent if asked for, rounded and marked; and their difference from the input."""
        sampling = rendering.samplings[self.number] if rendering.samplings and not self.repeated else None
        residual = None
        if rendering.consistent and sampling is not None:
            with counts.timed("consistency"):
                # Consistency is possible wherever the sensor's footprint was computed.
                known = self.valid & footprint(self.covered, sampling)
                project(self.dn, self.values, known, sampling, self.corner, quantum_of(rendering.dtype))
        if self.saturated is not None:
            self.dn[repeat_pixels(self.saturated, rendering.upscaler.facts.scale)] = rendering.top
        rounded = self._rounded(rendering)
        if sampling is not None:
            with counts.timed("consistency"):
                residual = self._residual(rounded, sampling)
        image = rounded[self.inner.scaled(rendering.upscaler.facts.scale).slices]
        inner = self.inner.slices
        _mark(image, self.values[inner], self.wanted[inner], rendering)
        return image, residual

    def finished_uncertainty(self, scale: int) -> NDArray[Any]:
        """The block's standard deviations: 0 where there is no ensemble, NaN at pixels that are not wanted."""
        wanted = self.wanted[self.inner.slices]
        if self.uncertainty is None:
            deviation = np.zeros((wanted.shape[0] * scale, wanted.shape[1] * scale), np.float32)
        else:
            deviation = self.uncertainty[self.inner.scaled(scale).slices]
        return np.where(repeat_pixels(wanted, scale), deviation, np.float32(np.nan))

    def _rounded(self, rendering: Rendering) -> NDArray[Any]:
        """In the file's dtype, nowhere above the highest DN, and nowhere equal to nodata."""
        out = to_dtype(self.dn, rendering.dtype)
        if rendering.top is not None and not self.repeated:
            top = out.dtype.type(rendering.top)
            # What the file itself holds is right, however many bits it declares.
            beyond = self.values > top
            limit = (
                repeat_pixels(np.where(beyond, self.values, top), rendering.upscaler.facts.scale)
                if beyond.any()
                else top
            )
            np.minimum(out, limit, out=out)
        if rendering.nodata is not None:
            avoid_nodata(out, rendering.nodata)
        return out

    def _residual(self, rounded: NDArray[Any], sampling: Sampling) -> Residual:
        """Compared where the sensor sees only wanted pixels: whoever has both files can compute it."""
        inner = self.inner.slices
        compared = footprint(self.wanted & self.covered, sampling)[inner]
        seen = degraded(rounded, sampling, self.corner, working_dtype(rounded.dtype, linear=True))
        return Residual.of(seen[inner], self.values[inner], compared)


def _saturated(
    rendering: Rendering, call: GroupCall, values: NDArray[Any], read: tuple[slice, slice]
) -> NDArray[np.bool_] | None:
    """Pixels of one band whose neighbours, too, all hold the highest DN: a network would put structure into noise-free ground.

    Args:
        rendering: Where the highest DN is.
        call: The band's model.
        values: The source window, shape (h, w).
        read: The part of it that is computed.

    Returns:
        Of that part; None where there is none, for an interpolation, and where too little is read around a block.
    """
    axes = rendering.grid.rows, rendering.grid.cols
    known = all(axis.overlap >= 2 * _FLAT_SIDE or axis.tile >= axis.size for axis in axes)
    if rendering.top is None or call.linear or not known or values[read].max() < rendering.top:
        return None
    flat: NDArray[np.bool_] = (
        scipy.ndimage.minimum_filter(values, size=_FLAT_SIDE, mode="nearest")[read] >= rendering.top
    )
    return flat if flat.any() else None


def _mark(image: NDArray[Any], values: NDArray[Any], wanted: NDArray[np.bool_], rendering: Rendering) -> None:
    """Mark the pixels of one band that are not wanted, in place: nodata, or the input's value."""
    if wanted.all():
        return
    scale = rendering.upscaler.facts.scale
    if rendering.nodata is None:
        fine = repeat_pixels(~wanted, scale)
        image[fine] = repeat_pixels(values, scale)[fine]
    else:
        image[repeat_pixels(~wanted, scale)] = nodata_marker(rendering.nodata, rendering.dtype)
