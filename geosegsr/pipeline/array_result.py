"""The result of upscaling an xarray object: what it keeps of its input, and what a file must be able to hold of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rioxarray.rioxarray import affine_to_coords

from geosegsr.pipeline.array_raster import NODATA_NAMES, ArrayRaster
from geosegsr.raster.metadata import is_outdated, scaled_gcp
from geosegsr.raster.window import Window

_PACKING = ("dtype", "rasterio_dtype", "scale_factor", "add_offset", "_Unsigned")
"""What an encoding says about the DN of a file."""


@dataclass(frozen=True)
class Packing:
    """How floats in memory become whole DN in a file: DN = (value - offset) / scale, rounded."""

    dtype: np.dtype[Any]
    """Of the DN."""
    scale: float
    offset: float
    nodata: float | None
    """The DN of pixels without data."""

    @classmethod
    def of(cls, data: xr.DataArray) -> Packing | None:
        """That of an array's encoding; None if a file holds its values as they are."""
        encoding = data.encoding
        dtype = np.dtype(encoding.get("rasterio_dtype") or encoding.get("dtype") or data.dtype)
        if data.dtype.kind != "f" or dtype.kind not in "iu":
            return None
        if encoding.get("_Unsigned") == "true":
            dtype = np.dtype(f"u{dtype.itemsize}")
        scale, offset = encoding.get("scale_factor", 1.0), encoding.get("add_offset", 0.0)
        nodata = data.rio.encoded_nodata
        return cls(dtype, float(scale), float(offset), None if nodata is None else float(nodata))

    def fitted(self, values: NDArray[Any]) -> NDArray[Any]:
        """The values, moved where a file would hold another number or no data: floats of any shape; NaN stays."""
        info = np.iinfo(self.dtype)
        low, high = float(info.min), float(info.max)
        low, high = low + (self.nodata == low), high - (self.nodata == high)
        dn = np.rint((values.astype(np.float64) - self.offset) / self.scale)
        held = np.clip(dn, low, high)
        if self.nodata is not None:
            held += held == self.nodata
        fitted: NDArray[Any] = np.where(
            np.isnan(dn) | (held == dn), values, held * self.scale + self.offset
        ).astype(values.dtype)
        return fitted


def fitted(pixels: Any, data: xr.DataArray) -> Any:
    """Pixels that a file with the encoding of `data` can hold."""
    packing = Packing.of(data)
    return pixels if packing is None else pixels.map_blocks(packing.fitted, dtype=pixels.dtype)


def dressed(
    data: xr.DataArray, raster: ArrayRaster, pixels: Any, kept: tuple[int, ...], scale: int
) -> xr.DataArray:
    """The result with the input's dimensions, coordinates, attributes, encoding and georeference.

    Args:
        data: The input.
        raster: The same, as it was upscaled.
        pixels: Shape (bands, scale * h, scale * w).
        kept: Positions of the input's bands that came out.
        scale: Output pixels per input pixel, along each side.
    """
    y_dim, x_dim = data.rio.y_dim, data.rio.x_dim
    ordered = raster.data
    coords = {
        name: coord.isel({ordered.dims[0]: list(kept)}) if ordered.dims[0] in coord.dims else coord
        for name, coord in ordered.coords.items()
        if not {y_dim, x_dim} & set(coord.dims)
    }
    attrs = {key: value for key, value in data.attrs.items() if not is_outdated(str(key))}
    if raster.nodata is None:
        attrs = {key: value for key, value in attrs.items() if key not in NODATA_NAMES}
    out = xr.DataArray(pixels, dims=ordered.dims, coords=coords, name=data.name, attrs=attrs)
    out.encoding = {key: data.encoding[key] for key in _PACKING if key in data.encoding}
    out = out.rio.write_grid_mapping(data.rio.grid_mapping)
    transform = raster.transform @ Affine.scale(1 / scale)
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


def dressed_dataset(data: xr.Dataset, fine: xr.DataArray, names: list[Any]) -> xr.Dataset:
    """The result of a Dataset, as one: its variables on the finer grid, those that are no bands as they are.

    Args:
        data: The input.
        fine: What its bands became; named by them, where there are several.
        names: The variables that are its bands.
    """
    present = () if len(names) == 1 else [str(band) for band in fine.coords["band"].values]
    spatial = {data.rio.y_dim, data.rio.x_dim}
    variables: dict[Any, Any] = {}
    for name, own in data.data_vars.items():
        if len(names) == 1 and name in names:
            variables[name] = fine
        elif name in names and str(name) in present:
            variables[name] = _variable(own, fine, str(name))
        elif name not in names and not spatial & set(own.dims):
            variables[name] = own.variable  # without coordinates, which are those of the old grid
    attrs = {key: value for key, value in data.attrs.items() if not is_outdated(str(key))}
    return xr.Dataset(variables, attrs=attrs)


def dressed_planes(data: Any, fine: xr.DataArray, planes: Mapping[str, xr.DataArray]) -> xr.Dataset:
    """The result of bands that may have several resolutions: all on one grid.

    Args:
        data: The input; of a Dataset, attributes and variables without rows and columns are kept.
        fine: What its bands became, named by them.
        planes: They themselves, in the order in which they come out.
    """
    present = [str(band) for band in fine.coords["band"].values]
    variables: dict[Any, Any] = {
        name: _variable(own, fine, name) for name, own in planes.items() if name in present
    }
    if not isinstance(data, xr.Dataset):
        return xr.Dataset(variables)
    alone = {name: own.variable for name, own in data.data_vars.items() if not own.dims}
    attrs = {key: value for key, value in data.attrs.items() if not is_outdated(str(key))}
    return xr.Dataset(variables | alone, attrs=attrs)


def _variable(own: xr.DataArray, fine: xr.DataArray, band: str) -> xr.DataArray:
    """One band with the attributes and the encoding of its variable."""
    plane = fine.sel(band=band, drop=True).transpose(*own.dims)
    packing = Packing.of(own)
    if packing is not None:
        plane.data = plane.data.map_blocks(packing.fitted, dtype=plane.dtype)
    plane.attrs = {key: value for key, value in own.attrs.items() if not is_outdated(str(key))}
    plane.attrs.update({key: fine.attrs[key] for key in NODATA_NAMES if key in fine.attrs})
    kept = (*_PACKING, "_FillValue")
    plane.encoding = {**plane.encoding, **{key: own.encoding[key] for key in kept if key in own.encoding}}
    return plane
