"""Bands of several resolutions in xarray objects: which variables lie on one grid, from the finest to the coarsest."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import xarray as xr
from affine import Affine
from rioxarray.exceptions import DimensionError

from geosegsr.errors import BandError
from geosegsr.pipeline.array_raster import refuse_unlike, transform_of

Planes: TypeAlias = dict[str, xr.DataArray]
"""Bands by name, each of two dimensions: rows and columns."""
_AXIS = re.compile(r"([xy])(?:[_\d].*)?")
"""Names of dimensions that each resolution has for itself: x, y, x_20m, y20m."""


def is_several(data: Any) -> bool:
    """Whether an object holds several arrays or Datasets: a mapping or a DataTree."""
    return isinstance(data, Mapping) and not isinstance(data, xr.Dataset)


def groups_of(data: Any) -> list[Planes]:
    """The bands of each resolution, the finest first. A band that several have counts once, in the finest.

    Args:
        data: A Dataset, whose variables may have dimensions of their own for each resolution, such as y_20m and x_20m; a
            DataTree, whose nodes have them; or a mapping from names to Datasets, or to DataArrays of one band each.

    Raises:
        BandError: There are no bands, a DataArray holds several, or they have several dtypes or nodata values.
    """
    grids: dict[tuple[Affine, int, int], Planes] = {}
    for name, plane in _planes(data):
        grids.setdefault(_grid_of(plane), {}).setdefault(name, plane)
    found: list[Planes] = []
    for grid in sorted(grids, key=lambda grid: (abs(grid[0].determinant), -grid[1] * grid[2])):
        known = {name for group in found for name in group}
        found.append({name: plane for name, plane in grids[grid].items() if name not in known})
    groups = [group for group in found if group]
    if not groups:
        raise BandError(
            "Cannot upscale what holds no bands: needed are variables of rows and columns, y and x. Pass such a Dataset."
        )
    refuse_unlike({name: plane for group in groups for name, plane in group.items()})
    return groups


def names_of(data: Any) -> list[str]:
    """Names of all bands, in the order in which they are given."""
    return list(dict.fromkeys(name for name, _ in _planes(data)))


def has_several_grids(data: xr.Dataset) -> bool:
    """Whether the variables of a Dataset have several pairs of rows and columns."""
    pairs = {frozenset(_axes(variable).values()) for variable in data.data_vars.values()}
    return len(pairs - {frozenset()}) > 1


def _planes(data: Any) -> Iterator[tuple[str, xr.DataArray]]:
    if isinstance(data, xr.Dataset):
        for name, variable in data.data_vars.items():
            if (plane := _plane(variable)) is not None:
                yield str(name), plane
    elif hasattr(data, "subtree"):  # a DataTree, which older releases of xarray lack
        for node in data.subtree:
            yield from _planes(node.to_dataset())
    else:
        for name, part in data.items():
            if isinstance(part, xr.Dataset):
                yield from _planes(part)
                continue
            plane = _plane(part) if isinstance(part, xr.DataArray) else None
            if plane is None:
                shown = tuple(part.dims) if isinstance(part, xr.DataArray) else type(part).__name__
                raise BandError(
                    f"Cannot upscale '{name}' among others: it is {shown}, and needed is an array of one band, y and x. "
                    "Pass its bands one by one, or a Dataset of them."
                )
            yield str(name), plane


def _plane(variable: xr.DataArray) -> xr.DataArray | None:
    """A variable with rows and columns as its dimensions, in this order; None if it is no plane."""
    if variable.ndim == 3 and variable.shape[0] == 1:
        variable = variable.isel({variable.dims[0]: 0}, drop=True)
    if variable.ndim != 2:
        return None
    axes = _axes(variable)
    if axes:
        own = {dim: axis for axis, dim in axes.items() if dim != axis}
        clash = [name for name in variable.coords if name in own.values() and name not in variable.dims]
        return variable.drop_vars(clash).rename(own).transpose("y", "x")
    try:
        return variable.transpose(variable.rio.y_dim, variable.rio.x_dim)
    except DimensionError:
        return None


def _axes(variable: xr.DataArray) -> dict[str, Any]:
    """The dimensions of columns and rows, by "x" and "y"; empty if they have other names."""
    found = {match[1]: dim for dim in variable.dims if (match := _AXIS.fullmatch(str(dim)))}
    return found if len(found) == 2 else {}


def _grid_of(plane: xr.DataArray) -> tuple[Affine, int, int]:
    """Transform, without the rounding of coordinates, and size."""
    transform = transform_of(plane, *plane.dims)
    height, width = plane.shape
    return Affine(*(float(f"{value:.9g}") for value in transform[:6])), height, width
