"""Arrays on the grid of their guide, and bands of several resolutions on one grid, lazily."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
import xarray as xr
from affine import Affine
from dask.delayed import delayed
from numpy.typing import NDArray

from geosegsr.errors import SceneError
from geosegsr.pipeline.array_groups import Planes
from geosegsr.pipeline.array_raster import ArrayRaster, together
from geosegsr.pipeline.array_result import dressed, fitted
from geosegsr.pipeline.guide import what_guides
from geosegsr.raster.intake import take_in
from geosegsr.raster.nodata import is_invalid
from geosegsr.raster.window import Window
from geosegsr.sharpening.nesting import Grid, Nesting
from geosegsr.sharpening.sharpener import Sharpener

_SIDE = 512
"""Pixels along a side of a chunk."""


def sharpened(
    data: xr.DataArray,
    guide: xr.DataArray,
    nodata: float | None,
    *,
    find_nodata: bool,
    inside: bool = False,
) -> xr.DataArray:
    """An array on its guide's grid, lazily; the fit reads parts of both at once.

    Args:
        data: What is sharpened.
        guide: A sharper array of the same ground.
        nodata: Overrides the value of pixels without data of `data`.
        find_nodata: Whether the value of an undeclared collar is taken for nodata.
        inside: Whether only the ground of the guide comes out, all of which `data` must show.

    Raises:
        SceneError: The grids do not nest, or `data` shows less ground.
        BandError: None of the bands is an image.
    """
    wrapped = ArrayRaster.wrap(data, nodata)
    coarse, intake = take_in(wrapped, wrapped.with_nodata, find_nodata=find_nodata)
    sharp = _guide_of(ArrayRaster.wrap(guide), find_nodata=find_nodata)
    nesting = Nesting.of(_grid(coarse), _grid(sharp))
    whole = Window(0, 0, coarse.height * nesting.ratio, coarse.width * nesting.ratio)
    area = Window(nesting.row, nesting.col, nesting.height, nesting.width) if inside else whole
    if not whole.contains(area):
        raise SceneError(
            f"Cannot bring '{coarse.path}' to the grid of '{sharp.path}': it shows less ground. "
            "Crop the finer bands to it first, for example by .rio.clip_box(...)."
        )
    sharpener = Sharpener.fitted(nesting, coarse, sharp, intake.kinds)
    pixels = fitted(_blocks(sharpener, coarse, sharp, area), data)
    if not sharp.transform.is_identity:
        corner = Affine.translation(area.col - nesting.col, area.row - nesting.row)
        coarse = replace(coarse, transform=sharp.transform @ corner @ Affine.scale(nesting.ratio))
    return dressed(data, coarse, pixels, tuple(range(coarse.count)), nesting.ratio)


def on_one_grid(
    groups: Sequence[Planes], order: Sequence[str], nodata: float | None, *, find_nodata: bool
) -> tuple[xr.DataArray, NDArray[Any] | None]:
    """Bands of several resolutions on the finest grid: each coarser group is sharpened by all finer ones.

    Args:
        groups: Bands by resolution, from the finest.
        order: All names, in the order in which the bands come out.
        nodata: As in `sharpened`.
        find_nodata: Likewise.

    Returns:
        An array of dimensions (band, y, x) with a coordinate of names, computed lazily; and what its values are like, so that
        nothing has to be computed for it: every n-th pixel of the bands as they were given, shape (bands, h, w). None where
        there is one group only.
    """
    stack = together(groups[0])
    if len(groups) == 1:
        return stack.isel(band=[list(groups[0]).index(name) for name in order]), None
    wrapped = ArrayRaster.wrap(stack, nodata)
    finest, _ = take_in(wrapped, wrapped.with_nodata, find_nodata=find_nodata)
    if finest.nodata is not None and stack.rio.encoded_nodata is None:
        stack = stack.rio.write_nodata(finest.nodata)
    if not finest.transform.is_identity:  # what the array states may be that of another resolution
        stack = stack.rio.write_transform(finest.transform)
    small = finest.every_nth()
    for group in groups[1:]:
        coarse = together(group)
        fine = sharpened(coarse, stack, finest.nodata, find_nodata=find_nodata, inside=True)
        small = np.concatenate([small, _resized(ArrayRaster.wrap(coarse).every_nth(), small.shape[1:])])
        stack = _with(stack, fine)
    at = [list(stack.coords["band"].values).index(name) for name in order]
    chosen = stack.isel(band=at)
    chosen.attrs = {
        key: [value[i] for i in at] if isinstance(value, list) else value
        for key, value in stack.attrs.items()
    }
    return chosen, small[at]


def _with(stack: xr.DataArray, fine: xr.DataArray) -> xr.DataArray:
    """Both after each other, as one array; scales and offsets are lists of all bands."""
    both = xr.concat([stack, fine], dim="band", coords="minimal", compat="override", join="override")
    both.attrs = {
        key: [*value, *fine.attrs[key]] if isinstance(value, list) else value
        for key, value in stack.attrs.items()
    }
    both.encoding = stack.encoding
    return both


def _resized(values: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The nearest pixels on another grid of the same ground, shape (bands, h, w)."""
    rows, cols = (
        np.arange(wanted) * found // wanted for wanted, found in zip(shape, values.shape[1:], strict=True)
    )
    return values[:, rows[:, None], cols]


def _blocks(sharpener: Sharpener, coarse: ArrayRaster, sharp: ArrayRaster, area: Window) -> Any:
    """A part of the fine grid as a dask array of shape (bands, h, w)."""
    ratio, shared = sharpener.nesting.ratio, delayed(sharpener, pure=False, traverse=False)
    rows = []
    for row in range(area.row, area.row + area.height, _SIDE):
        cols = []
        for col in range(area.col, area.col + area.width, _SIDE):
            window = Window(row, col, _SIDE, _SIDE).intersection(area)
            wide = sharpener.coarse_window(window)
            part = sharpener.nesting.read(wide.scaled(ratio)) or Window(0, 0, 0, 0)
            lazy = delayed(_sharpen, pure=False)(
                shared, window, coarse.data.data[(slice(None), *wide.slices)],
                sharp.data.data[(slice(None), *part.slices)], sharp.nodata,
            )  # fmt: skip
            shape = (coarse.count, window.height, window.width)
            cols.append(da.from_delayed(lazy, shape, dtype=coarse.dtype))
        rows.append(da.concatenate(cols, axis=2))
    return da.concatenate(rows, axis=1)


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
