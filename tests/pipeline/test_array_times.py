"""Cubes over time: each moment is upscaled as if it were alone."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import geosegsr
import geosegsr.xarray
from geosegsr.errors import BandError, ConfigError

TIMES = np.array(["2024-05-01", "2024-05-11", "2024-06-01"], "datetime64[ns]")
HOW = {"scale": 2, "model": "bicubic"}


def cube(*, chunks: dict[str, int] | None = None) -> xr.DataArray:
    rng = np.random.default_rng(0)
    data = xr.DataArray(
        rng.integers(0, 1000, (3, 2, 20, 30), dtype=np.uint16),
        dims=("time", "band", "y", "x"),
        coords={
            "time": TIMES, "band": ["red", "nir"], "y": 5000.0 - 10 * np.arange(20), "x": 10.0 * np.arange(30),
            "cloud": ("time", [0.1, 0.2, 0.3]), "wavelength": ("band", [665, 842]),
        },
        name="reflectance", attrs={"note": "kept"},
    )  # fmt: skip
    data = data.rio.write_crs(32632).rio.write_nodata(0)
    return data if chunks is None else data.chunk(chunks)


@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 7}], ids=["numpy", "dask"])
def test_each_time_is_as_if_it_were_alone(chunks: dict[str, int] | None) -> None:
    data = cube(chunks=chunks)
    fine = geosegsr.super_resolve(data, **HOW)
    assert fine.dims == data.dims and fine.shape == (3, 2, 40, 60) and fine.dtype == data.dtype
    assert fine.name == "reflectance" and fine.attrs["note"] == "kept"
    assert fine.rio.crs == data.rio.crs and fine.rio.nodata == 0 and fine.rio.resolution() == (5, -5)
    for name in ("time", "band", "cloud", "wavelength"):
        xr.testing.assert_equal(fine.coords[name].variable, data.coords[name].variable)
    for at in range(3):
        alone = geosegsr.super_resolve(data.isel(time=at), **HOW)
        np.testing.assert_array_equal(fine.isel(time=at).values, alone.values)


def test_the_order_of_dimensions_is_kept() -> None:
    expected = geosegsr.super_resolve(cube(), **HOW)
    for order in (("y", "x", "time", "band"), ("band", "time", "y", "x")):
        found = geosegsr.super_resolve(cube().transpose(*order), **HOW)
        assert found.dims == order
        np.testing.assert_array_equal(found.transpose(*expected.dims).values, expected.values)


def test_time_is_no_band() -> None:
    plane = cube().isel(band=0, drop=True)
    fine = geosegsr.super_resolve(plane, **HOW)
    assert fine.dims == ("time", "y", "x") and fine.shape == (3, 40, 60)
    np.testing.assert_array_equal(fine.values, geosegsr.super_resolve(cube(), **HOW).isel(band=0).values)


def test_a_dataset_in_a_dataset_out() -> None:
    data = cube().to_dataset("band")
    for name in ("red", "nir"):
        data[name] = data[name].rio.write_nodata(0)
    data["angle"] = ("time", [30.0, 31.0, 32.0])
    data["orbit"] = 7
    data.attrs["title"] = "a cube"
    fine = geosegsr.super_resolve(data, **HOW)
    assert isinstance(fine, xr.Dataset) and fine.attrs["title"] == "a cube"
    assert set(fine.data_vars) == {"red", "nir", "angle", "orbit"} and int(fine.orbit) == 7
    xr.testing.assert_equal(fine.angle.variable, data.angle.variable)
    xr.testing.assert_equal(fine.time.variable, data.time.variable)
    expected = geosegsr.super_resolve(cube(), **HOW)
    for name in ("red", "nir"):
        assert fine[name].dims == ("time", "y", "x") and fine[name].rio.nodata == 0
        np.testing.assert_array_equal(fine[name].values, expected.sel(band=name).values)


def test_what_cannot_work_is_refused() -> None:
    with pytest.raises(ConfigError, match="without any time"):
        geosegsr.super_resolve(cube().isel(time=slice(0)), **HOW)
    with pytest.raises(BandError, match="3 times by a guide of 2"):
        geosegsr.super_resolve(cube(), guide=cube().isel(band=0, time=slice(2)), **HOW)


def test_the_accessor_is_the_function() -> None:
    data = cube().isel(time=0)
    xr.testing.assert_identical(
        data.geosegsr.upscale(2, "bicubic"), geosegsr.super_resolve(data, 2, "bicubic")
    )
    several = data.to_dataset("band")
    xr.testing.assert_identical(
        several.geosegsr.upscale(2, model="bicubic"), geosegsr.super_resolve(several, 2, "bicubic")
    )
    sharp = xr.DataArray(
        np.random.default_rng(1).integers(1, 1000, (40, 60), dtype=np.uint16), dims=("y", "x"),
        coords={"y": 5002.5 - 5 * np.arange(40), "x": -2.5 + 5.0 * np.arange(60)},
    ).rio.write_crs(32632)  # fmt: skip
    xr.testing.assert_identical(data.geosegsr.sharpen(sharp), geosegsr.super_resolve(data, 1, guide=sharp))


def test_a_small_part_computes_a_small_chunk() -> None:
    data = xr.DataArray(np.zeros((1, 900, 700), np.uint8), dims=("band", "y", "x"))
    fine = geosegsr.super_resolve(data, 4, "bicubic", tile=128, overlap=16)
    assert max(side for sides in fine.chunks[1:] for side in sides) <= 1024
    assert sum(fine.chunks[1]) == 3600 and sum(fine.chunks[2]) == 2800
