"""Products are known by what lies inside; each part opens as one raster with the product's names and values."""

import shutil
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import product_factory as factory
import pytest
import rasterio
import rasterio.shutil
import xarray as xr
from command_line import run_here

from geosegsr.errors import BandError, GeoSegSRWarning, SceneError
from geosegsr.imagery.find import find_rasters
from geosegsr.pipeline.scene_list import name_results
from geosegsr.raster.describe import describe
from geosegsr.raster.products import is_product, open_product
from geosegsr.raster.scene import Scene

FIELD = (
    Path(__file__).parents[3]
    / "shared/field/S2A_MSIL1C_20170617T113321_N0205_R080_T29UPU_20170617T113319.zip"
)


def zipped(safe: Path) -> Path:
    path = safe.with_suffix(".zip")
    with zipfile.ZipFile(path, "w") as file:
        for inside in sorted(safe.rglob("*")):
            file.write(inside, inside.relative_to(safe.parent))
    return path


@pytest.fixture(scope="module")
def safe(tmp_path_factory) -> Path:
    return factory.write_safe(tmp_path_factory.mktemp("safe"))


@pytest.mark.parametrize("form", ["folder", "around", "mtd", "zip"])
def test_a_sentinel2_product_in_all_its_forms(safe: Path, form: str) -> None:
    forms = {"folder": safe, "around": safe.parent, "mtd": safe / "MTD_MSIL2A.xml"}
    path = forms[form] if form in forms else zipped(safe)
    product = open_product(path)
    assert product is not None and is_product(str(path))
    assert {part.name: part.band_names for part in product.parts} == {
        "10m": ("B04", "B03", "B02", "B08"), "20m": ("B05", "B8A"), "60m": ("B01",), "SCL": ("SCL",), "AOT": ("AOT",),
    }  # fmt: skip
    assert [part.pixel_size[0] for part in product.parts] == [10, 20, 60, 20, 10]
    assert product.default.name == "10m"


def test_a_part_carries_what_the_product_says(safe: Path) -> None:
    scene = Scene.open(f"{safe}:10m")
    assert scene.descriptions == ("B04", "B03", "B02", "B08")
    assert scene.colours == ("red", "green", "blue", "nir")
    assert scene.scales == (1e-4,) * 4
    np.testing.assert_allclose(scene.offsets, -0.1)
    assert scene.nodata == 0
    assert scene.metadata.tags["PRODUCT_START_TIME"] == "2024-05-01T10:20:31.024Z"
    values, valid = scene.read(scene.window)
    with rasterio.open(next(safe.rglob("*_B03_10m.jp2"))) as band:
        np.testing.assert_array_equal(values[1], band.read(1))
    assert valid.all()
    assert str(safe) in scene.files


@pytest.mark.parametrize(
    ("part", "names"),
    [("B8,b04", ("B08", "B04")), ("SCL", ("SCL",)), ("B8A", ("B8A",)), ("20m", ("B05", "B8A"))],
)
def test_bands_are_chosen_by_name(safe: Path, part: str, names: tuple[str, ...]) -> None:
    assert Scene.open(f"{safe}:{part}").descriptions == names


@pytest.mark.parametrize(
    ("part", "message"), [("B8a,B04", "different sizes .10m, 20m."), ("B55", "Did you mean 'B05'")]
)
def test_bands_that_cannot_be_had(safe: Path, part: str, message: str) -> None:
    with pytest.raises(SceneError, match=message):
        Scene.open(f"{safe}:{part}")


def test_the_part_that_is_chosen_is_said(safe: Path) -> None:
    with pytest.warns(GeoSegSRWarning, match="its part '10m' is used, with bands B04, B03, B02, B08"):
        scene = Scene.open(safe)
    assert scene.count == 4


def test_a_damaged_product_is_one_line(safe: Path, tmp_path: Path) -> None:
    broken = tmp_path / "x.zip"
    broken.write_bytes(zipped(safe).read_bytes()[:5000])
    with pytest.raises(SceneError, match=r"x.zip': it is damaged"):
        Scene.open(broken)
    bare = tmp_path / safe.name
    bare.mkdir()
    shutil.copy(safe / "MTD_MSIL2A.xml", bare)
    with pytest.raises(SceneError, match="holds none of its images"):
        Scene.open(bare)
    (bare / "MTD_MSIL2A.xml").write_text("<a>")
    with pytest.raises(SceneError, match="it is no XML"):
        Scene.open(bare)


@pytest.mark.parametrize("form", ["folder", "tar", "mtl"])
def test_a_landsat_scene(tmp_path: Path, form: str) -> None:
    path = folder = factory.write_landsat(tmp_path)
    if form == "tar":
        path = tmp_path / f"{factory.LANDSAT}.tar"
        with tarfile.open(path, "w") as tar:
            for file in sorted(folder.iterdir()):
                tar.add(file, file.name)
    elif form == "mtl":
        path = next(folder.glob("*_MTL.txt"))
    product = open_product(path)
    assert product is not None
    assert {part.name: part.band_names for part in product.parts} == {
        "30m": ("SR_B2", "SR_B3", "SR_B4", "SR_B5"), "ST_B10": ("ST_B10",), "QA_PIXEL": ("QA_PIXEL",),
    }  # fmt: skip
    red = product.default.bands[2]
    assert (red.scale, red.offset, red.nodata, red.colour) == (2.75e-05, -0.2, 0, "red")
    heat = product.part("ST_B10").bands[0]
    assert (heat.scale, heat.offset, heat.kind) == (0.00341802, 149.0, "other")
    assert product.part("QA_PIXEL").bands[0].kind == "class"
    scene = Scene.open(product.default.source)
    assert scene.colours == ("blue", "green", "red", "nir")
    assert scene.metadata.tags["DATE_ACQUIRED"] == "2024-05-01"


@pytest.mark.parametrize("stem", ["scene_2024_{}", "{}", "HLS.S30.T10SGJ.2021.{}"])
def test_a_folder_of_single_bands(tmp_path: Path, stem: str) -> None:
    product = open_product(factory.write_bands(tmp_path, stem))
    assert product is not None
    assert {part.name: part.band_names for part in product.parts} == {
        "10m": ("B02", "B03", "B04"),
        "20m": ("B11",),
    }
    assert Scene.open(f"{tmp_path}:10m").colours == ("blue", "green", "red")


def test_scenes_of_one_folder_are_no_bands(tmp_path: Path) -> None:
    for name in ("north_B02.tif", "south_B03.tif"):
        factory.write_band(tmp_path / name, 10)
    assert open_product(tmp_path) is None
    factory.write_bands(tmp_path / "bands")
    assert len(find_rasters([str(tmp_path / "bands")], deep=False)) == 4  # each may be wanted by itself


def test_a_stac_item(tmp_path: Path) -> None:
    item = factory.write_item(tmp_path / "item.json")
    product = open_product(item)
    assert product is not None
    assert {part.name: part.band_names for part in product.parts} == {
        "10m": ("red", "nir"), "visual": ("red", "green", "blue"), "scl": ("scl",)
    }  # fmt: skip
    scene = Scene.open(f"{item}:nir,red")
    assert scene.colours == ("nir", "red")
    assert (scene.scales, scene.offsets, scene.nodata) == ((1e-4, 1e-4), (-0.1, -0.1), 0)
    for bands in ([9], ["blue"], [1, 1]):
        with pytest.raises(BandError, match=r"of '.*item\.json:10m'|in '.*item\.json:10m'"):
            Scene.open(f"{item}:10m", bands)
    item.write_text(item.read_text().replace("Feature", "Collection"))
    with pytest.raises(SceneError, match="It is no STAC item either"):
        Scene.open(item)


def test_info_lists_the_parts(safe: Path, capfd: pytest.CaptureFixture[str]) -> None:
    facts = describe(safe)
    assert [part["source"] for part in facts["parts"]] == [
        f"{safe}:{n}" for n in ("10m", "20m", "60m", "SCL", "AOT")
    ]
    assert [band["description"] for band in facts["bands"]] == ["B04", "B03", "B02", "B08"]
    assert run_here(capfd, "info", safe).code == 0


def test_results_of_parts_have_different_names(safe: Path, tmp_path: Path) -> None:
    sources = [f"{safe}:10m", f"{safe}:20m", f"{safe}:B04,B03"]
    sources += [
        f"SENTINEL2_L1C:/vsizip//in/{safe.stem}.zip/{safe.name}/MTD_MSIL1C.xml:{n}m:EPSG_32629"
        for n in (10, 20)
    ]
    sources += ['NETCDF:"/in/era5.nc":t2m', "netcdf:/in/era5.nc:sst", "HDF5:/in/x.h5://group/sst"]
    names = [path.name for path in name_results(sources, tmp_path, scale=2, model="bicubic")]
    assert names == [
        f"{safe.stem}_10m_x2.tif", f"{safe.stem}_20m_x2.tif", f"{safe.stem}_B04_B03_x2.tif",
        f"{safe.stem}_10m_EPSG_32629_x2.tif", f"{safe.stem}_20m_EPSG_32629_x2.tif",
        "era5_t2m_x2.tif", "era5_sst_x2.tif", "x_group_sst_x2.tif",
    ]  # fmt: skip


def test_a_product_is_upscaled_and_says_so(safe: Path, tmp_path: Path, capfd) -> None:
    out = run_here(
        capfd, "upscale", safe, "-o", tmp_path / "out.tif", "--model", "nearest", "--scale", 2, "--stac"
    )
    assert out.code == 0 and "all its images come out on the grid of its 10m bands" in out.err
    with rasterio.open(tmp_path / "out.tif") as result:
        assert result.descriptions == ("B01", "B02", "B03", "B04", "B05", "B08", "B8A")
        assert result.res == (5, 5)
    batch = run_here(
        capfd,
        "upscale",
        f"{safe}:10m",
        f"{safe}:20m",
        "-o",
        f"{tmp_path}/both/",
        "-m",
        "nearest",
        "-s",
        2,
        "-q",
    )
    assert batch.code == 0 and len(list((tmp_path / "both").glob("*.tif"))) == 2


@pytest.mark.skipif(not FIELD.exists(), reason="needs the field inputs")
def test_the_field_product(tmp_path: Path, capfd) -> None:
    gdal = f"SENTINEL2_L1C:/vsizip/{FIELD}/{FIELD.stem}.SAFE/MTD_MSIL1C.xml:{{}}:EPSG_32629"
    for source in (gdal.format("60m"), f"{FIELD}:60m"):
        target = tmp_path / f"{len(source)}.tif"
        for more in (["--dry-run"], []):
            out = run_here(capfd, "upscale", source, "-o", target, "--model", "bicubic", "--scale", 2, *more)
            assert out.code == 0, out.err
        with rasterio.open(target) as result:
            assert [colour.name for colour in result.colorinterp] == ["coastal", "nir", "other_ir"]
    with zipfile.ZipFile(FIELD) as archive:
        archive.extractall(tmp_path)
    out = run_here(
        capfd,
        "upscale",
        tmp_path / f"{FIELD.stem}.SAFE",
        "-o",
        tmp_path / "all.tif",
        "-m",
        "bicubic",
        "-s",
        2,
    )
    assert out.code == 0, out.err
    with rasterio.open(tmp_path / "all.tif") as result:
        assert result.shape == (240, 240)  # twice the grid of 10 m
    folder = tmp_path / "both"
    assert (
        run_here(
            capfd,
            "upscale",
            gdal.format("10m"),
            gdal.format("20m"),
            "-o",
            f"{folder}/",
            "-m",
            "nearest",
            "-q",
        ).code
        == 0
    )
    assert len(list(folder.glob("*.tif"))) == 2


def test_netcdf_and_zarr(tmp_path: Path, capfd) -> None:
    """Of two variables `info` names both, and a Zarr store is one source."""
    data = xr.Dataset(
        {
            name: (("y", "x"), np.full((20, 30), value, np.float32))
            for name, value in {"t2m": 1, "sst": 2}.items()
        },
        coords={"y": 5000000.0 - 10 * np.arange(20), "x": 600000.0 + 10 * np.arange(30)},
    )
    data.to_netcdf(tmp_path / "era5.nc", engine="scipy")
    parts = describe(tmp_path / "era5.nc")["parts"]
    assert [part["name"] for part in parts] == ["t2m", "sst"]
    assert run_here(capfd, "info", tmp_path / "era5.nc").code == 0
    sources = [part["source"] for part in parts]
    out = run_here(capfd, "upscale", *sources, "-o", f"{tmp_path}/both/", "-m", "nearest", "-s", 2, "-q")
    assert out.code == 0, out.err
    assert sorted(path.name for path in (tmp_path / "both").glob("*.tif")) == [
        "era5_sst_x2.tif",
        "era5_t2m_x2.tif",
    ]
    store = tmp_path / "t2m.zarr"
    rasterio.shutil.copy(str(factory.write_band(tmp_path / "B04.tif", 10)), str(store), driver="Zarr")
    assert find_rasters([str(store)], deep=False) == [str(store)]
    out = run_here(capfd, "upscale", store, "-o", tmp_path / "zarr.tif", "-m", "nearest", "-s", 2, "-q")
    assert out.code == 0, out.err


def test_a_folder_of_products(safe: Path) -> None:
    assert find_rasters([f"{safe.parent}/*.SAFE"], deep=False) == [str(safe)]
    assert find_rasters([f"{safe.parent}/*.SAFE:B08,B04"], deep=False) == [f"{safe}:B08,B04"]
