"""super_resolve(): the pipeline of `upscale` for an xarray.DataArray, evaluated lazily."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack, overload

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
from geosegsr.pipeline.array_groups import groups_of, has_several_grids, is_several, names_of
from geosegsr.pipeline.array_raster import ArrayRaster, bands_of
from geosegsr.pipeline.array_result import dressed, dressed_dataset, dressed_planes, fitted
from geosegsr.pipeline.array_sharpening import on_one_grid, sharpened
from geosegsr.pipeline.array_times import is_cube, over_time
from geosegsr.pipeline.block import TILES
from geosegsr.pipeline.layout import plan_rendering
from geosegsr.pipeline.options import RenderOptions, listed, with_defaults
from geosegsr.raster.intake import look_at, take_in
from geosegsr.raster.nodata import is_invalid
from geosegsr.raster.window import Window
from geosegsr.tiling.cache import TileCache
from geosegsr.tiling.grid import Block
from geosegsr.tiling.group import output_bands
from geosegsr.tiling.render import Rendering, render_block

if TYPE_CHECKING:
    Several: TypeAlias = xr.Dataset | xr.DataTree | Mapping[str, xr.DataArray | xr.Dataset]

_CHUNK = 512
"""Side of a chunk of the result, in its pixels: whoever looks at a small part computes little more."""


@overload
def super_resolve(
    data: xr.DataArray,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    guide: xr.DataArray | None = None,
    **options: Unpack[RenderOptions],
) -> xr.DataArray: ...


@overload
def super_resolve(
    data: Several,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    guide: xr.DataArray | None = None,
    **options: Unpack[RenderOptions],
) -> xr.Dataset: ...


@listed(RenderOptions)
def super_resolve(
    data: xr.DataArray | Several,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    guide: xr.DataArray | None = None,
    **options: Unpack[RenderOptions],
) -> xr.DataArray | xr.Dataset:
    """Upscale an array, block by block and only when it is computed.

    The result has the pixels that `geosegsr.upscale` would write for a file with the same content, as far as an array
    holds it. Valid is what is neither NaN, infinite nor nodata. An alpha band counts as an image, and the mask of a file
    is unknown. Pixels that `masked=True` or `mask_and_scale=True` turned into floats are computed as floats, with the range
    of floats; the encoding is kept, so a file of the result has the DN's dtype, scale, offset and nodata.

    Args:
        data: Shape (y, x) or (band, y, x) in any order of dimensions, with or without dask; NaN is invalid. With a dimension
            "time" each of its moments is upscaled as if it were alone.
            A band coordinate or `long_name` that says "red", "nir" and so on names the bands.
            Or a Dataset whose variables are the bands, of one dtype. Bands of several resolutions, whose pixels divide, are
            first brought to the finest grid, as those of a product: a Dataset with dimensions such as y_20m and x_20m, a
            DataTree with a node for each resolution, or a dictionary of bands or of Datasets.
        scale: Output pixels per input pixel along each side, of the finest bands: 2, 3, 4 or 8; 1 to stop at their grid, or at
            that of a guide.
        model: As for `upscale`.
        guide: A sharper array of the same ground, by which `data` is first sharpened to its grid.
        **options: See `geosegsr.pipeline.options.RenderOptions`. `nodata` is by default the array's own
            (`data.rio.nodata`). `block` is the side of the result's chunks, 512 pixels by default.

    Returns:
        A dask-backed DataArray of the same dtype, dimensions, name, attributes and CRS, with coordinates and
        transform on the finer grid. For anything else a Dataset.

    Raises:
        ConfigError: The kind of object, the scale, the dtype, the coordinates or an option cannot work.
        SceneError: The grids of array and guide do not nest.
        BandError: The dimensions or the bands cannot work.
        TypeError: There is no such option.
    """
    chosen = with_defaults(options, RenderOptions)
    _refuse_others(data, "upscale")
    if guide is not None:
        _refuse_others(guide, "sharpen by")
    if is_cube(data):
        return over_time(
            data, guide, lambda part, own: super_resolve(part, scale, model, guide=own, **options)
        )
    if isinstance(data, xr.DataArray):
        check_scale(scale, guided=guide is not None)
        return _enlarged(data, scale, model, guide, chosen)
    if not isinstance(data, xr.Dataset) or has_several_grids(data):
        return _of_groups(data, scale, model, guide, chosen)
    check_scale(scale, guided=guide is not None)
    bands, names = bands_of(data)
    return dressed_dataset(data, _enlarged(bands, scale, model, guide, chosen), names)


def _refuse_others(data: Any, action: str) -> None:
    """Refuse what is no array of xarray's, nor holds some."""
    several = isinstance(data, xr.Dataset) or is_several(data)
    if isinstance(data, xr.DataArray) or (several and action == "upscale"):
        return
    advice = "Pass a DataArray, such as rioxarray.open_rasterio(FILE)."
    if isinstance(data, str | Path):
        advice = (
            "Pass a DataArray, rioxarray.open_rasterio(FILE), or use geosegsr.upscale(FILE, OUT) for a file."
        )
    elif isinstance(data, np.ndarray):
        advice = "Wrap it first: xarray.DataArray(array, dims=('band', 'y', 'x'))."
    raise ConfigError(f"Cannot {action} an object of type '{type(data).__name__}'. {advice}")


def _of_groups(
    data: Any,
    scale: int,
    model: str | Path | Upscaler,
    guide: xr.DataArray | None,
    chosen: RenderOptions,
) -> xr.Dataset:
    """`super_resolve` for bands that may have several resolutions."""
    groups, order, nodata = groups_of(data), names_of(data), chosen["nodata"]
    if guide is not None and len(groups) > 1:
        raise ConfigError(
            "Cannot use guide= with bands of several resolutions: the finest guide the others. Add it to them, or leave it out."
        )
    check_scale(scale, guided=guide is not None or len(groups) > 1)
    stack, small = on_one_grid(
        groups, order, None if nodata == "auto" else nodata, find_nodata=nodata == "auto"
    )
    fine = _enlarged(stack, scale, model, guide, chosen, small)
    planes = {name: plane for group in groups for name, plane in group.items()}
    return dressed_planes(data, fine, {name: planes[name] for name in order})


def _enlarged(
    data: xr.DataArray,
    scale: int,
    model: str | Path | Upscaler,
    guide: xr.DataArray | None,
    chosen: RenderOptions,
    small: NDArray[Any] | None = None,
) -> xr.DataArray:
    """`super_resolve` for one array; `small` is what its values are like, where it was sharpened before."""
    model = model_at(scale, model)
    if scale == 1 and chosen["ensemble"]:
        raise ConfigError(
            "Cannot use ensemble=True at a scale of 1: no model runs there. Leave it out, or pass scale=2."
        )
    nodata = chosen["nodata"]
    asked = None if nodata == "auto" else nodata
    if guide is not None:
        data = sharpened(data, guide, asked, find_nodata=nodata == "auto")
    if scale == 1:
        return data
    raster = replace(ArrayRaster.wrap(data, asked), small=small)
    _warn_of_alpha(raster)
    upscaler = shared_upscaler(model, scale, device=chosen["device"], precision=chosen["precision"])
    if chosen["ensemble"]:
        upscaler = Ensemble.of(upscaler)
    # An interpolation reads nothing before it is computed; a network needs the range of the values anyway.
    by_values = not upscaler.facts.linear
    if guide is not None or small is not None:  # a collar was found or warned of before
        intake = look_at(raster, by_values=by_values)
    else:
        raster, intake = take_in(
            raster, raster.with_nodata, find_nodata=nodata == "auto", by_values=by_values
        )
    whole = Window(0, 0, raster.height, raster.width)
    chunked: RenderOptions = {**chosen, "block": chosen["block"] or _CHUNK}
    rendering = plan_rendering(raster, upscaler, whole, chunked, intake, measured=False).rendering
    pixels = fitted(_lazy_blocks(raster, rendering), data)
    return dressed(data, raster, pixels, output_bands(rendering.groups), scale)


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
    run = uuid.uuid4().hex  # its blocks share tiles
    rows: dict[int, list[Any]] = {}
    for block in blocks:
        window = rendering.grid.source_window(block)
        values = raster.data.data[(slice(None), *window.slices)]
        lazy = delayed(_render, pure=False)(shared, block.index, values, run)
        shape = (count, block.window.height * scale, block.window.width * scale)
        rows.setdefault(block.window.row, []).append(da.from_delayed(lazy, shape, dtype=rendering.dtype))
    return da.concatenate([da.concatenate(row, axis=2) for row in rows.values()], axis=1)


def _render(rendering: Rendering, index: int, values: NDArray[Any], run: str) -> NDArray[Any]:
    block: Block = rendering.grid.blocks[index]
    valid = ~is_invalid(values, rendering.nodata)
    return render_block(rendering, block, values, valid, valid, TileCache(TILES, run)).image
