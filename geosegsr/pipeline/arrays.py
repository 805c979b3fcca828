"""super_resolve(): the pipeline of `upscale` for an xarray.DataArray, evaluated lazily."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Unpack

import dask.array as da
import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from affine import Affine
from dask.delayed import delayed
from numpy.typing import NDArray
from rioxarray.rioxarray import affine_to_coords

from geosegsr.errors import BandError, ConfigError
from geosegsr.models.catalogue import check_scale, shared_upscaler
from geosegsr.models.contract import DEFAULT_MODEL, Upscaler
from geosegsr.models.ensemble import Ensemble
from geosegsr.notices import warn
from geosegsr.pipeline.layout import plan_rendering
from geosegsr.pipeline.options import RenderOptions, listed, with_defaults
from geosegsr.raster.bands import colour_of
from geosegsr.raster.contract import BandHints
from geosegsr.raster.intake import take_in
from geosegsr.raster.metadata import scaled_gcp
from geosegsr.raster.nodata import is_invalid
from geosegsr.raster.window import Window
from geosegsr.sharpening.nesting import Grid, Nesting
from geosegsr.sharpening.sharpener import Sharpener
from geosegsr.tiling.grid import Block
from geosegsr.tiling.group import output_bands
from geosegsr.tiling.render import Rendering, render_block

_SAMPLE_SIDE = 1024
_SHARPENED_SIDE = 512
"""Pixels along a side of a chunk of an array that a guide sharpens."""


@listed(RenderOptions)
def super_resolve(
    data: xr.DataArray,
    scale: int = 4,
    model: str | Path | Upscaler = DEFAULT_MODEL,
    *,
    guide: xr.DataArray | None = None,
    **options: Unpack[RenderOptions],
) -> xr.DataArray:
    """Upscale an array, block by block and only when it is computed.

    The result has the pixels that `geosegsr.upscale` would write for a file with the same content, as far as an array
    holds it. Valid is what is neither NaN, infinite nor nodata. An alpha band counts as an image, and the mask of a file
    is unknown. Pixels that `masked=True` turned into floats are computed as floats, with the range of floats.

    Args:
        data: Shape (y, x) or (band, y, x) in any order of dimensions, with or without dask; NaN is invalid.
            A band coordinate or `long_name` that says "red", "nir" and so on names the bands.
        scale: Output pixels per input pixel along each side: 2, 3, 4 or 8; 1 to stop at the grid of a guide.
        model: As for `upscale`.
        guide: A sharper array of the same ground, by which `data` is first sharpened to its grid.
        **options: See `geosegsr.pipeline.options.RenderOptions`. `nodata` is by default the array's own
            (`data.rio.nodata`), and blocks are the chunks of the result.

    Returns:
        A dask-backed DataArray of the same dtype, dimensions, name, attributes and CRS, with coordinates and
        transform on the finer grid.

    Raises:
        ConfigError: The scale or the dtype cannot work.
        SceneError: The grids of array and guide do not nest.
        BandError: The dimensions or the bands cannot work.
        TypeError: There is no such option.
    """
    chosen = with_defaults(options, RenderOptions)
    check_scale(scale, guided=guide is not None)
    _refuse_unreal(data)
    nodata = chosen["nodata"]
    asked = None if isinstance(nodata, str) else nodata
    if guide is not None:
        data = _sharpened(data, guide, asked)
    if scale == 1:
        return data
    raster = _ArrayRaster.wrap(data, data.rio.nodata if asked is None else asked)
    _warn_of_alpha(raster)
    upscaler = shared_upscaler(model, scale, device=chosen["device"], precision=chosen["precision"])
    if chosen["ensemble"]:
        upscaler = Ensemble.of(upscaler)
    # An interpolation reads nothing before it is computed; a network needs the range of the values anyway.
    raster, intake = take_in(
        raster, raster.with_nodata, find_nodata=nodata == "auto", by_values=not upscaler.facts.linear
    )
    whole = Window(0, 0, raster.height, raster.width)
    rendering = plan_rendering(raster, upscaler, whole, chosen, intake, measured=False).rendering
    pixels = _lazy_blocks(raster, rendering)
    return _dressed(data, raster, pixels, output_bands(rendering.groups), scale)


def _refuse_unreal(data: xr.DataArray) -> None:
    if data.dtype.kind not in "iuf":
        raise ConfigError(f"Cannot upscale an array of {data.dtype}: needed are real numbers.")


def _sharpened(data: xr.DataArray, guide: xr.DataArray, nodata: float | None) -> xr.DataArray:
    """An array on its guide's grid, lazily; the fit reads parts of both at once."""
    _refuse_unreal(guide)
    coarse = _ArrayRaster.wrap(data, data.rio.nodata if nodata is None else nodata)
    sharp = _ArrayRaster.wrap(guide, guide.rio.nodata)
    sharpener = Sharpener.fitted(Nesting.of(_grid(data, coarse), _grid(guide, sharp)), coarse, sharp)
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
    return _dressed(data, coarse, da.concatenate(rows, axis=1), tuple(range(coarse.count)), ratio)


def _sharpen(
    sharpener: Sharpener,
    window: Window,
    values: NDArray[Any],
    guide: NDArray[Any],
    guide_nodata: float | None,
) -> NDArray[Any]:
    coarse = values, ~is_invalid(values, sharpener.nodata)
    return sharpener(window, coarse, (guide, ~is_invalid(guide, guide_nodata)))[0]


def _grid(data: xr.DataArray, raster: _ArrayRaster) -> Grid:
    transform = data.rio.transform()
    return Grid(
        raster.path, raster.height, raster.width, None if transform.is_identity else transform, data.rio.crs
    )


@dataclass(frozen=True)
class _ArrayRaster:
    """A DataArray as a `Raster` for planning and rendering."""

    data: xr.DataArray
    """Dimensions (band, y, x)."""
    nodata: float | None
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    colours: tuple[str, ...]
    hints: tuple[BandHints, ...]

    def with_nodata(self, nodata: float) -> _ArrayRaster:
        """The same array with another nodata value."""
        return replace(self, nodata=nodata)

    @classmethod
    def wrap(cls, data: xr.DataArray, nodata: float | None) -> _ArrayRaster:
        spatial = data.rio.y_dim, data.rio.x_dim
        others = [dim for dim in data.dims if dim not in spatial]
        if len(others) > 1:
            raise BandError(
                f"Cannot upscale an array of dimensions {data.dims}: needed are two spatial dimensions and at most one of "
                "bands. Select along the others first, for example with .isel(time=0)."
            )
        ordered = data.transpose(*others, *spatial) if others else data.expand_dims("band")
        count = ordered.sizes[ordered.dims[0]]
        names = _band_names(ordered, count)
        colours = tuple(map(colour_of, names))
        return cls(
            ordered,
            None if nodata is None else float(nodata),
            _per_band(data.attrs.get("scale_factor", 1.0), count),
            _per_band(data.attrs.get("add_offset", 0.0), count),
            colours,
            tuple(
                BandHints(band, name, colour)
                for band, (name, colour) in enumerate(zip(names, colours, strict=True), 1)
            ),
        )

    @property
    def path(self) -> str:
        return str(self.data.name or "array")

    @property
    def count(self) -> int:
        return int(self.data.shape[0])

    @property
    def height(self) -> int:
        return int(self.data.shape[1])

    @property
    def width(self) -> int:
        return int(self.data.shape[2])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.data.dtype)

    def read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        values = np.asarray(self.data[(slice(None), *window.slices)])
        return values, ~is_invalid(values, self.nodata)

    def sample(self) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        step = max(1, -(-max(self.height, self.width) // _SAMPLE_SIDE))
        values = np.asarray(self.data[:, ::step, ::step])
        return values, ~is_invalid(values, self.nodata)


def _warn_of_alpha(raster: _ArrayRaster) -> None:
    """Warn of four unnamed bands: the fourth may be alpha, and an array has no colour interpretation."""
    if raster.count == 4 and raster.dtype in (np.uint8, np.uint16) and not any(raster.colours):
        warn(
            f"nothing names the four bands of '{raster.path}': the fourth is taken as an image. "
            "If it is alpha, upscale the file instead, or leave it out by .isel(band=slice(3))"
        )


def _lazy_blocks(raster: _ArrayRaster, rendering: Rendering) -> Any:
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


def _dressed(
    data: xr.DataArray, raster: _ArrayRaster, pixels: Any, kept: tuple[int, ...], scale: int
) -> xr.DataArray:
    """The result with the input's dimensions, coordinates, attributes and georeference."""
    y_dim, x_dim = data.rio.y_dim, data.rio.x_dim
    ordered = raster.data
    coords = {
        name: coord.isel({ordered.dims[0]: list(kept)}) if ordered.dims[0] in coord.dims else coord
        for name, coord in ordered.coords.items()
        if not {y_dim, x_dim} & set(coord.dims)
    }
    out = xr.DataArray(pixels, dims=ordered.dims, coords=coords, name=data.name, attrs=dict(data.attrs))
    transform = data.rio.transform() @ Affine.scale(1 / scale)
    if transform.is_rectilinear and y_dim in data.coords and x_dim in data.coords:
        fine = affine_to_coords(transform, out.sizes[x_dim], out.sizes[y_dim], x_dim=x_dim, y_dim=y_dim)
        out = out.assign_coords(
            {dim: (dim, fine[dim], dict(data.coords[dim].attrs)) for dim in (y_dim, x_dim)}
        )
    if data.rio.crs is not None:
        out = out.rio.write_crs(data.rio.crs)
    if gcps := data.rio.get_gcps():
        whole = Window(0, 0, raster.height, raster.width)
        out = out.rio.write_gcps([scaled_gcp(gcp, scale, whole) for gcp in gcps], data.rio.crs)
    else:
        out = out.rio.write_transform(transform)
    if data.rio.encoded_nodata is not None:  # NaN in memory, another value in a file
        out = out.rio.write_nodata(data.rio.encoded_nodata, encoded=True)
    elif raster.nodata is not None:
        out = out.rio.write_nodata(raster.nodata)
    out.name = data.name
    plain: xr.DataArray = (
        out.transpose(*data.dims) if data.ndim == ordered.ndim else out.isel(band=0, drop=True)
    )
    return plain


def _per_band(value: Any, count: int) -> tuple[float, ...]:
    values = (
        np.broadcast_to(np.asarray(value, dtype=float), (count,))
        if np.size(value) in (1, count)
        else np.ones(count)
    )
    return tuple(float(v) for v in values)


def _band_names(data: xr.DataArray, count: int) -> tuple[str, ...]:
    names = data.attrs.get("long_name", ())
    if isinstance(names, str) or len(names) != count:
        coord = data.coords.get(data.dims[0])
        names = [""] * count if coord is None else [str(value) for value in coord.values]
    return tuple("" if str(name).isdecimal() else str(name) for name in names)
