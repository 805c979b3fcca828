"""STAC items: valid by the specification's own schemas, true to the file beside them, and honest where nothing is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pystac.validation
import pytest
import rasterio
import scene_factory as factory
import shapely
from affine import Affine
from command_line import assert_refused, run_here
from fakes import Fake
from PIL import Image
from rasterio.crs import CRS
from rasterio.warp import transform_bounds

from geosegsr import upscale
from geosegsr.errors import ConfigError, GeoSegSRWarning, JobError, SceneError
from geosegsr.pipeline.batch import upscale_batch
from geosegsr.raster.acquired import Acquired
from geosegsr.raster.footprint import bounding_box, footprint, ground_sample_distance
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.stac import build_item

WHEN = "2024-05-01T10:20:30Z"
BICUBIC = ("--model", "bicubic")
# Fields of each extension, by the prefix of their names; where they may stand.
EXTENSIONS = {
    "proj": "https://stac-extensions.github.io/projection/v2.0.0/schema.json",
    "file": "https://stac-extensions.github.io/file/v2.1.0/schema.json",
    "processing": "https://stac-extensions.github.io/processing/v1.2.0/schema.json",
    "raster": "https://stac-extensions.github.io/raster/v2.0.0/schema.json",
    "eo": "https://stac-extensions.github.io/eo/v2.0.0/schema.json",
}


def item_of(source: Path, *, scale: int = 2, acquired: str | None = WHEN, **options: Any) -> dict[str, Any]:
    """Enlarge a scene and read its item, checked."""
    report = upscale(
        source, source.with_name("out.tif"), scale, "bicubic", stac=True, acquired=acquired, **options
    )
    assert report.stac == str(source.with_name("out.json"))
    item: dict[str, Any] = json.loads(Path(report.stac).read_text())
    check(item, Path(report.path))
    return item


def check(item: dict[str, Any], result: Path) -> None:
    """By the schemas of the core, which pystac carries, and by what the extensions ask for."""
    pystac.validation.validate_dict({**item, "stac_extensions": []})
    assert list(item["assets"]) == ["data", "thumbnail", "overview"]
    for name, longest in (("thumbnail", 256), ("overview", 1024)):
        asset = item["assets"][name]
        assert (asset["href"], asset["roles"]) == (f"./{result.stem}.{name}.png", [name])
        with Image.open(result.parent / asset["href"]) as picture:
            assert picture.format == "PNG" and max(picture.size) <= longest
    asset = item["assets"]["data"]
    fields = [*item["properties"], *asset, *(key for band in asset["bands"] for key in band)]
    used = {key.split(":")[0] for key in fields if ":" in key} - {"geosegsr"}
    assert sorted(item["stac_extensions"]) == sorted(EXTENSIONS[prefix] for prefix in used)
    assert asset["href"] == f"./{result.name}"
    assert asset["file:size"] == result.stat().st_size
    assert asset["file:checksum"] == "1220" + hashlib.sha256(result.read_bytes()).hexdigest()
    with rasterio.open(result) as written:
        assert item["properties"]["proj:shape"] == [written.height, written.width]
        assert [band["data_type"] for band in asset["bands"]] == list(written.dtypes)
        if "proj:transform" in item["properties"]:
            assert Affine(*item["properties"]["proj:transform"]) == written.transform
    if item["geometry"] is None:
        assert "bbox" not in item
    else:
        outline = shapely.from_geojson(json.dumps(item["geometry"]))
        assert outline.is_valid and not outline.is_empty
        assert bounding_box(outline) == item["bbox"]


@pytest.mark.parametrize(
    "write",
    [factory.write_plain, factory.write_nan, factory.write_alpha, factory.write_internal_mask, factory.write_rotated,
     factory.write_south_up, factory.write_odd_pixel, factory.write_gcps, factory.write_rpcs, factory.write_rpcs_and_gcps,
     factory.write_described, factory.write_many_bands, factory.write_nir_as_alpha, factory.write_all_nodata],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::geosegsr.errors.GeoSegSRWarning")
def test_items_of_every_kind_of_scene_are_valid_and_placed(
    write: Callable[[Path], Path], tmp_path: Path
) -> None:
    item = item_of(write(tmp_path / "in.tif"))
    assert item["geometry"] is not None
    assert item["properties"]["datetime"] == WHEN


@pytest.mark.parametrize("georeferenced", [False, True])
def test_a_scene_without_a_crs_has_no_place(georeferenced: bool, tmp_path: Path) -> None:
    with pytest.warns(GeoSegSRWarning, match="no coordinate reference system"):
        item = item_of(factory.write_no_crs(tmp_path / "in.tif", georeferenced=georeferenced))
    assert item["geometry"] is None and "gsd" not in item["properties"]
    assert ("proj:transform" in item["properties"]) == georeferenced


def test_an_item_says_how_the_result_was_made(tmp_path: Path) -> None:
    item = item_of(factory.write_described(tmp_path / "in.tif"), scale=4)
    properties = item["properties"]
    assert (properties["geosegsr:model"], properties["geosegsr:scale"]) == ("bicubic", 4)
    assert list(properties["processing:software"]) == ["geosegsr"]
    assert properties["gsd"] == 2.5  # of pixels of 10 m
    assert properties["proj:code"] == factory.CRS
    assert item["links"] == [
        {"rel": "derived_from", "href": "./in.tif", "type": "image/tiff; application=geotiff"}
    ]
    blue, _, _, nir = item["assets"]["data"]["bands"]
    assert (blue["eo:common_name"], blue["raster:scale"], blue["raster:offset"]) == ("blue", 0.0001, -0.1)
    assert (blue["unit"], blue["nodata"], nir["eo:common_name"]) == ("sr-1", -9999, "nir")
    with rasterio.open(tmp_path / "out.tif") as written:
        pixels = written.read(1, masked=True)
    assert blue["statistics"]["minimum"] == pixels.min() and blue["statistics"]["maximum"] == pixels.max()
    assert blue["statistics"]["mean"] == pytest.approx(pixels.mean())


def test_the_uncertainty_is_an_asset_of_the_item(tmp_path: Path) -> None:
    source, spread = factory.write_plain(tmp_path / "in.tif"), tmp_path / "sd.tif"
    report = upscale(
        source, tmp_path / "out.tif", 2, Fake(), ensemble=True, uncertainty=spread, stac=True, acquired=WHEN
    )
    item = json.loads(Path(str(report.stac)).read_text())
    pystac.validation.validate_dict({**item, "stac_extensions": []})
    asset = item["assets"]["uncertainty"]
    assert asset["href"] == "./sd.tif" and asset["bands"][0]["data_type"] == "float32"
    assert asset["file:checksum"] == "1220" + hashlib.sha256(spread.read_bytes()).hexdigest()
    assert item["assets"]["data"]["bands"][0]["data_type"] == "uint16"


def test_the_source_is_linked_by_its_own_item_and_from_another_folder(tmp_path: Path) -> None:
    source = factory.write_plain(
        tmp_path / "scenes" / "in.tif" if (tmp_path / "scenes").mkdir() is None else tmp_path
    )
    (tmp_path / "scenes" / "in.json").write_text('{"type": "Feature", "stac_version": "1.1.0"}')
    (tmp_path / "results").mkdir()
    upscale(source, tmp_path / "results" / "out.tif", 2, "bicubic", stac=True, acquired=WHEN)
    (link,) = json.loads((tmp_path / "results" / "out.json").read_text())["links"]
    assert (link["href"], link["type"]) == ("../scenes/in.json", "application/geo+json")
    made = tmp_path / "results" / "out.tif"
    remote = build_item(made, "/vsicurl/https://example.org/in.tif", Acquired.parse(WHEN), {"data": made})
    assert remote.links[0].href == "https://example.org/in.tif"


# --- when -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "moment"),
    [
        ({"TIFFTAG_DATETIME": "2026:05:01 10:20:30"}, "2026-05-01T10:20:30Z"),
        ({"ACQUISITIONDATETIME": "2026-05-01T12:20:30+02:00"}, "2026-05-01T10:20:30Z"),
        ({"SENSING_TIME": "2026-05-01T10:20:30.123456Z; 2026-05-01T10:20:45.0Z"}, "2026-05-01T10:20:30.123456Z"),
        ({"DATE_ACQUIRED": "2026-05-01", "SCENE_CENTER_TIME": "10:20:30Z"}, "2026-05-01T10:20:30Z"),
        ({"TIFFTAG_DATETIME": "2026:06:01 00:00:00", "EXIF_DateTimeOriginal": "2026:05:01 10:20:30"}, "2026-05-01T10:20:30Z"),
        ({"EXIF_DateTimeOriginal": "0000:00:00 00:00:00", "TIFFTAG_DATETIME": "2026:05:01 10:20:30"}, "2026-05-01T10:20:30Z"),
    ],
)  # fmt: skip
def test_the_time_comes_from_the_tags(tags: dict[str, str], moment: str, tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", count=1, tags=tags)
    assert item_of(source, acquired=None)["properties"]["datetime"] == moment


def test_a_tag_outside_the_calendar_is_passed_over(tmp_path: Path) -> None:
    """In UTC it is a day of the year 0."""
    tags = {"ACQUISITIONDATETIME": "0001-01-01T00:00:00+05:00", "TIFFTAG_DATETIME": "2026:05:01 10:20:30"}
    source = factory.write_plain(tmp_path / "in.tif", count=1, tags=tags)
    assert item_of(source, acquired=None)["properties"]["datetime"] == "2026-05-01T10:20:30Z"


def test_the_time_of_gdals_imagery_domain_counts(tmp_path: Path) -> None:
    spaces = {"IMAGERY": {"ACQUISITIONDATETIME": "2026-05-01 10:20:30"}}
    source = factory.write_plain(tmp_path / "in.tif", count=1, namespaces=spaces)
    assert item_of(source, acquired=None)["properties"]["datetime"] == "2026-05-01T10:20:30Z"


def test_a_scene_that_does_not_say_when_is_refused_before_the_work(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    with pytest.raises(ConfigError, match="Pass --datetime TIME"):
        item_of(source, acquired=None)
    assert [path.name for path in tmp_path.iterdir()] == ["in.tif"]


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [
        (
            "S2B_MSIL2A_20240501T101559_N0510_R065_T33UUB_20240501T131211.SAFE/x.tif",
            "2024-05-01T10:15:59",
            None,
        ),
        ("T33UUB_20240501T101559_B02.jp2", "2024-05-01T10:15:59", None),
        ("crop_of_S2A_MSIL1C_20170105T101402_N0204.tif", "2017-01-05T10:14:02", None),
        ("LC08_L2SP_191027_20240501_20240509_02_T1_SR_B4.TIF", "2024-05-01T00:00:00", "2024-05-01T23:59:59"),
        ("LE07_L1TP_191027_19990731_20200918_02_T1", "1999-07-31T00:00:00", "1999-07-31T23:59:59"),
        ("LC81910272014122LGN00_B4.TIF", "2014-05-02T00:00:00", "2014-05-02T23:59:59"),
        ("20240501_101559_22_2465_3B_AnalyticMS_SR.tif", "2024-05-01T10:15:59", None),
        ("20240501_101559_ssc1_u0001_analytic.tif", "2024-05-01T10:15:59", None),
    ],
)
def test_the_time_comes_from_the_name(name: str, start: str, end: str | None) -> None:
    found = Acquired.of_name(f"/data/{name}")
    assert found is not None
    assert f"{found.start:%Y-%m-%dT%H:%M:%S}" == start
    assert f"{found.end:%Y-%m-%dT%H:%M:%S}" == (end or start)


@pytest.mark.parametrize(
    "name", ["scene.tif", "20241399_101559_3B.tif", "tile_20240501.tif", "LC08_mine.tif", ""]
)
def test_a_name_without_a_known_pattern_says_nothing(name: str) -> None:
    assert Acquired.of_name(f"/data/{name}") is None


def test_an_interval_may_be_given(tmp_path: Path) -> None:
    source = factory.write_plain(
        tmp_path / "in.tif", count=1, tags={"TIFFTAG_DATETIME": "2020:01:01 00:00:00"}
    )
    properties = item_of(source, acquired="2024-05-01/2024-05-31")["properties"]
    assert properties["start_datetime"] == "2024-05-01T00:00:00Z"
    assert properties["end_datetime"] == "2024-05-31T00:00:00Z"


@pytest.mark.parametrize(
    "text", ["yesterday", "2024-05-31/2024-05-01", "2024-13-01", "", "/", "9999-12-31T23:59:59-05:00"]
)
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--datetime 2024"):
        Acquired.parse(text)


# --- where ----------------------------------------------------------------------------------------------------------------


def grid(crs: str, transform: Affine, height: int = 100, width: int = 100) -> Metadata:
    return Metadata(height, width, CRS.from_string(crs), transform, ())


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32633", Affine(10, 0, 463_200, 0, -10, 5_426_400)),
        ("EPSG:32633", Affine(10, 0, 463_200, 0, 10, 5_426_400)),  # south up
        ("EPSG:32621", Affine(3000, 0, 350_000, 0, -3000, 8_300_000)),  # sides curve
        ("EPSG:3413", Affine(1000, 0, -2_000_000, 0, -1000, 1_000_000)),
        ("EPSG:4326", Affine(0.01, 0, 170, 0, -0.01, -10)),
    ],
)
def test_a_footprint_holds_the_raster_and_little_more(crs: str, transform: Affine) -> None:
    metadata = grid(crs, transform)
    outline = footprint(metadata)
    assert isinstance(outline, shapely.Polygon) and outline.exterior.is_ccw
    x, y = zip(*[transform @ corner for corner in ((0, 0), (100, 0), (0, 100), (100, 100))], strict=True)
    wanted = transform_bounds(crs, "EPSG:4326", min(x), min(y), max(x), max(y))
    pixel = max(ground_sample_distance(metadata) or 0, 0.02) / 111_320 / np.cos(np.radians(wanted[3]))
    assert np.allclose(bounding_box(outline), wanted, atol=pixel)


def test_a_footprint_across_the_antimeridian_is_cut_there() -> None:
    outline = footprint(grid("EPSG:32760", Affine(1000, 0, 790_000, 0, -1000, 8_000_000)))
    assert isinstance(outline, shapely.MultiPolygon) and outline.is_valid
    west, _, east, _ = bounding_box(outline)
    assert 179 < west < 180 and -180 < east < -179
    assert all(part.bounds[2] - part.bounds[0] < 1 for part in outline.geoms)


@pytest.mark.parametrize(("crs", "pole"), [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_footprint_around_a_pole_reaches_it(crs: str, pole: int) -> None:
    outline = footprint(grid(crs, Affine(20_000, 0, -1e6, 0, -20_000, 1e6)))
    assert outline is not None and outline.is_valid
    box = bounding_box(outline)
    assert (box[0], box[2]) == (-180, 180) and pole in (box[1], box[3])
    assert outline.covers(shapely.Point(33, pole * 0.95)) and not outline.covers(shapely.Point(33, 0))


@pytest.mark.parametrize(
    ("crs", "transform", "size"),
    [("EPSG:4326", Affine(1, 0, -180, 0, -1, 90), (180, 360)),
     ("EPSG:3857", Affine(400_750.1668, 0, -20_037_508.34, 0, -400_750.1668, 20_037_508.34), (100, 100))],
)  # fmt: skip
def test_a_raster_of_the_whole_earth(crs: str, transform: Affine, size: tuple[int, int]) -> None:
    outline = footprint(grid(crs, transform, *size))
    assert outline is not None
    west, south, east, north = bounding_box(outline)
    assert (west, east) == (-180, 180) and south < -85 and north > 85


def test_a_raster_smaller_than_a_millimetre_has_its_place() -> None:
    outline = footprint(grid("EPSG:4326", Affine(1e-12, 0, 10, 0, -1e-12, 50)))
    assert outline is not None and outline.is_valid
    assert np.allclose(bounding_box(outline), (10, 50, 10, 50), atol=1e-9)


def test_beyond_the_ends_of_a_projection_and_of_the_earth() -> None:
    assert footprint(grid("EPSG:32633", Affine(1e9, 0, 0, 0, -1e9, 0))) is None
    outline = footprint(grid("EPSG:4326", Affine(1, 0, -180, 0, -1, 95)))
    assert outline is not None and bounding_box(outline)[3] == 90


@pytest.mark.parametrize(
    ("crs", "side", "metres"),
    [("EPSG:32633", 10, 10), ("EPSG:2263", 1, 0.305), ("EPSG:3857", 10, 6.59), ("EPSG:4326", 0.0001, 11.1)],
)
def test_the_sampling_distance_is_in_metres_on_the_ground(crs: str, side: float, metres: float) -> None:
    corner = (
        transform_bounds("EPSG:4326", crs, 14, 48.9, 14.0001, 48.9001) if crs != "EPSG:2263" else (98e4, 2e5)
    )
    found = ground_sample_distance(grid(crs, Affine(side, 0, corner[0], 0, -side, corner[1])))
    assert found == pytest.approx(metres, rel=0.005)


# --- beside the run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '{"important": true}',
        '{"type": "Feature", "geometry": null, "properties": {"name": "an area of interest"}}',
        '{"type": "Collection", "stac_version": "1.1.0"}',
    ],
)
def test_another_file_is_not_replaced(text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    (tmp_path / "out.json").write_text(text)
    said = run_here(capfd, "upscale", *BICUBIC, source, "-o", tmp_path / "out.tif", "--stac", "--overwrite")
    assert_refused(said, 1, str(tmp_path / "out.json"))
    assert (tmp_path / "out.json").read_text() == text
    assert not (tmp_path / "out.tif").exists()


@pytest.mark.parametrize("href", ["./a.tif", "../a.tiff", "https://example.org/a.tiff", "a\0.tiff", 7, None])
def test_the_item_of_another_file_is_not_replaced(
    href: object, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Such as the source's own, where the two names differ in their ending only."""
    source = factory.write_plain(tmp_path / "a.tif")
    assets = {} if href is None else {"data": {"href": href}}
    text = json.dumps({"type": "Feature", "stac_version": "1.1.0", "assets": assets})
    (tmp_path / "a.json").write_text(text)
    said = run_here(capfd, "upscale", *BICUBIC, source, "-o", tmp_path / "a.tiff", "--stac")
    assert_refused(said, 1, f"'{tmp_path / 'a.json'}': a STAC item of another file is there")
    assert (tmp_path / "a.json").read_text() == text
    assert not (tmp_path / "a.tiff").exists()


def test_a_picture_of_the_users_is_not_replaced(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    (tmp_path / "out.thumbnail.png").write_bytes(b"mine")
    with pytest.raises(JobError, match="another file has that name"):
        upscale(source, tmp_path / "out.tif", 2, "nearest", stac=True, acquired=WHEN)
    assert not (tmp_path / "out.tif").exists()
    assert (tmp_path / "out.thumbnail.png").read_bytes() == b"mine"


def test_two_results_do_not_share_an_item(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    upscale(source, tmp_path / "a.tif", 2, "nearest", stac=True, acquired=WHEN)
    kept = (tmp_path / "a.json").read_text()
    with pytest.raises(JobError, match="a STAC item of another file"):
        upscale(source, tmp_path / "a.tiff", 2, "nearest", stac=True, acquired=WHEN)
    assert (tmp_path / "a.json").read_text() == kept and not (tmp_path / "a.tiff").exists()


def test_two_results_of_a_batch_do_not_share_an_item(tmp_path: Path) -> None:
    scenes = [factory.write_plain(tmp_path / f"{number}.tif", count=1) for number in (1, 2)]
    targets = [tmp_path / "out" / name for name in ("a.tif", "a.tiff")]
    pairs = [(str(scene), target) for scene, target in zip(scenes, targets, strict=True)]
    with pytest.raises(ConfigError, match=r"a\.json'\. Pass a --name"):
        list(upscale_batch(pairs, 2, "bicubic", stac=True, acquired=WHEN))
    assert not (tmp_path / "out").exists()


def test_an_item_is_renewed_by_whatever_name_its_folder_has(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    (tmp_path / "results").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "results")
    upscale(source, tmp_path / "results" / "out.tif", 2, "nearest", stac=True, acquired="2020-01-01")
    for folder in ("link", "results/../link", "results"):
        target = tmp_path / folder / "out.tif"
        upscale(source, target, 2, "nearest", stac=True, acquired=WHEN, overwrite=True)
        check(json.loads((tmp_path / "results" / "out.json").read_text()), tmp_path / "results" / "out.tif")


def test_an_item_is_not_derived_from_itself(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "a.tif", count=1)
    for _ in range(2):
        upscale(source, tmp_path / "a.tiff", 2, "nearest", stac=True, acquired=WHEN, overwrite=True)
        (link,) = json.loads((tmp_path / "a.json").read_text())["links"]
        assert link["href"] == "./a.tif"


def test_an_item_has_a_file_of_its_own(tmp_path: Path) -> None:
    """Else the image would be taken for a file that is in the item's way, once all work is done."""
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    other = factory.write_plain(tmp_path / "scene.json", count=1)
    before = other.read_bytes()
    wanted: dict[str, Any] = {"stac": True, "acquired": WHEN, "overwrite": True}
    with pytest.raises(SceneError, match=r"results are GeoTIFFs"):
        upscale(source, tmp_path / "x.json", 2, "nearest", **wanted)
    spread = {"ensemble": True, "uncertainty": tmp_path / "link" / "x.json"}
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(SceneError, match=r"results are GeoTIFFs"):
        upscale(source, tmp_path / "x.tif", 2, Fake(), **spread, **wanted)
    with pytest.raises(JobError, match=r"it is the source itself\. Pass another -o"):
        upscale(other, tmp_path / "scene.tif", 2, "nearest", **wanted)
    assert other.read_bytes() == before
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.tif", "link", "scene.json"]


def test_a_name_too_long_for_its_item_is_refused_before_the_work(tmp_path: Path) -> None:
    """Item and pictures are written under longer names than their own, and the image is not."""
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    longest = "é" * 113 + ".tif"  # 2 bytes each
    upscale(source, tmp_path / longest, 2, "nearest", stac=True, acquired=WHEN)
    assert (tmp_path / longest).with_suffix(".json").exists()
    with pytest.raises(JobError, match=r"has 242 bytes, more than 241\. Pass another -o"):
        upscale(source, tmp_path / f"nn{longest}", 2, "nearest", stac=True, acquired=WHEN)
    assert not (tmp_path / f"nn{longest}").exists()


def test_image_and_uncertainty_need_two_files(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif", count=1)
    (tmp_path / "sub").mkdir()
    with pytest.raises(ConfigError, match="Cannot write the image and its uncertainty to one file"):
        upscale(source, tmp_path / "h.tif", 2, Fake(), ensemble=True, uncertainty=tmp_path / "sub/../h.tif")
    assert not (tmp_path / "h.tif").exists()


def test_a_time_without_an_item_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    assert_refused(
        run_here(capfd, "upscale", *BICUBIC, source, "-o", tmp_path / "out.tif", "--datetime", WHEN),
        1,
        "--stac",
    )


def test_an_item_that_no_longer_holds_is_warned_of(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    command = ["upscale", *BICUBIC, source, "-o", tmp_path / "out.tif", "--overwrite", "-s", 2]
    assert not run_here(capfd, *command, "--stac", "--datetime", WHEN).warned
    assert not run_here(capfd, *command, "--stac", "--datetime", WHEN, "--model", "lanczos").warned
    (warning,) = run_here(capfd, *command, "--model", "nearest").warned
    assert "--stac" in warning


def test_an_item_that_could_not_be_written_is_written_by_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = factory.write_plain(tmp_path / "in.tif", count=1), tmp_path / "out.tif"

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(SceneError, match="No space left"):
        patched.setattr("geosegsr.raster.stac.whole_file", full)
        upscale(source, target, 2, "bicubic", stac=True, acquired=WHEN)
    assert target.exists() and not target.with_suffix(".json").exists()
    made = target.stat().st_mtime_ns
    report = upscale(source, target, 2, "bicubic", stac=True, acquired=WHEN)
    assert target.stat().st_mtime_ns == made
    check(json.loads(Path(str(report.stac)).read_text()), target)
    made = {entry.name for entry in tmp_path.iterdir()}
    assert made == {"in.tif", "out.json", "out.overview.png", "out.thumbnail.png", "out.tif"}


def test_scenes_of_a_batch_get_items_those_finished_before_too(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        factory.write_plain(tmp_path / f"{name}.tif", count=1)
    command = [
        "upscale",
        *BICUBIC,
        tmp_path / "a.tif",
        tmp_path / "b.tif",
        "-o",
        f"{tmp_path}/out/",
        "-s",
        2,
        "-q",
    ]
    assert run_here(capfd, *command).code == 0
    assert run_here(capfd, *command, "--stac", "--datetime", WHEN).code == 0
    for name in ("a", "b"):
        result = tmp_path / "out" / f"{name}_x2.tif"
        check(json.loads(result.with_suffix(".json").read_text()), result)
    kept = (tmp_path / "out" / "a_x2.json").stat().st_mtime_ns
    assert run_here(capfd, *command, "--stac", "--datetime", WHEN).code == 0
    assert (tmp_path / "out" / "a_x2.json").stat().st_mtime_ns == kept


@pytest.mark.filterwarnings("ignore:.*declares no nodata, but")
def test_real_scenes(real_scenes: Path, tmp_path: Path) -> None:
    """Polar, points, polynomials and a CRS of no authority."""
    for name in ("polar_float32_nodata", "gcps_210", "rpcs", "rotated_southup_jpeg", "scale_offset"):
        result = tmp_path / f"{name}.tif"
        window = {"window": (0, 0, 100, 100)}
        report = upscale(
            real_scenes / f"{name}.tif", result, 2, "nearest", stac=True, acquired=WHEN, **window
        )
        check(json.loads(Path(str(report.stac)).read_text()), result)


# --- collections ------------------------------------------------------------------------------------------------------------


def _batch(folder: Path, names: str) -> None:
    for name in names:
        if not (folder / f"{name}.tif").exists():
            factory.write_plain(folder / f"{name}.tif", count=1)
    pairs = [(str(folder / f"{name}.tif"), folder / "out" / name / f"{name}.tif") for name in names]
    list(upscale_batch(pairs, 2, "nearest", stac=True, acquired=WHEN))


def test_a_batch_has_a_collection_that_grows(tmp_path: Path) -> None:
    _batch(tmp_path, "ab")
    path = tmp_path / "out" / "collection.json"
    first = json.loads(path.read_text())
    pystac.validation.validate_dict({**first, "stac_extensions": []})
    assert [link["href"] for link in first["links"] if link["rel"] == "item"] == ["./a/a.json", "./b/b.json"]
    assert first["extent"]["temporal"]["interval"] == [[WHEN, WHEN]]
    box = json.loads((tmp_path / "out" / "a" / "a.json").read_text())["bbox"]
    assert first["extent"]["spatial"]["bbox"][0] == box
    item = tmp_path / "out" / "b" / "b.json"
    found = pystac.Item.from_file(item)
    assert found.collection_id == "out"
    assert Path(str(found.get_single_link("collection").get_absolute_href())) == path
    before = item.stat()
    (tmp_path / "out" / "a" / "a.json").unlink()
    _batch(tmp_path, "bc")
    assert item.stat() == before  # its item is up to date
    again = json.loads(path.read_text())
    assert [link["href"] for link in again["links"] if link["rel"] == "item"] == ["./b/b.json", "./c/c.json"]


def test_a_collection_of_the_users_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "collection.json").write_text('{"type": "Collection"}')
    with pytest.warns(GeoSegSRWarning, match="is another file"):
        _batch(tmp_path, "ab")
    assert (tmp_path / "out" / "collection.json").read_text() == '{"type": "Collection"}'
