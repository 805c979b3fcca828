"""What intake decides, in results: classes are repeated, values end where the detector does, nodata is found."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 - registers the .rio accessor
import xarray as xr
from command_line import assert_refused, run_here
from scipy import ndimage

import geosegsr
from geosegsr.errors import BandError, SceneError
from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.images import open_images
from geosegsr.pipeline.upscale import upscale
from geosegsr.raster.bands import group_bands
from geosegsr.raster.intake import look_at
from geosegsr.raster.scene import Scene

FIELD = Path(__file__).parents[3] / "shared" / "field"
needs_field = pytest.mark.skipif(not FIELD.exists(), reason="needs the field inputs")


def ground(bands, side, low, high, dtype, seed=0):
    noise = ndimage.gaussian_filter(
        np.random.default_rng(seed).standard_normal((bands, side, side)), (0, 2, 2)
    )
    return (low + (noise - noise.min()) / np.ptp(noise) * (high - low)).astype(dtype)


def write(path, values, names=(), crs_of_file="EPSG:32632", **profile):
    with rasterio.open(
        path, "w", driver="GTiff", count=len(values), height=values.shape[1], width=values.shape[2], dtype=values.dtype,
        crs=crs_of_file, transform=rasterio.Affine(10, 0, 600000, 0, -10, 5000000), **profile,
    ) as target:  # fmt: skip
        target.write(values)
        for band, name in enumerate(names, 1):
            target.set_band_description(band, name)
    return path


def repeated(values, scale):
    return values.repeat(scale, axis=-2).repeat(scale, axis=-1)


def read(path):
    with rasterio.open(path) as source:
        return source.read()


@pytest.fixture
def stack(tmp_path):
    """Red, green and blue, and a class band between them."""
    colours = ground(3, 80, 300, 4000, np.uint16)
    labels = np.where(ground(1, 80, 0, 1, np.float64, seed=1) > 0.5, 5, 8).astype(np.uint16)
    values = np.concatenate([colours[:1], labels, colours[1:]])
    return write(tmp_path / "stack.tif", values, ("red", "SCL", "green", "blue"))


@pytest.mark.parametrize("model", ["bundled", "bicubic", "nearest"])
def test_class_bands_of_a_stack_are_repeated(stack, tmp_path, model):
    report = upscale(stack, tmp_path / "out.tif", 2, model)
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[1], repeated(read(stack)[1], 2))
    line = "band 2 (SCL) is no image but classes (named 'SCL'): its pixels are repeated"
    assert report.intake == (line,)
    with rasterio.open(tmp_path / "out.tif") as result:
        assert result.tags()["GEOSEGSR_INTAKE"] == line
        assert result.descriptions == ("red", "SCL", "green", "blue")


def test_the_other_bands_are_those_of_a_scene_without_classes(stack, tmp_path):
    alone = write(tmp_path / "alone.tif", read(stack)[[0, 2, 3]], ("red", "green", "blue"))
    for source in (stack, alone):
        upscale(source, source.with_suffix(".x2.tif"), 2)
    np.testing.assert_array_equal(
        read(stack.with_suffix(".x2.tif"))[[0, 2, 3]], read(alone.with_suffix(".x2.tif"))
    )


def test_a_user_overrules_the_kind(stack, tmp_path, capfd):
    out = run_here(
        capfd,
        "upscale",
        stack,
        "-o",
        tmp_path / "out.tif",
        "-m",
        "bicubic",
        "-s",
        2,
        "--band-kind",
        "2=image",
    )
    assert out.code == 0
    assert not np.array_equal(read(tmp_path / "out.tif")[1], repeated(read(stack)[1], 2))
    out = run_here(
        capfd, "upscale", stack, "-o", tmp_path / "b.tif", "-m", "bicubic", "--band-kind", "2=picture"
    )
    assert out.code == 1 and "a kind is one of image, class, mask, angle" in out.err


def test_overviews_of_classes_are_no_means(tmp_path):
    labels = np.where(ground(1, 600, 0, 1, np.float64) > 0.5, 2, 9).astype(np.uint8)
    upscale(write(tmp_path / "in.tif", labels, ("SCL",)), tmp_path / "out.tif", 2, "nearest")
    with rasterio.open(tmp_path / "out.tif", overview_level=0) as overview:
        assert set(np.unique(overview.read())) == {2, 9}


@pytest.mark.parametrize("bits", [0, 1])
def test_colour_tables_are_kept(tmp_path, bits):
    labels = (ground(1, 80, 0, 2, np.float64) > 1).astype(np.uint8)
    path = write(tmp_path / "in.tif", labels, **({"nbits": 1} if bits else {}), photometric="palette")
    with rasterio.open(path, "r+") as target:
        target.write_colormap(1, {0: (10, 20, 30, 255), 1: (250, 0, 7, 255)})
    upscale(path, tmp_path / "out.tif", 3, "nearest")
    np.testing.assert_array_equal(read(tmp_path / "out.tif"), repeated(labels, 3))
    with rasterio.open(tmp_path / "out.tif") as result:
        assert [result.colormap(1)[n] for n in (0, 1)] == [(10, 20, 30, 255), (250, 0, 7, 255)]
    with pytest.raises(BandError, match=r"entries of a colour table.*--model nearest"):
        upscale(path, tmp_path / "no.tif", 3)


def test_results_end_where_the_detector_does(tmp_path):
    values = np.minimum(ground(3, 96, 200, 5600, np.uint16), 4095).astype(np.uint16)
    values[:, 20:40, 20:40] = 4095
    path = write(tmp_path / "in.tif", values, nbits=12)
    for model in ("bundled", "bicubic"):
        report = upscale(path, tmp_path / f"{model}.tif", 4, model)
        assert report.intake == ("values end at 4095 (12 bits): results are clipped there",)
        result = read(tmp_path / f"{model}.tif")
        assert result.max() == 4095
        flat = ndimage.minimum_filter(values, (1, 5, 5), mode="nearest") == 4095
        assert (result[repeated(flat, 4)] == 4095).all()


def test_clipping_does_not_depend_on_blocks(tmp_path):
    values = np.minimum(ground(3, 150, 200, 6000, np.uint16), 4095).astype(np.uint16)
    path = write(tmp_path / "in.tif", values)
    for name, more in {"one": {}, "many": {"block": 100, "tile": 48, "overlap": 16}}.items():
        more = {"tile": 48, "overlap": 16, **more}
        upscale(path, tmp_path / f"{name}.tif", 2, **more)
    np.testing.assert_array_equal(read(tmp_path / "one.tif"), read(tmp_path / "many.tif"))


def test_nodata_is_found_when_asked(tmp_path, capfd):
    values = ground(3, 120, 200, 3000, np.uint16)
    values[:, :, :40] = 0
    path = write(tmp_path / "in.tif", values, ("red", "green", "blue"))
    out = run_here(capfd, "info", path)
    assert out.code == 0 and "Pass --nodata 0 or --nodata auto" in out.err
    out = run_here(capfd, "info", path, "--json")
    assert json.loads(out.out)["undeclared_nodata"] == {"value": 0.0, "share": pytest.approx(1 / 3, abs=0.01)}
    out = run_here(capfd, "upscale", path, "-o", tmp_path / "warned.tif", "-s", 2, "-m", "bicubic")
    assert "33% of the pixels are 0 in all bands, along the border" in out.err
    for name, nodata in {"auto": "auto", "zero": 0}.items():
        assert (
            run_here(
                capfd,
                "upscale",
                path,
                "-o",
                tmp_path / f"{name}.tif",
                "-s",
                2,
                "--nodata",
                nodata,
            ).warned
            == []
        )
    np.testing.assert_array_equal(read(tmp_path / "auto.tif"), read(tmp_path / "zero.tif"))
    with rasterio.open(tmp_path / "auto.tif") as result:
        assert result.nodata == 0 and "nodata is 0" in result.tags()["GEOSEGSR_INTAKE"]


def test_arrays_are_taken_in_alike(stack, tmp_path):
    values = read(stack)
    data = xr.DataArray(values, dims=("band", "y", "x"), attrs={"long_name": ["red", "SCL", "green", "blue"]})
    data = data.rio.write_crs("EPSG:32632")
    result = geosegsr.super_resolve(data, 2, "bicubic").values
    np.testing.assert_array_equal(result[1], repeated(values[1], 2))
    with pytest.raises(BandError, match=r"classes .named 'SCL'"):
        geosegsr.super_resolve(data[1:2].assign_attrs(long_name=["SCL"]), 2)


def test_training_and_evaluation_take_images_only(stack, tmp_path):
    with pytest.raises(SceneError, match=r"band 2 .SCL. is no image but classes.*Pass --bands 1,3,4"):
        open_images([str(stack)], DataConfig())
    assert open_images([str(stack)], DataConfig(bands=(1, 3, 4)))[0].count == 3
    labels = write(tmp_path / "labels.tif", read(stack)[1:2], ("SCL",))
    with pytest.raises(SceneError, match=r"it holds classes .named 'SCL'.*--band-kind 1=image"):
        evaluate_model("bundled", [str(labels)], scale=2)


def test_other_bands_leave_classes_out_too():
    groups = group_bands(("red", "", "green", "blue", ""), model="m", model_bands=3, model_band_names=("red", "green", "blue"),
                         other_bands="bicubic", repeated=(1,))  # fmt: skip
    assert [(group.bands, group.through) for group in groups] == [
        ((0, 2, 3), "model"), ((4,), "bicubic"), ((1,), "nearest"),
    ]  # fmt: skip
    dropped = group_bands(("red", "", "green", "blue"), model="m", model_bands=3, model_band_names=("red", "green", "blue"),
                          other_bands="drop", repeated=(1,))  # fmt: skip
    assert [group.bands for group in dropped] == [(0, 2, 3)]


def test_a_large_jpeg2000_is_read_in_one_place_and_decimated(tmp_path, monkeypatch):
    """Each place would decode a block of 1024 x 1024 pixels."""
    values = ground(1, 1200, 200, 3000, np.uint16)
    values[:, :200] = 0
    profile = {"driver": "JP2OpenJPEG", "QUALITY": "100", "REVERSIBLE": "YES"}
    with rasterio.open(
        tmp_path / "in.jp2", "w", count=1, height=1200, width=1200, dtype="uint16", crs="EPSG:32632",
        transform=rasterio.Affine(10, 0, 600000, 0, -10, 5000000), **profile,
    ) as target:  # fmt: skip
        target.write(values)
    scene, places = Scene.open(tmp_path / "in.jp2"), []
    read = Scene.read
    monkeypatch.setattr(Scene, "read", lambda self, window: places.append(window) or read(self, window))
    intake = look_at(scene)
    assert len(places) == 1
    assert intake.kinds == ("image",)
    assert intake.collar.value == 0 and intake.collar.share == pytest.approx(1 / 6, abs=0.02)


@needs_field
def test_field_classes_and_masks(tmp_path, capfd):
    for name in ("classes_uint8.tif", "cloudmask_1bit.tif"):
        values = read(FIELD / name)
        out = run_here(capfd, "upscale", FIELD / name, "-o", tmp_path / name, "-s", 3, "-m", "nearest")
        assert out.code == 0, out.err
        np.testing.assert_array_equal(read(tmp_path / name), repeated(values, 3))
        out = run_here(capfd, "upscale", FIELD / name, "-o", tmp_path / f"no_{name}")
        assert out.code == 1 and "--model nearest" in out.err and "-expand" not in out.err
        assert not (tmp_path / f"no_{name}").exists()


@needs_field
@pytest.mark.parametrize("model", ["bundled", "bicubic"])
def test_field_twelve_bits(tmp_path, model):
    values = read(FIELD / "nbits12_saturated.tif")
    upscale(FIELD / "nbits12_saturated.tif", tmp_path / "out.tif", 4, model)
    result = read(tmp_path / "out.tif")
    assert result.max() == 4095
    flat = ndimage.minimum_filter(values, (1, 5, 5), mode="nearest") == 4095
    assert flat.any() and (result[repeated(flat, 4)] == 4095).all()


@needs_field
def test_field_zero_collar(tmp_path, capfd):
    source = FIELD / "s2_zero_collar_undeclared.jp2"
    assert "--nodata 0" in run_here(capfd, "info", source).err
    out = run_here(capfd, "upscale", source, "-o", tmp_path / "warned.tif", "-s", 2, "-m", "bicubic")
    assert out.code == 0 and "38% of the pixels are 0" in out.err and "--nodata 0" in out.err
    out = run_here(capfd, "upscale", source, "-o", tmp_path / "auto.tif", "-s", 2, "--nodata", "auto")
    assert out.code == 0 and out.warned == []
    collar = repeated((read(source) == 0).all(axis=0), 2)
    assert (read(tmp_path / "auto.tif")[:, collar] == 0).all() and (
        read(tmp_path / "auto.tif")[:, ~collar] > 0
    ).all()


@needs_field
def test_field_zero_collar_reaches_no_valid_pixel(tmp_path):
    """The same scene with another value in its collar has the same pixels."""
    with rasterio.open(FIELD / "s2_zero_collar_undeclared.jp2") as source:
        values = source.read()
    collar = (values == 0).all(axis=0)
    results = []
    for nodata in (0, 9):
        path = write(
            tmp_path / f"{nodata}.tif", np.where(collar, nodata, values).astype(np.uint16), nodata=nodata
        )
        upscale(path, tmp_path / f"{nodata}.x2.tif", 2)
        results.append(read(tmp_path / f"{nodata}.x2.tif"))
    fine = repeated(collar, 2)
    assert (results[0][:, fine] == 0).all() and (results[1][:, fine] == 9).all()
    np.testing.assert_array_equal(results[0][:, ~fine], results[1][:, ~fine])


def test_names_of_control_points_are_left_out_with_a_warning(tmp_path, capfd):
    image = write(tmp_path / "in.tif", ground(3, 60, 0, 255, np.uint8))
    corners = [(0, 0, 6.9), (60, 0, 7.1), (0, 60, 6.95), (60, 60, 7.2)]
    gcps = "".join(
        f'<GCP Id="church {n}" Info="seen {n}" Pixel="{col}" Line="{row}" X="{x}" Y="{50 - row / 600}" Z="3"/>'
        for n, (col, row, x) in enumerate(corners)
    )
    bands = "".join(
        f'<VRTRasterBand dataType="Byte" band="{n}"><SimpleSource><SourceFilename>{image}</SourceFilename>'
        f"<SourceBand>{n}</SourceBand></SimpleSource></VRTRasterBand>"
        for n in (1, 2, 3)
    )
    source = tmp_path / "in.vrt"
    source.write_text(
        f'<VRTDataset rasterXSize="60" rasterYSize="60"><GCPList Projection="EPSG:4326">{gcps}</GCPList>{bands}</VRTDataset>'
    )
    for more in (["--dry-run"], []):
        out = run_here(capfd, "upscale", source, "-o", tmp_path / "out.tif", "-s", 2, "-m", "bicubic", *more)
        assert out.code == 0, out.err
        assert "leaves out names and notes of ground control points" in out.err
    with rasterio.open(tmp_path / "out.tif") as result:
        points, _ = result.gcps
        assert [(point.col, point.row, point.x, point.z) for point in points] == [
            (2 * col, 2 * row, x, 3) for col, row, x in corners
        ]


def test_a_crs_that_a_tiff_cannot_hold_is_refused_before_the_work(tmp_path, capfd):
    """Of a rotated pole, as climate models use it: GDAL keeps it in a sidecar, and a result has none."""
    pole = "+proj=ob_tran +o_proj=longlat +o_lon_p=0 +o_lat_p=39.25 +lon_0=18 +to_meter=0.0174532925199433"
    source = write(tmp_path / "in.tif", ground(3, 40, 0, 255, np.uint8), crs_of_file=pole)
    with rasterio.open(source) as file:
        assert file.crs is not None
    for more in (["--dry-run"], []):
        out = run_here(capfd, "upscale", source, "-o", tmp_path / "out.tif", "-m", "nearest", *more)
        assert_refused(out, 1, "crs: ", "gdalwarp -t_srs EPSG:4326")
    assert not list(tmp_path.glob("out*"))
