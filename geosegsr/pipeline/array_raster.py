"""An xarray object as a raster: what is accepted, and what planning and rendering see of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rioxarray.exceptions import DimensionError

from geosegsr.errors import BandError, ConfigError
from geosegsr.notices import warn
from geosegsr.raster.bands import colour_of
from geosegsr.raster.contract import BandHints
from geosegsr.raster.fitness import fits
from geosegsr.raster.nodata import is_invalid
from geosegsr.raster.window import Window

_SAMPLE_SIDE = 1024
NODATA_NAMES = ("_FillValue", "missing_value", "fill_value", "nodata")
"""Attributes that may hold the value of pixels without data, as rioxarray reads them."""
_UNEVEN = 0.002
"""Share of a step by which the steps of a regular coordinate may differ. Those of Gaussian latitudes differ by 0.008."""
_ROUNDING = 4
"""Units in the last place of a coordinate's dtype by which they may differ in any case."""


@dataclass(frozen=True)
class ArrayRaster:
    """A DataArray as a `Raster` for planning and rendering."""

    data: xr.DataArray
    """Dimensions (band, y, x)."""
    transform: Affine
    """(col, row) of pixel corners to coordinates."""
    nodata: float | None
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    colours: tuple[str, ...]
    hints: tuple[BandHints, ...]
    small: NDArray[Any] | None = None
    """What `sample` gives where reading it would compute all pixels, shape (bands, h, w)."""

    def with_nodata(self, nodata: float) -> ArrayRaster:
        """The same array with another nodata value."""
        return replace(self, nodata=nodata)

    def with_bands(self, positions: Sequence[int]) -> ArrayRaster:
        """Some of the bands, by their positions from 0."""
        return replace(
            self,
            data=self.data[list(positions)],
            scales=tuple(self.scales[at] for at in positions),
            offsets=tuple(self.offsets[at] for at in positions),
            colours=tuple(self.colours[at] for at in positions),
            hints=tuple(self.hints[at] for at in positions),
            small=None if self.small is None else self.small[list(positions)],
        )

    @classmethod
    def wrap(cls, data: xr.DataArray, nodata: float | None = None) -> ArrayRaster:
        """Check an array.

        Args:
            data: Dimensions y, x and at most one more, in any order.
            nodata: Overrides the array's own.

        Raises:
            ConfigError: The dtype, the coordinates or nodata cannot work.
            BandError: The dimensions cannot work.
        """
        name = str(data.name or "array")
        if data.dtype.kind not in "iuf":
            raise ConfigError(f"Cannot upscale an array of {data.dtype}: needed are real numbers.")
        spatial = _spatial_dims(data)
        others = [dim for dim in data.dims if dim not in spatial]
        if len(others) > 1:
            raise BandError(
                f"Cannot upscale an array of dimensions {data.dims}: needed are two spatial dimensions and at most one of "
                "bands. Select along the others first, for example with .isel(time=0)."
            )
        if not data.size:
            raise ConfigError(f"Cannot upscale '{name}': it has no pixels (shape {data.shape}).")
        for dim in spatial:
            _refuse_irregular(data, dim, name)
        ordered = data.transpose(*others, *spatial) if others else data.expand_dims("band")
        count = ordered.sizes[ordered.dims[0]]
        names = _band_names(ordered, count)
        colours = tuple(map(colour_of, names))
        return cls(
            ordered,
            transform_of(data, *spatial),
            _nodata(data, nodata, name),
            _per_band(data.attrs.get("scale_factor", 1.0), count),
            _per_band(data.attrs.get("add_offset", 0.0), count),
            colours,
            tuple(BandHints(band, *said) for band, said in enumerate(zip(names, colours, strict=True), 1)),
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
        values = self.every_nth() if self.small is None else self.small
        return values, ~is_invalid(values, self.nodata)

    def every_nth(self) -> NDArray[Any]:
        """Pixels at equal steps, at most 1024 along a side; shape (bands, h, w)."""
        step = max(1, -(-max(self.height, self.width) // _SAMPLE_SIDE))
        return np.asarray(self.data[:, ::step, ::step])


def bands_of(data: xr.Dataset) -> tuple[xr.DataArray, list[Any]]:
    """The bands of a Dataset as one array.

    Returns:
        The array, and the names of the variables that are its bands: one where a variable has a dimension of bands.

    Raises:
        BandError: They cannot be upscaled together.
    """
    spatial = set(_spatial_dims(data))
    names = [name for name, variable in data.data_vars.items() if spatial <= set(variable.dims)]
    flat = [name for name in names if set(data[name].dims) == spatial]
    if len(names) == 1:
        return data[names[0]], names
    if not names or flat != names:
        raise BandError(
            f"Cannot upscale a Dataset of {_listed(data.data_vars)}: its variables are not planes of one grid. "
            "Pass one of them, for example data['NAME']."
        )
    planes = {str(name): data[name] for name in names}
    refuse_unlike(planes)
    return together(planes), names


def refuse_unlike(planes: Mapping[str, xr.DataArray]) -> None:
    """Refuse bands that one array cannot hold.

    Raises:
        BandError: They have several dtypes or nodata values.
    """
    for what, found in (
        ("dtypes", {str(plane.dtype) for plane in planes.values()}),
        ("nodata values", {str(plane.rio.nodata) for plane in planes.values()}),
    ):
        if len(found) > 1:
            raise BandError(
                f"Cannot upscale a Dataset of {_listed(planes)}: its variables have different {what} "
                f"({', '.join(sorted(found))}). Pass those that are alike, for example data[['A', 'B']]."
            )


def together(planes: Mapping[str, xr.DataArray]) -> xr.DataArray:
    """Bands of one grid as one array, with their names as the coordinate of its first dimension, "band"."""
    bare = [plane.copy(deep=False) for plane in planes.values()]
    for plane in bare:
        plane.attrs = {}  # each has its own
    stacked = xr.concat(bare, dim="band", coords="minimal", compat="override", join="override")
    stacked = stacked.assign_coords(band=("band", list(planes)))
    first = next(iter(planes.values()))
    attrs = {
        key: [plane.attrs.get(key, default) for plane in planes.values()]
        for key, default in (("scale_factor", 1.0), ("add_offset", 0.0))
    }
    mapping = {key: first.encoding[key] for key in ("grid_mapping",) if key in first.encoding}
    stacked.attrs, stacked.encoding, stacked.name = attrs, mapping, None  # each is packed in its own way
    nodata = first.rio.nodata
    if nodata is not None and first.rio.encoded_nodata is None:
        stacked = stacked.rio.write_nodata(nodata)
    return stacked


def _spatial_dims(data: xr.DataArray | xr.Dataset) -> tuple[Any, Any]:
    """The dimensions of rows and of columns."""
    try:
        return data.rio.y_dim, data.rio.x_dim
    except DimensionError:
        raise BandError(
            f"Cannot tell rows and columns among the dimensions {tuple(data.dims)}: needed are y and x, or latitude and "
            "longitude. Rename them, for example data.rename(lat='y', lon='x')."
        ) from None


def _listed(names: Any) -> str:
    found = [f"'{name}'" for name in names]
    return ", ".join(found[:6]) + (", ..." if len(found) > 6 else "") or "no variables"


def _refuse_irregular(data: xr.DataArray, dim: Any, name: str) -> None:
    """Refuse a coordinate whose pixels do not follow each other in equal steps."""
    if dim not in data.coords or data.sizes[dim] < 3:
        return
    values = np.asarray(data.coords[dim].values)
    if values.dtype.kind not in "iuf":
        return
    steps = np.diff(values.astype(np.float64))
    mean = (float(values[-1]) - float(values[0])) / len(steps)
    rounding = np.finfo(values.dtype).eps if values.dtype.kind == "f" else 0.0
    allowed = _UNEVEN * abs(mean) + _ROUNDING * rounding * float(np.abs(values).max())
    wrong = np.flatnonzero(~(np.abs(steps - mean) <= allowed))
    if not mean or wrong.size:
        at = int(wrong[0]) if wrong.size else 0
        raise ConfigError(
            f"Cannot upscale '{name}': its coordinate '{dim}' is not regular. Steps are {mean:g} on average, and from "
            f"{values[at]} to {values[at + 1]} at position {at}. Sort it by data.sortby('{dim}'), fill gaps, or bring it "
            f"to a regular grid: data.interp({dim}=...). If its values are only rounded, replace them: "
            f"data.assign_coords({dim}=numpy.linspace({values[0]}, {values[-1]}, {len(values)}))."
        )


def transform_of(data: xr.DataArray, y_dim: Any, x_dim: Any) -> Affine:
    """The one that the array states, unless its coordinates say otherwise: a selection keeps the statement of the whole."""
    stated: Affine = data.rio.transform()
    if not stated.is_rectilinear or not {y_dim, x_dim} <= set(data.coords):
        return stated
    found = (float(data.coords[x_dim][0]), float(data.coords[y_dim][0]))
    cols, rows = (~stated) @ found
    last_cols, last_rows = (~stated) @ (float(data.coords[x_dim][-1]), float(data.coords[y_dim][-1]))
    expected = (0.5, 0.5, data.sizes[x_dim] - 0.5, data.sizes[y_dim] - 0.5)
    if np.allclose((cols, rows, last_cols, last_rows), expected, rtol=0, atol=0.05):
        return stated
    recalculated: Affine = data.rio.transform(recalc=True)
    return recalculated


def _nodata(data: xr.DataArray, given: float | None, name: str) -> float | None:
    """The value of pixels without data, if a pixel can have it."""
    if given is None:
        try:
            declared = data.rio.nodata
        except OverflowError:  # no pixel can have it
            declared = next(data.attrs[key] for key in NODATA_NAMES if key in data.attrs)
        if declared is None or fits(float(declared), data.dtype):
            return None if declared is None else float(declared)
        warn(f"'{name}' declares nodata {declared}, which no {data.dtype} pixel can have: nodata is ignored")
        return None
    try:
        value = float(given)
    except (TypeError, ValueError):
        raise ConfigError(f"Cannot use nodata {given!r} for '{name}': pass a number, nodata=V.") from None
    if not fits(value, data.dtype):
        info = np.iinfo(data.dtype)
        raise BandError(
            f"Cannot use nodata {value:g} for '{name}': no {data.dtype} pixel can have that value. "
            f"Pass nodata=V with a whole number from {info.min} to {info.max}."
        )
    return value


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
