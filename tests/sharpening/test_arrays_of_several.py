"""Bands of several resolutions in xarray objects: the pixels that a product of such files gives, on one grid, lazily."""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from affine import Affine
from guided_scenes import GuidedScene, rmse, write

import geosegsr
from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning, SceneError
from geosegsr.sensor.consistency import degraded
from geosegsr.sharpening.blur import sampling_of_mtf

MADE = GuidedScene.make(side=96)
FINE, COARSE, COARSEST = ("B03", "B04", "B08"), ("B11", "B12"), ("B01",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Single bands of one scene, of 10 m, 20 m and 60 m."""
    top = tmp_path_factory.mktemp("scene")
    first = degraded(MADE.truth[0], sampling_of_mtf(6, 0.3))
    for bands, names, pixel in (
        (MADE.guide, FINE, 10.0), (MADE.coarse, COARSE, 20.0), (first[None], COARSEST, 60.0),
    ):  # fmt: skip
        for band, name in zip(bands, names, strict=True):
            write(top / f"scene_{name}.tif", np.rint(band[None]).astype(np.uint16), pixel, (), 0)
    return top


@pytest.fixture(scope="module")
def bands(folder: Path) -> dict[str, xr.DataArray]:
    return {
        name: rioxarray.open_rasterio(folder / f"scene_{name}.tif", chunks=64)  # type: ignore[misc]
        for name in (*FINE, *COARSE, *COARSEST)
    }


def as_mapping(bands: dict[str, xr.DataArray]) -> Mapping[str, Any]:
    return bands


def as_datasets(bands: dict[str, xr.DataArray]) -> Mapping[str, Any]:
    return {
        size: xr.Dataset({name: bands[name].isel(band=0, drop=True) for name in names})
        for size, names in (("60m", COARSEST), ("20m", COARSE), ("10m", FINE))
    }


def as_tree(bands: dict[str, xr.DataArray]) -> Any:
    """As Zarr products have them: the coarser nodes repeat finer bands, reduced."""
    parts = dict(as_datasets(bands))
    parts["20m"] = parts["20m"].assign(B03=parts["20m"]["B11"] + 1)
    return xr.DataTree.from_dict({f"/measurements/r{size}": part for size, part in parts.items()})


def as_one_dataset(bands: dict[str, xr.DataArray]) -> xr.Dataset:
    """Each resolution has dimensions of its own."""
    named = [part.rename(x=f"x_{size}", y=f"y_{size}") for size, part in as_datasets(bands).items()]
    return xr.merge(named, compat="override").assign(orbit=65).assign_attrs(title="kept")


def expected(folder: Path, target: Path, scale: int, **options: Any) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GeoSegSRWarning)
        geosegsr.upscale(folder, target, scale, options.pop("model", "nearest"), **options)
    with rasterio.open(target) as out:
        return out.read()


@pytest.mark.parametrize("form", [as_mapping, as_datasets, as_tree, as_one_dataset])
def test_it_has_the_pixels_of_the_product(
    form: Any, bands: dict[str, xr.DataArray], folder: Path, tmp_path: Path
) -> None:
    if form is as_tree and not hasattr(xr, "DataTree"):
        pytest.skip("needs xarray with DataTree")
    names = (*COARSEST, *FINE, *COARSE)
    pixels = expected(folder, tmp_path / "out.tif", 1)
    fine = geosegsr.super_resolve(form(bands), 1)
    assert isinstance(fine, xr.Dataset) and set(names) <= set(fine.data_vars)
    assert fine.rio.transform() == Affine(10, 0, 600000, 0, -10, 5900040) and fine.rio.crs == "EPSG:32633"
    for name, band in zip(names, pixels, strict=True):
        assert fine[name].chunks is not None and fine[name].dims == ("y", "x")
        np.testing.assert_array_equal(fine[name], band)
        assert fine[name].rio.nodata == 0
    assert (rmse(np.stack([fine["B11"], fine["B12"]]), MADE.truth) < 20).all()


def test_bands_and_what_is_none_keep_their_order(bands: dict[str, xr.DataArray]) -> None:
    fine = geosegsr.super_resolve(as_one_dataset(bands), 1)
    assert list(fine.data_vars) == ["B01", "B11", "B12", "B03", "B04", "B08", "orbit"]
    assert fine.attrs == {"title": "kept"}


@pytest.mark.parametrize(("scale", "model"), [(2, "bicubic"), (2, "bundled")])
def test_a_model_enlarges_the_bands_on_one_grid(
    scale: int, model: str, bands: dict[str, xr.DataArray], folder: Path, tmp_path: Path
) -> None:
    pixels = expected(folder, tmp_path / "out.tif", scale, model=model, bands=["B03", "B11"])
    fine = geosegsr.super_resolve({name: bands[name] for name in (*FINE, "B11")}, scale, model)
    assert fine.sizes["x"] == 192 * scale
    if model == "bicubic":
        np.testing.assert_array_equal(fine["B11"], pixels[1])
    else:  # the range is that of other bands, too
        assert np.abs(fine["B11"].astype(int) - pixels[1].astype(int)).mean() < 10


def test_planning_computes_no_more_than_samples(bands: dict[str, xr.DataArray]) -> None:
    """A large scene is not sharpened before its pixels are asked for."""
    from geosegsr.pipeline import array_sharpening

    big = {
        name: xr.concat([xr.concat([band] * 8, "x")] * 8, "y").assign_coords(
            x=band.x.values[0] + np.arange(8 * band.sizes["x"]) * float(band.x[1] - band.x[0]),
            y=band.y.values[0] + np.arange(8 * band.sizes["y"]) * float(band.y[1] - band.y[0]),
        )
        for name, band in bands.items()
        if name in (*FINE, "B11")
    }
    calls, honest = [], array_sharpening._sharpen
    with pytest.MonkeyPatch.context() as patch, dask.config.set(scheduler="synchronous"):
        patch.setattr(array_sharpening, "_sharpen", lambda *args: calls.append(args[1]) or honest(*args))
        fine = geosegsr.super_resolve(big, 2, "nearest")
        assert fine.sizes["y"] == 2 * 8 * 192 and len(calls) <= 9
        np.asarray(fine["B11"][:8, :8])
        assert len(calls) <= 18


def test_scaled_bands_are_packed_in_their_own_way(bands: dict[str, xr.DataArray], tmp_path: Path) -> None:
    """Reflectance in memory becomes DN in a file, each band by its own scale."""
    floats = {}
    for number, name in enumerate((*FINE, *COARSE), 1):
        band = bands[name].isel(band=0, drop=True).astype("float32") * (1e-4 * number)
        band.attrs = {"long_name": name}
        band.encoding = {
            "dtype": "uint16",
            "rasterio_dtype": "uint16",
            "scale_factor": 1e-4 * number,
            "_FillValue": 0,
        }
        floats[name] = band
    fine = geosegsr.super_resolve(floats, 1)
    for number, name in enumerate(floats, 1):
        assert fine[name].dtype == np.float32
        fine[name].rio.to_raster(tmp_path / f"{name}.tif")
        with rasterio.open(tmp_path / f"{name}.tif") as out:
            assert out.dtypes == ("uint16",) and out.scales == (pytest.approx(1e-4 * number),)


def test_coarser_bands_may_show_more_ground_but_not_less(bands: dict[str, xr.DataArray]) -> None:
    part = {name: bands[name].isel(x=slice(20, 100), y=slice(40, 130)) for name in FINE}
    fine = geosegsr.super_resolve({**part, "B11": bands["B11"]}, 1)
    assert fine["B11"].shape == (90, 80)
    assert float(fine.x[0]) == float(bands["B03"].x[20]) and float(fine.y[0]) == float(bands["B03"].y[40])
    np.testing.assert_array_equal(fine["B03"], part["B03"][0])
    less = {**{name: bands[name] for name in FINE}, "B11": bands["B11"].isel(x=slice(4, 90))}
    with pytest.raises(SceneError, match="it shows less ground"):
        geosegsr.super_resolve(less, 1)


def test_landsats_pixels_lie_half_a_panchromatic_pixel_off() -> None:
    scene = GuidedScene.make(side=96, half=True)

    def array(band: np.ndarray, pixel: float, off: float) -> xr.DataArray:
        at = off + (np.arange(len(band)) + 0.5) * pixel
        return xr.DataArray(
            np.rint(band).astype(np.uint16), dims=("y", "x"), coords={"y": 5900040 - at, "x": 600000 + at}
        )

    fine = geosegsr.super_resolve(
        {"B8": array(scene.guide[2], 15, 0), "B5": array(scene.coarse[0], 30, -7.5)}, 1
    )
    assert float(fine.x[0]) == 600007.5 and fine["B5"].shape == (192, 192)
    alone = geosegsr.super_resolve(array(scene.coarse[0], 30, -7.5), 1, guide=array(scene.guide[2], 15, 0))
    np.testing.assert_array_equal(alone, fine["B5"])
    assert float(alone.x[0]) == 600007.5 and float(alone.y[0]) == 5900032.5


def test_what_cannot_work_is_refused(bands: dict[str, xr.DataArray]) -> None:
    with pytest.raises(BandError, match="different dtypes"):
        geosegsr.super_resolve({**bands, "SCL": bands["B11"].astype("uint8")}, 1)
    with pytest.raises(BandError, match="needed is an array of one band"):
        geosegsr.super_resolve({"10m": xr.concat([bands[name] for name in FINE], "band")}, 2)
    with pytest.raises(BandError, match="holds no bands"):
        geosegsr.super_resolve({}, 2)
    with pytest.raises(ConfigError, match="the finest guide the others"):
        geosegsr.super_resolve(bands, 1, guide=bands["B03"])
    with pytest.raises(ConfigError, match="there is none"):
        geosegsr.super_resolve({name: bands[name] for name in FINE}, 1)
    with pytest.raises(SceneError, match="Cannot sharpen"):
        moved = bands["B11"].assign_coords(x=bands["B11"].x + 3)
        geosegsr.super_resolve({**{name: bands[name] for name in FINE}, "B11": moved}, 1)
