"""Products whole: all images on the grid of the sharpest, by name, in the product's order."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from command_line import assert_refused, run_here
from guided_scenes import GuidedScene, rmse, write
from product_factory import write_band, write_landsat, write_safe

import geosegsr
from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning

SAME_GROUND = pytest.mark.filterwarnings("ignore:.*same ground")
MADE = GuidedScene.make(side=96)


def folder_of(
    path: Path, scene: GuidedScene = MADE, corner: tuple[float, float] = (600000.0, 5900040.0)
) -> Path:
    """Single bands of one scene: B03, B04, B08 of 10 m, and B11, B12 of 20 m."""
    path.mkdir()
    for bands, names, pixel, at in (
        (scene.guide, ("B04", "B03", "B08"), 10.0, (600000.0, 5900040.0)),
        (scene.coarse, ("B11", "B12"), 20.0, corner),
    ):
        for band, name in zip(bands, names, strict=True):
            write(path / f"scene_{name}.tif", np.rint(band[None]).astype(np.uint16), pixel, (), 0, at)
    return path


def read(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def test_all_bands_come_out_on_the_finest_grid(tmp_path: Path) -> None:
    source, target = folder_of(tmp_path / "scene"), tmp_path / "out.tif"
    with pytest.warns(GeoSegSRWarning, match="is a product .* pass --groups or --bands"):
        report = geosegsr.upscale(source, target, 1)
    with rasterio.open(target) as out:
        assert out.descriptions == ("B03", "B04", "B08", "B11", "B12")
        assert out.transform.a == 10 and out.nodata == 0
        found = out.read()
    np.testing.assert_array_equal(found[:3], np.rint(MADE.guide[[1, 0, 2]]))
    assert (rmse(found[3:], MADE.truth) < 20).all()
    assert [band["band"] for band in report.sharpened] == ["B11", "B12"]


def test_it_has_the_pixels_that_a_guide_gives(tmp_path: Path) -> None:
    source = folder_of(tmp_path / "scene")
    geosegsr.upscale(source, tmp_path / "whole.tif", 2, "bicubic", bands=["B12", "B08"], block=100)
    geosegsr.upscale(f"{source}:B12", tmp_path / "one.tif", 2, "bicubic", guide=f"{source}:10m")
    np.testing.assert_array_equal(read(tmp_path / "whole.tif")[0], read(tmp_path / "one.tif")[0])


def test_groups_and_bands_choose(tmp_path: Path) -> None:
    source, target = folder_of(tmp_path / "scene"), tmp_path / "out.tif"
    geosegsr.upscale(source, target, 1, groups=["20m"], bands=["B12"])
    np.testing.assert_array_equal(read(target), np.rint(MADE.coarse[1:]))
    with pytest.raises(ConfigError, match="its groups are 10m, 20m"):
        geosegsr.upscale(source, tmp_path / "no.tif", 1, groups=["30m"])
    with pytest.raises(BandError, match="B11 is in none of the --groups"):
        geosegsr.upscale(source, tmp_path / "no.tif", 1, groups=["10m"], bands=["B11"])
    with pytest.raises(ConfigError, match="not a product"):
        geosegsr.upscale(target, tmp_path / "no.tif", 1, groups=["10m"])


@pytest.mark.parametrize(
    ("name", "fewer"), [("B08", ["B03", "B04", "B11", "B12"]), ("B11", ["B03", "B04", "B08", "B12"])]
)
def test_a_band_that_is_said_to_hold_classes_is_repeated_and_guides_no_other(
    name: str, fewer: list[str], tmp_path: Path
) -> None:
    source, target, bands = folder_of(tmp_path / "scene"), tmp_path / "out.tif", [*fewer, name]
    kinds = {bands.index(name) + 1: "class"}
    geosegsr.upscale(source, target, 1, bands=bands, band_kinds=kinds)
    with rasterio.open(source / f"scene_{name}.tif") as band:
        plain = band.read(1)
    times = 192 // len(plain)
    np.testing.assert_array_equal(read(target)[4], plain.repeat(times, 0).repeat(times, 1))
    (source / f"scene_{name}.tif").unlink()
    geosegsr.upscale(source, tmp_path / "fewer.tif", 1, bands=fewer)
    np.testing.assert_array_equal(read(target)[:4], read(tmp_path / "fewer.tif"))


@pytest.mark.parametrize("name", ["B11", "B12"])
def test_a_band_that_is_found_to_hold_classes_by_its_values_is_repeated_and_guides_no_other(
    name: str, tmp_path: Path
) -> None:
    source, target = folder_of(tmp_path / "scene"), tmp_path / "out.tif"
    bands = ["B03", "B04", "B08", "B11", "B12"]
    with rasterio.open(source / f"scene_{name}.tif", "r+") as band:
        field = band.read(1)
        classes = np.select([field < np.quantile(field, 0.3), field < np.quantile(field, 0.7)], [2, 9], 5)
        coarse = classes[::12, ::12].repeat(12, 0).repeat(12, 1).astype(np.uint16)
        band.write(coarse, 1)
    report = geosegsr.upscale(source, target, 1, bands=bands)
    times = 192 // len(coarse)
    np.testing.assert_array_equal(read(target)[bands.index(name)], coarse.repeat(times, 0).repeat(times, 1))
    assert [line for line in report.intake if name in line] == [
        f"band {bands.index(name) + 1} ({name}) is no image but classes (3 values): its pixels are repeated"
    ]
    assert name not in [band["band"] for band in report.sharpened]
    # As if it were not there.
    fewer = [band for band in bands if band != name]
    (source / f"scene_{name}.tif").unlink()
    geosegsr.upscale(source, tmp_path / "fewer.tif", 1, bands=fewer)
    kept = [bands.index(band) for band in fewer]
    np.testing.assert_array_equal(read(target)[kept], read(tmp_path / "fewer.tif"))


@SAME_GROUND
def test_a_band_of_few_values_is_sharpened_if_it_is_said_to_be_an_image(tmp_path: Path) -> None:
    source, bands = folder_of(tmp_path / "scene"), ["B03", "B04", "B08", "B11", "B12"]
    with rasterio.open(source / "scene_B11.tif", "r+") as band:
        field = band.read(1)
        band.write(np.where(field > np.median(field), 900, 100).astype(np.uint16), 1)
    report = geosegsr.upscale(source, tmp_path / "out.tif", 1, bands=bands, band_kinds={4: "image"})
    assert report.intake == ()
    assert [band["band"] for band in report.sharpened] == ["B11", "B12"]


def test_without_an_image_on_the_finest_grid_there_is_no_result(tmp_path: Path) -> None:
    source, bands = folder_of(tmp_path / "scene"), ["B03", "B04", "B08", "B11"]
    kinds = dict.fromkeys((1, 2, 3), "class")
    with pytest.raises(BandError, match=r"none of them is an image.*--groups without 10m"):
        geosegsr.upscale(source, tmp_path / "no.tif", 1, bands=bands, band_kinds=kinds)
    with pytest.raises(BandError, match="the bands in use are 1, 2, 3, 4"):
        geosegsr.upscale(source, tmp_path / "no.tif", 1, bands=bands, band_kinds={5: "class"})


def test_a_plain_raster_takes_names_too(tmp_path: Path) -> None:
    path = write(tmp_path / "in.tif", np.rint(MADE.coarse).astype(np.uint16), 20.0, ("B11", "B12"))
    geosegsr.upscale(path, tmp_path / "out.tif", 2, "nearest", bands=["B12"])
    assert (read(tmp_path / "out.tif")[0, ::2, ::2] == np.rint(MADE.coarse[1])).all()
    with pytest.raises(BandError, match="names of its bands are B11, B12"):
        geosegsr.upscale(path, tmp_path / "no.tif", 2, bands=["B8A"])


@SAME_GROUND
def test_each_band_of_a_sentinel_2_product_in_a_file_of_its_own(tmp_path: Path) -> None:
    source, bands = write_safe(tmp_path), ["B01", "B02", "B05", "B8A", "SCL"]
    geosegsr.upscale(source, tmp_path / "one.tif", 1, bands=bands)
    report = geosegsr.upscale(source, tmp_path / "out.tif", 1, bands=bands, separate=True)
    assert [Path(file).name for file in report.files] == [f"out_{name}.tif" for name in bands]
    np.testing.assert_array_equal(
        np.concatenate([read(Path(file)) for file in report.files]), read(tmp_path / "one.tif")
    )


@SAME_GROUND
def test_a_sentinel_2_product(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = write_safe(tmp_path), tmp_path / "out.tif"
    done = run_here(capfd, "upscale", source, "-o", target, "-s", "1", "--bands", "B01,B02,B05,B8A,SCL")
    assert done.code == 0, done
    with rasterio.open(target) as out:
        assert out.descriptions == ("B01", "B02", "B05", "B8A", "SCL")
        assert out.shape == (48, 48) and out.nodata == 0
        assert out.scales[:4] == (0.0001,) * 4 and out.offsets[:4] == (-0.1,) * 4
        classes = out.read(5)
    fine = np.repeat(np.repeat(classes[::2, ::2], 2, 0), 2, 1)
    np.testing.assert_array_equal(classes, fine)
    beside = tmp_path / "beside.tif"  # no band between the sharpest and the classes
    done = run_here(capfd, "upscale", source, "-o", beside, "-s", "1", "--bands", "B04,SCL")
    assert done.code == 0, done
    np.testing.assert_array_equal(read(beside)[1], classes)
    assert_refused(run_here(capfd, "upscale", source, "-o", target, "-b", "B99"), 1, "Cannot find 'B99'")


def test_landsats_pixels_lie_half_a_panchromatic_pixel_off(tmp_path: Path) -> None:
    """The centre of a 30 m pixel is that of a 15 m pixel."""
    scene = GuidedScene.make(side=96, half=True)
    off = folder_of(tmp_path / "scene", scene, (600000.0 - 5, 5900040.0 + 5))
    geosegsr.upscale(off, tmp_path / "out.tif", 1, bands=["B11", "B12"])
    with rasterio.open(tmp_path / "out.tif") as out:
        assert out.transform.c == 600000 and out.transform.f == 5900040
        assert (rmse(out.read(), scene.truth) < 20).all()


def test_landsats_panchromatic_band_sharpens_the_others(tmp_path: Path) -> None:
    scene, top = GuidedScene.make(side=96, half=True), tmp_path / "LC09_L1TP_195028_20240501_20240502_02_T1"
    top.mkdir()
    for name, band, pixel, at in (
        ("B8", scene.guide[2], 15.0, (600000.0, 5900040.0)),
        ("B5", scene.coarse[0], 30.0, (600000.0 - 7.5, 5900040.0 + 7.5)),
        ("B4", scene.coarse[1], 30.0, (600000.0 - 7.5, 5900040.0 + 7.5)),
    ):
        write(top / f"{top.name}_{name}.TIF", np.rint(band[None]).astype(np.uint16), pixel, (), 0, at)
    with pytest.warns(GeoSegSRWarning, match="15m"):
        report = geosegsr.upscale(top, tmp_path / "out.tif", 1)
    with rasterio.open(tmp_path / "out.tif") as out:
        assert out.descriptions == ("B4", "B5", "B8") and out.res == (15, 15)
        np.testing.assert_array_equal(out.read(3), np.rint(scene.guide[2]))
    assert [band["band"] for band in report.sharpened] == ["B4", "B5"]


def test_a_band_of_another_dtype_that_changes_all_is_warned_of(tmp_path: Path) -> None:
    top = tmp_path / "LC09_L1TP_195028_20240501_20240502_02_T1"
    for name, size, dtype in (
        ("B8", 15, "uint16"), ("B4", 30, "uint16"), ("QA_PIXEL", 30, "uint16"), ("SAA", 30, "int16"),
    ):  # fmt: skip
        write_band(top / f"{top.name}_{name}.TIF", size, dtype)
    for bands, dtype in ((["B8", "QA_PIXEL"], "uint16"), (["B8", "QA_PIXEL", "SAA"], "int32")):
        target = tmp_path / f"{dtype}.tif"
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", GeoSegSRWarning)
            geosegsr.upscale(top, target, 1, bands=bands, nodata=0)
        said = [str(warning.message) for warning in caught if "come out as" in str(warning.message)]
        with rasterio.open(target) as out:
            assert out.dtypes == (dtype,) * len(bands)
        assert len(said) == (dtype == "int32")
    assert "as int32: SAA holds int16, the images uint16" in said[0]
    assert "leave SAA out of --bands" in said[0]


@pytest.mark.filterwarnings("ignore:.*is a product")
def test_a_product_of_one_pixel_size_is_upscaled_as_before(tmp_path: Path) -> None:
    source = write_landsat(tmp_path)
    geosegsr.upscale(source, tmp_path / "out.tif", 2, "nearest")
    with rasterio.open(tmp_path / "out.tif") as out:
        assert out.descriptions == ("SR_B2", "SR_B3", "SR_B4", "SR_B5")


@SAME_GROUND
def test_bands_of_several_dates_are_named_with_their_dates(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = write_safe(tmp_path)
    (band,) = source.rglob("*_B05_20m.jp2")
    band.rename(band.with_name("T32TQM_20240610T102031_B05_20m.jp2"))
    expected = r"several dates: 2024-05-01 \(.*\), 2024-06-10 \(T32TQM_20240610T102031_B05_20m\.jp2\)"
    with pytest.warns(GeoSegSRWarning, match=expected):
        geosegsr.upscale(source, tmp_path / "out.tif", 1, bands=["B04", "B05"])
    mixed = folder_of(tmp_path / "mixed")
    for file in mixed.iterdir():
        day = "20240610" if file.stem == "scene_B12" else "20240501"
        file.rename(mixed / f"T32TQM_{day}T102031_{file.stem.removeprefix('scene_')}.tif")
    done = run_here(capfd, "upscale", mixed, "-o", tmp_path / "no.tif", "-s", "1")
    assert_refused(
        done, 2, "several dates", "2024-06-10 (T32TQM_20240610T102031_B12.tif)", "folder of their own"
    )
