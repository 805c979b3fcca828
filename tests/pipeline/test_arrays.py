"""super_resolve on arrays has the pixels of upscale on files, lazily."""

from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import rioxarray
import scene_factory as factory
import xarray as xr

import geosegsr
from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning

WRITERS = [
    factory.write_nodata,
    factory.write_nan,
    factory.write_rotated,
    factory.write_gcps,
    factory.write_south_up,
]


@pytest.mark.parametrize("chunks", [None, {"x": 13, "y": 29}], ids=["numpy", "dask"])
@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_equals_upscale(write, chunks: dict[str, int] | None, tmp_path: Path) -> None:
    source = write(tmp_path / "in.tif")
    geosegsr.upscale(source, tmp_path / "out.tif", 2, "bicubic", tile=24, overlap=8, block=60)
    data = rioxarray.open_rasterio(source, chunks=chunks)
    assert isinstance(data, xr.DataArray)
    lazy = geosegsr.super_resolve(data, 2, "bicubic", tile=24, overlap=8, block=60)
    assert dask.is_dask_collection(lazy.data)
    with rasterio.open(tmp_path / "out.tif") as out:
        np.testing.assert_array_equal(lazy.values, out.read())
        assert lazy.dtype == out.dtypes[0] and lazy.rio.nodata == data.rio.nodata
        if not out.gcps[0]:
            assert lazy.rio.transform() == out.transform and lazy.rio.crs == out.crs
        else:
            assert [(g.row, g.col) for g in lazy.rio.get_gcps()] == [(g.row, g.col) for g in out.gcps[0]]


def test_coordinates_and_attributes_follow(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(factory.write_plain(tmp_path / "in.tif"))
    assert isinstance(data, xr.DataArray)
    data = data.assign_attrs(note="kept")
    fine = geosegsr.super_resolve(data, 4, "nearest")
    step = float(data.x[1] - data.x[0])
    np.testing.assert_allclose(fine.x[:4], float(data.x[0]) + step * (np.arange(4) - 1.5) / 4)
    assert fine.attrs["note"] == "kept" and fine.dims == data.dims and fine.name == data.name
    assert fine.band.values.tolist() == data.band.values.tolist()


def test_dimensions_in_any_order_and_a_plain_plane(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(factory.write_plain(tmp_path / "in.tif"))
    assert isinstance(data, xr.DataArray)
    expected = geosegsr.super_resolve(data, 2, "bicubic").values
    last = geosegsr.super_resolve(data.transpose("y", "x", "band"), 2, "bicubic")
    assert last.dims == ("y", "x", "band")
    np.testing.assert_array_equal(last.values, np.moveaxis(expected, 0, 2))
    plane = geosegsr.super_resolve(data.isel(band=1), 2, "bicubic")
    assert plane.dims == ("y", "x")
    np.testing.assert_array_equal(plane.values, expected[1])


def test_masked_arrays_keep_their_holes(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(factory.write_nodata(tmp_path / "in.tif"), masked=True)
    assert isinstance(data, xr.DataArray)
    fine = geosegsr.super_resolve(data, 3, "bicubic")
    holes = np.isnan(data.values)
    assert holes.any()
    np.testing.assert_array_equal(np.isnan(fine.values), np.repeat(np.repeat(holes, 3, 1), 3, 2))
    assert fine.rio.encoded_nodata == data.rio.encoded_nodata


def test_a_fourth_band_without_a_name_may_be_alpha() -> None:
    """Of a file with alpha, an array keeps neither the colour interpretation nor the mask."""
    four = xr.DataArray(np.ones((4, 8, 8), np.uint8), dims=("band", "y", "x"))
    with pytest.warns(GeoSegSRWarning, match="fourth is taken as an image"):
        geosegsr.super_resolve(four, 2, "bicubic")
    named = four.assign_attrs(long_name=("red", "green", "blue", "nir"))
    for silent in (named, four[:3], four.astype(np.float32)):
        geosegsr.super_resolve(silent, 2, "bicubic")


def test_what_cannot_work_is_refused() -> None:
    cube = xr.DataArray(np.zeros((2, 2, 4, 4)), dims=("level", "band", "y", "x"))
    with pytest.raises(BandError, match="at most one of bands"):
        geosegsr.super_resolve(cube, 2)
    with pytest.raises(ConfigError, match="must be one of 2, 3, 4, 8"):
        geosegsr.super_resolve(cube[0], 5)
    with pytest.raises(ConfigError, match="real numbers"):
        geosegsr.super_resolve(cube[0].astype(complex), 2)
