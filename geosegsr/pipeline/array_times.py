"""Cubes over time: each moment is a scene of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeGuard

import xarray as xr

from geosegsr.errors import BandError, ConfigError

TIME = "time"
"""Name of the dimension; xarray's own convention, that of odc-stac and stackstac too."""
Upscale: TypeAlias = Callable[[Any, xr.DataArray | None], Any]
"""Upscales what one moment holds, by the guide of that moment."""
Cube: TypeAlias = xr.DataArray | xr.Dataset


def is_cube(data: Any) -> TypeGuard[Cube]:
    """Whether an object has the dimension of time."""
    return isinstance(data, xr.DataArray | xr.Dataset) and TIME in data.dims


def over_time(data: Cube, guide: xr.DataArray | None, upscale: Upscale) -> Cube:
    """Upscale each moment of a cube as if it were alone.

    Args:
        data: Dimensions (time, band, y, x) or (time, y, x) in any order; or a Dataset of such variables. Variables without
            rows and columns stay as they are.
        guide: A sharper array of the same ground, for all moments, or with a moment for each.
        upscale: What is done with one of them.

    Returns:
        The results along time, with the order of dimensions, the coordinates over time and the encoding of `data`.

    Raises:
        ConfigError: There is no moment.
        BandError: The guide has other moments.
    """
    count = data.sizes[TIME]
    if not count:
        raise ConfigError("Cannot upscale a cube without any time. Check how it was selected.")
    if guide is not None and guide.sizes.get(TIME, count) != count:
        raise BandError(
            f"Cannot sharpen {count} times by a guide of {guide.sizes[TIME]}: pass one for each, or a single one without the "
            "dimension 'time'."
        )
    own = [name for name, coord in data.coords.items() if TIME in coord.dims]
    bare = data.drop_vars(own)  # in a slice they would pass for coordinates of the whole
    flat = [name for name in _variables(data) if TIME in bare[name].dims and bare[name].ndim < 3]
    if isinstance(bare, xr.Dataset):
        bare = bare.drop_vars(flat)
    varies = guide is not None and TIME in guide.dims
    steps = [
        upscale(bare.isel({TIME: at}), guide.isel({TIME: at}) if varies and guide is not None else guide)
        for at in range(count)
    ]
    how: Any = {"dim": TIME, "coords": "minimal", "compat": "override", "combine_attrs": "override"}
    if isinstance(bare, xr.Dataset):  # variables without time are those of the first moment
        how["data_vars"] = [name for name in steps[0].data_vars if TIME in bare[name].dims]
    joined = xr.concat(steps, **how)
    fine: Cube = _dressed(joined, steps[0], data, own, flat)
    return fine


def _variables(data: xr.DataArray | xr.Dataset) -> list[Any]:
    return list(data.data_vars) if isinstance(data, xr.Dataset) else []


def _dressed(joined: Any, first: Any, data: Cube, own: list[Any], flat: list[Any]) -> Any:
    """With the order of dimensions, the encoding and the coordinates over time."""
    spatial = {data.rio.y_dim, data.rio.x_dim}
    kept = {name: data.coords[name].variable for name in own if not spatial & set(data.coords[name].dims)}
    joined = joined.assign_coords(kept)
    if isinstance(data, xr.DataArray):
        joined.encoding, joined.name = dict(first.encoding), data.name
        return joined.transpose(*data.dims)
    for name, variable in joined.data_vars.items():
        if TIME in variable.dims:
            joined[name] = variable.transpose(*data[name].dims)
            joined[name].encoding = dict(first[name].encoding)
    return joined.assign({name: data[name].variable for name in flat})
