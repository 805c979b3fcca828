"""What super_resolve accepts, what it refuses and what to pass instead, and what results keep of their input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import rioxarray
import scene_factory as factory
import xarray as xr
from affine import Affine

import geosegsr
from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning, WindowError

FIELD = Path(__file__).parents[3] / "shared" / "field"
needs_field = pytest.mark.skipif(not FIELD.exists(), reason="needs the field inputs")


def array(dtype: Any = np.uint8, rows: int = 12, cols: int = 10) -> xr.DataArray:
    values = np.random.default_rng(0).integers(1, 200, (3, rows, cols)).astype(dtype)
    return xr.DataArray(values, dims=("band", "y", "x"))


def packed(path: Path) -> Path:
    """Sentinel-2's reflectance as it is stored: dark and bright pixels side by side, and some without data."""
    dn = np.random.default_rng(1).choice([1, 2, 9000, 65535], (2, 20, 24)).astype(np.uint16)
    dn[:, :5, :6] = 0
    profile = {"driver": "GTiff", "width": 24, "height": 20, "count": 2, "dtype": "uint16", "nodata": 0}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:32629", transform=Affine(10, 0, 5e5, 0, -10, 4e6)
    ) as file:
        file.write(dn)
        file.scales, file.offsets = (1e-4,) * 2, (-0.1,) * 2
    return path


# Encodings


@pytest.mark.parametrize("chunks", [None, 7])
def test_a_file_of_scaled_pixels_is_packed_as_its_source(tmp_path: Path, chunks: int | None) -> None:
    """DN beyond the dtype are clipped, and no valid pixel becomes nodata, although bicubic overshoots here."""
    source = packed(tmp_path / "in.tif")
    data = rioxarray.open_rasterio(source, mask_and_scale=True, chunks=chunks)
    fine = geosegsr.super_resolve(data, 2, "bicubic")
    assert fine.dtype == np.float32
    fine.rio.to_raster(tmp_path / "out.tif")
    geosegsr.upscale(source, tmp_path / "expected.tif", 2, "bicubic")
    with rasterio.open(tmp_path / "out.tif") as out, rasterio.open(tmp_path / "expected.tif") as expected:
        assert (out.dtypes, out.scales, out.offsets) == (expected.dtypes, expected.scales, expected.offsets)
        assert out.dtypes[0] == "uint16" and out.nodata == 0
        ours, theirs = out.read().astype(int), expected.read().astype(int)
    np.testing.assert_allclose(ours, theirs, atol=1)
    assert np.array_equal(ours == 0, theirs == 0) and (ours == 65535).any()


@needs_field
def test_reflectance_with_the_offset_of_baseline_4_is_packed_again(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(FIELD / "s2_pb0400_offset.tif", mask_and_scale=True)
    geosegsr.super_resolve(data, 2).rio.to_raster(tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert (set(out.dtypes), out.nodata) == ({"uint16"}, 0)
        assert (set(out.scales), set(out.offsets)) == ({1e-4}, {-0.1})
        with rasterio.open(FIELD / "s2_pb0400_offset.tif") as source:
            np.testing.assert_array_equal(out.read() == 0, (source.read() == 0).repeat(2, 1).repeat(2, 2))


def test_masked_pixels_are_written_in_their_dtype(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(factory.write_nodata(tmp_path / "in.tif"), masked=True)
    geosegsr.super_resolve(data, 2, "nearest").rio.to_raster(tmp_path / "out.tif")
    with rasterio.open(tmp_path / "in.tif") as source, rasterio.open(tmp_path / "out.tif") as out:
        assert (out.dtypes, out.nodata) == (source.dtypes, source.nodata)
        np.testing.assert_array_equal(out.read(), source.read().repeat(2, 1).repeat(2, 2))


# Datasets


def test_a_dataset_of_bands_is_upscaled_together(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(factory.write_plain(tmp_path / "in.tif"))
    names = ("red", "green", "blue")
    bands = {name: data[i].drop_vars("band").assign_attrs(note=name) for i, name in enumerate(names)}
    fine = geosegsr.super_resolve(xr.Dataset({**bands, "time_of_day": 12}, attrs={"kept": 1}), 2)
    expected = geosegsr.super_resolve(data.assign_coords(band=list(names)), 2)
    assert isinstance(fine, xr.Dataset) and list(fine.data_vars) == [*names, "time_of_day"]
    for i, name in enumerate(names):
        np.testing.assert_array_equal(fine[name], expected[i])
        assert fine[name].dims == ("y", "x") and fine[name].attrs["note"] == name
    assert fine.attrs == {"kept": 1} and fine.rio.transform() == expected.rio.transform()
    assert fine.rio.crs == data.rio.crs


def test_each_variable_is_packed_in_its_own_way(tmp_path: Path) -> None:
    """A range that one file can hold says nothing of another's."""
    data = rioxarray.open_rasterio(packed(tmp_path / "in.tif"), mask_and_scale=True)
    blue, warm = data.isel(band=0, drop=True), data.isel(band=1, drop=True) * 10 + 280
    warm.encoding = {"dtype": "uint16", "rasterio_dtype": "uint16", "scale_factor": 0.01, "_FillValue": 65535}
    fine = geosegsr.super_resolve(xr.Dataset({"blue": blue, "warm": warm}), 2, "nearest")
    np.testing.assert_allclose(fine["warm"], warm.values.repeat(2, 0).repeat(2, 1))
    fine["warm"].rio.to_raster(tmp_path / "warm.tif")
    fine["blue"].rio.to_raster(tmp_path / "blue.tif")
    with rasterio.open(tmp_path / "warm.tif") as file:
        assert (file.dtypes, file.scales, file.nodata) == (("uint16",), (0.01,), 65535)
    with rasterio.open(tmp_path / "blue.tif") as file, rasterio.open(tmp_path / "in.tif") as source:
        np.testing.assert_array_equal(file.read(1), source.read(1).repeat(2, 0).repeat(2, 1))


def test_a_dataset_of_one_variable_is_that_array() -> None:
    fine = geosegsr.super_resolve(array().to_dataset(name="scene"), 2, "bicubic")
    np.testing.assert_array_equal(fine["scene"], geosegsr.super_resolve(array(), 2, "bicubic"))


def test_datasets_of_what_is_no_band_are_refused() -> None:
    plane = array()[0].drop_vars("band", errors="ignore")
    with pytest.raises(BandError, match="different dtypes"):
        geosegsr.super_resolve(xr.Dataset({"a": plane, "b": plane.astype(float)}), 2)
    with pytest.raises(BandError, match="planes of one grid"):
        geosegsr.super_resolve(xr.Dataset({"a": plane, "b": array()}), 2)


# Coordinates


def placed(y: Any, x: Any = None) -> xr.DataArray:
    return array(rows=len(y)).assign_coords(y=y, x=np.arange(10.0) if x is None else x)


IRREGULAR = {
    "a gap": np.r_[np.arange(6.0), np.arange(9.0, 15.0)],
    "shuffled": np.random.default_rng(0).permutation(12).astype(float),
    "Gaussian latitudes": np.degrees(np.arcsin(np.polynomial.legendre.leggauss(320)[0])),
    "all alike": np.zeros(12),
    "not finite": np.r_[np.arange(11.0), np.nan],
}


@pytest.mark.parametrize("name", IRREGULAR)
def test_irregular_coordinates_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="coordinate 'y' is not regular"):
        geosegsr.super_resolve(placed(IRREGULAR[name]), 2, "nearest")


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_rounded_coordinates_are_regular(dtype: str) -> None:
    y = (50 + np.arange(40) / 3600).astype(dtype)
    geosegsr.super_resolve(placed(y), 2, "nearest")


def test_a_part_of_an_array_lies_where_its_coordinates_say(tmp_path: Path) -> None:
    data = rioxarray.open_rasterio(factory.write_plain(tmp_path / "in.tif"))
    part = data.isel(x=slice(5, 25), y=slice(3, 20))
    fine = geosegsr.super_resolve(part, 2, "nearest")
    whole = geosegsr.super_resolve(data, 2, "nearest").isel(x=slice(10, 50), y=slice(6, 40))
    np.testing.assert_allclose(fine.x, whole.x)
    np.testing.assert_allclose(fine.y, whole.y)
    assert fine.rio.transform().almost_equals(
        data.rio.transform() @ Affine.translation(5, 3) @ Affine.scale(0.5)
    )


def test_what_netcdf_says_of_the_old_grid_goes() -> None:
    said = {
        "crs#GeoTransform": "0 1 0",
        "x#resolution": 10,
        "NC_GLOBAL#geospatial_lat_resolution": 1,
        "resolution": 12,
    }
    fine = geosegsr.super_resolve(array().assign_attrs(said), 2, "nearest")
    assert set(fine.attrs) & set(said) == {"resolution"}


def test_one_grid_mapping_stays_one() -> None:
    data = placed(np.arange(12.0)).rio.write_crs("EPSG:32633", grid_mapping_name="utm")
    data = data.rio.write_transform(grid_mapping_name="utm")
    fine = geosegsr.super_resolve(data, 2, "nearest")
    assert fine.rio.grid_mapping == "utm" and "spatial_ref" not in fine.coords
    assert fine.rio.transform() == data.rio.transform() @ Affine.scale(0.5)


# Refusals


@pytest.mark.parametrize(
    ("data", "advice"),
    [
        (np.zeros((3, 8, 8)), r"xarray\.DataArray\(array"),
        ("scene.tif", r"geosegsr\.upscale\(FILE, OUT\)"),
        (None, "Pass a DataArray"),
        ([1, 2], "Pass a DataArray"),
        (array()[:, :0], "no pixels"),
    ],
    ids=["ndarray", "path", "None", "list", "empty"],
)
def test_what_is_no_raster_is_refused_with_what_to_pass(data: Any, advice: str) -> None:
    with pytest.raises(ConfigError, match=advice):
        geosegsr.super_resolve(data, 2)


def test_dimensions_of_other_names_are_refused_with_what_to_rename() -> None:
    other = array().rename(y="lat", x="lon")
    for data in (other, other.to_dataset(name="a"), other.isel(lon=0, drop=True)):
        with pytest.raises(BandError, match=r"data\.rename\(lat='y', lon='x'\)"):
            geosegsr.super_resolve(data, 2)
    renamed = geosegsr.super_resolve(other.rename(lat="y", lon="x"), 2, "nearest")
    assert renamed.shape == (3, 24, 20)


@pytest.mark.parametrize("nodata", [300, 0.5, -1, float("nan")])
def test_nodata_that_no_pixel_can_have_is_refused(nodata: float) -> None:
    with pytest.raises(BandError, match="whole number from 0 to 255"):
        geosegsr.super_resolve(array(), 2, "nearest", nodata=nodata)


def test_declared_nodata_that_no_pixel_can_have_is_ignored_as_in_a_file() -> None:
    with pytest.warns(GeoSegSRWarning, match="nodata is ignored"):
        fine = geosegsr.super_resolve(array().assign_attrs(_FillValue=-9999), 2, "nearest")
    np.testing.assert_array_equal(fine, array().values.repeat(2, 1).repeat(2, 2))


@pytest.mark.parametrize("value_range", [(1, 2, 3), (1,), 5, ("a", "b"), (3, 3), (0, float("inf"))])
def test_a_range_is_two_numbers(value_range: Any) -> None:
    with pytest.raises(ConfigError, match=r"value_range=\(LO, HI\)"):
        geosegsr.super_resolve(array(), 2, value_range=value_range)


@pytest.mark.parametrize(
    "option", [{"window": (0, 0, 5)}, {"window": (0, 0, 5, 5.5)}, {"window": 5}, {"bbox": (1, 2, 3)}], ids=str
)
def test_a_window_and_a_box_are_four_numbers(tmp_path: Path, option: dict[str, Any]) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    with pytest.raises(WindowError, match="must be four"):
        geosegsr.upscale(source, tmp_path / "out.tif", 2, "nearest", **option)


# Whole numbers of 64 bits


@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_nearest_keeps_every_bit_of_whole_numbers(tmp_path: Path, dtype: Any) -> None:
    """In tiles that overlap, around nodata, in memory and in a file."""
    info = np.iinfo(dtype)
    values = np.random.default_rng(0).integers(info.max - 99, info.max, (1, 40, 44), dtype, endpoint=True)
    values[:, 3:9, 20:30] = 7
    expected = values.repeat(3, 1).repeat(3, 2)
    data = xr.DataArray(values, dims=("band", "y", "x"))
    fine = geosegsr.super_resolve(data, 3, "nearest", nodata=7, tile=16, overlap=6, block=30)
    np.testing.assert_array_equal(fine, expected)
    profile = {
        "driver": "GTiff",
        "width": 44,
        "height": 40,
        "count": 1,
        "dtype": values.dtype.name,
        "nodata": 7,
        "crs": "EPSG:3857",
    }
    with rasterio.open(tmp_path / "in.tif", "w", **profile) as file:
        file.write(values)
    geosegsr.upscale(tmp_path / "in.tif", tmp_path / "out.tif", 3, "nearest", tile=16, overlap=6, block=30)
    with rasterio.open(tmp_path / "out.tif") as file:
        np.testing.assert_array_equal(file.read(), expected)
