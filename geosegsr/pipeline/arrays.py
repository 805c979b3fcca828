"""super_resolve(): the pipeline of `upscale` for an xarray.DataArray, evaluated lazily."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar, Unpack

import dask.array as da
import numpy as np
import xarray as xr
from dask.delayed import delayed
from numpy.typing import NDArray

from geosegsr.errors import ConfigError
from geosegsr.models.catalogue import check_scale, model_at, shared_upscaler
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.models.ensemble import Ensemble
from geosegsr.notices import warn
from geosegsr.pipeline.array_raster import ArrayRaster, bands_of
from geosegsr.pipeline.array_result import Packing, dressed, dressed_dataset
from geosegsr.pipeline.guide import what_guides
from geosegsr.pipeline.layout import plan_rendering
from geosegsr.pipeline.options import RenderOptions, listed, with_defaults
from geosegsr.raster.intake import look_at, take_in
from geosegsr.raster.nodata import is_invalid
from geosegsr.raster.window import Window
from geosegsr.sharpening.nesting import Grid, Nesting
from geosegsr.sharpening.sharpener import Sharpener
from geosegsr.tiling.grid import Block
from geosegsr.tiling.group import output_bands
from geosegsr.tiling.render import Rendering, render_block

_SHARPENED_SIDE = 512
"""Pixels along a side of a chunk of an array that a guide sharpens."""


Array = TypeVar("Array", xr.DataArray, xr.Dataset)


@listed(RenderOptions)
def super_resolve(
    data: Array,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    guide: xr.DataArray | None = None,
    **options: Unpack[RenderOptions],
) -> Array:
    """Upscale an array, block by block and only when it is computed.

    The result has the pixels that `geosegsr.upscale` would write for a file with the same content, as far as an array
    holds it. Valid is what is neither NaN, infinite nor nodata. An alpha band counts as an image, and the mask of a file
    is unknown. Pixels that `masked=True` or `mask_and_scale=True` turned into floats are computed as floats, with the range
    of floats; the encoding is kept, so a file of the result has the DN's dtype, scale, offset and nodata.

    Args:
        data: Shape (y, x) or (band, y, x) in any order of dimensions, with or without dask; NaN is invalid.
            A band coordinate or `long_name` that says "red", "nir" and so on names the bands.
            Or a Dataset whose variables are the bands, of one dtype.
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8; 1 to stop at the grid of a guide.
        model: As for `upscale`.
        guide: A sharper array of the same ground, by which `data` is first sharpened to its grid.
        **options: See `geosegsr.pipeline.options.RenderOptions`. `nodata` is by default the array's own
            (`data.rio.nodata`), and blocks are the chunks of the result.

    Returns:
        A dask-backed DataArray of the same dtype, dimensions, name, attributes and CRS, with coordinates and
        transform on the finer grid. For a Dataset, a Dataset.

    Raises:
        ConfigError: The kind of object, the scale, the dtype, the coordinates or an option cannot work.
        SceneError: The grids of array and guide do not nest.
        BandError: The dimensions or the bands cannot work.
        TypeError: There is no such option.
    """
    chosen = with_defaults(options, RenderOptions)
    check_scale(scale, guided=guide is not None)
    _refuse_others(data, "upscale")
    if guide is not None:
        _refuse_others(guide, "sharpen by")
    if isinstance(data, xr.DataArray):
        return _enlarged(data, scale, model, guide, chosen)
    bands, names = bands_of(data)
    return dressed_dataset(data, _enlarged(bands, scale, model, guide, chosen), names)


def _refuse_others(data: Any, action: str) -> None:
    """Refuse what is no array of xarray's."""
    if isinstance(data, xr.DataArray) or (isinstance(data, xr.Dataset) and action == "upscale"):
        return
    advice = "Pass a DataArray, such as rioxarray.open_rasterio(FILE)."
    if isinstance(data, str | Path):
        advice = (
            "Pass a DataArray, rioxarray.open_rasterio(FILE), or use geosegsr.upscale(FILE, OUT) for a file."
        )
    elif isinstance(data, np.ndarray):
        advice = "Wrap it first: xarray.DataArray(array, dims=('band', 'y', 'x'))."
    raise ConfigError(f"Cannot {action} an object of type '{type(data).__name__}'. {advice}")


def _enlarged(
    data: xr.DataArray,
    scale: int,
    model: str | Path | Upscaler,
    guide: xr.DataArray | None,
    chosen: RenderOptions,
) -> xr.DataArray:
    """`super_resolve` for one array."""
    model = model_at(scale, model)
    if scale == 1 and chosen["ensemble"]:
        raise ConfigError(
            "Cannot use ensemble=True at a scale of 1: no model runs there. Leave it out, or pass scale=2."
        )
    nodata = chosen["nodata"]
    asked = None if nodata == "auto" else nodata
    if guide is not None:
        data = _sharpened(data, guide, asked, find_nodata=nodata == "auto")
    if scale == 1:
        return data
    raster = ArrayRaster.wrap(data, asked)
    _warn_of_alpha(raster)
    upscaler = shared_upscaler(model, scale, device=chosen["device"], precision=chosen["precision"])
    if chosen["ensemble"]:
        upscaler = Ensemble.of(upscaler)
    # An interpolation reads nothing before it is computed; a network needs the range of the values anyway.
    by_values = not upscaler.facts.linear
    if guide is not None:  # a collar was found or warned of before
        intake = look_at(raster, by_values=by_values)
    else:
        raster, intake = take_in(
            raster, raster.with_nodata, find_nodata=nodata == "auto", by_values=by_values
        )
    whole = Window(0, 0, raster.height, raster.width)
    rendering = plan_rendering(raster, upscaler, whole, chosen, intake, measured=False).rendering
    pixels = _fitted(_lazy_blocks(raster, rendering), data)
    return dressed(data, raster, pixels, output_bands(rendering.groups), scale)


def _fitted(pixels: Any, data: xr.DataArray) -> Any:
    """Pixels that a file with the encoding of `data` can hold."""
    packing = Packing.of(data)
    return pixels if packing is None else pixels.map_blocks(packing.fitted, dtype=pixels.dtype)


def _sharpened(
    data: xr.DataArray, guide: xr.DataArray, nodata: float | None, *, find_nodata: bool
) -> xr.DataArray:
    """An array on its guide's grid, lazily; the fit reads parts of both at once."""
    wrapped = ArrayRaster.wrap(data, nodata)
    coarse, intake = take_in(wrapped, wrapped.with_nodata, find_nodata=find_nodata)
    sharp = _guide_of(ArrayRaster.wrap(guide), find_nodata=find_nodata)
    sharpener = Sharpener.fitted(Nesting.of(_grid(coarse), _grid(sharp)), coarse, sharp, intake.kinds)
    ratio, shared = sharpener.nesting.ratio, delayed(sharpener, pure=False, traverse=False)
    height, width = coarse.height * ratio, coarse.width * ratio
    rows = []
    for row in range(0, height, _SHARPENED_SIDE):
        cols = []
        for col in range(0, width, _SHARPENED_SIDE):
            window = Window(row, col, _SHARPENED_SIDE, _SHARPENED_SIDE).intersection(
                Window(0, 0, height, width)
            )
            wide = sharpener.coarse_window(window)
            part = sharpener.nesting.read(wide.scaled(ratio)) or Window(0, 0, 0, 0)
            lazy = delayed(_sharpen, pure=False)(
                shared, window, coarse.data.data[(slice(None), *wide.slices)],
                sharp.data.data[(slice(None), *part.slices)], sharp.nodata,
            )  # fmt: skip
            shape = (coarse.count, window.height, window.width)
            cols.append(da.from_delayed(lazy, shape, dtype=coarse.dtype))
        rows.append(da.concatenate(cols, axis=2))
    pixels = _fitted(da.concatenate(rows, axis=1), data)
    return dressed(data, coarse, pixels, tuple(range(coarse.count)), ratio)


def _guide_of(guide: ArrayRaster, *, find_nodata: bool) -> ArrayRaster:
    """The bands of a guide that are images; see `geosegsr.pipeline.guide`."""
    images, nodata = what_guides(
        guide,
        find_nodata=find_nodata,
        advice="pass nodata='auto', or declare it: guide.rio.write_nodata({value:g})",
    )
    chosen = guide if len(images) == guide.count else guide.with_bands(images)
    return chosen if nodata is None else chosen.with_nodata(nodata)


def _sharpen(
    sharpener: Sharpener,
    window: Window,
    values: NDArray[Any],
    guide: NDArray[Any],
    guide_nodata: float | None,
) -> NDArray[Any]:
    coarse = values, ~is_invalid(values, sharpener.nodata)
    return sharpener(window, coarse, (guide, ~is_invalid(guide, guide_nodata)))[0]


def _grid(raster: ArrayRaster) -> Grid:
    transform = None if raster.transform.is_identity else raster.transform
    return Grid(raster.path, raster.height, raster.width, transform, raster.data.rio.crs)


def _warn_of_alpha(raster: ArrayRaster) -> None:
    """Warn of four unnamed bands: the fourth may be alpha, and an array has no colour interpretation."""
    if raster.count == 4 and raster.dtype in (np.uint8, np.uint16) and not any(raster.colours):
        warn(
            f"nothing names the four bands of '{raster.path}': the fourth is taken as an image. "
            "If it is alpha, upscale the file instead, or leave it out by .isel(band=slice(3))"
        )


def _lazy_blocks(raster: ArrayRaster, rendering: Rendering) -> Any:
    """A dask array of shape (bands, rows, cols), with one delayed call per block."""
    scale, count = rendering.upscaler.facts.scale, len(output_bands(rendering.groups))
    blocks = rendering.grid.blocks
    shared = delayed(rendering, pure=False, traverse=False)
    rows: dict[int, list[Any]] = {}
    for block in blocks:
        window = rendering.grid.source_window(block)
        values = raster.data.data[(slice(None), *window.slices)]
        lazy = delayed(_render, pure=False)(shared, block.index, values)
        shape = (count, block.window.height * scale, block.window.width * scale)
        rows.setdefault(block.window.row, []).append(da.from_delayed(lazy, shape, dtype=rendering.dtype))
    return da.concatenate([da.concatenate(row, axis=2) for row in rows.values()], axis=1)


def _render(rendering: Rendering, index: int, values: NDArray[Any]) -> NDArray[Any]:
    block: Block = rendering.grid.blocks[index]
    valid = ~is_invalid(values, rendering.nodata)
    return render_block(rendering, block, values, valid, valid).image
