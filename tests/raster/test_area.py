"""Areas of interest: snapped outward, masked, and placed by any CRS."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
import shapely
from affine import Affine
from rasterio.features import geometry_mask
from rasterio.warp import transform as transform_coordinates
from rasterio.warp import transform_geom

import geosegsr
from geosegsr.errors import ConfigError, WindowError
from geosegsr.raster.area import Area, area_from_bbox, area_from_geometry, area_from_window
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.open(factory.write_plain(tmp_path / "in.tif"))


def corner(scene: Scene, col: float, row: float) -> tuple[float, float]:
    assert scene.transform is not None
    x, y = scene.transform @ (col, row)
    return x, y


def polygon(scene: Scene, *pixels: tuple[float, float]) -> shapely.Polygon:
    return shapely.Polygon([corner(scene, col, row) for col, row in pixels])


def test_a_box_is_snapped_outward_to_whole_pixels(scene: Scene) -> None:
    west, north = corner(scene, 3.2, 4.9)
    east, south = corner(scene, 10.1, 8.0)
    area = area_from_bbox(scene, (west, south, east, north))
    assert area == Area(Window(4, 3, 4, 8))


def test_a_side_on_the_edge_of_a_pixel_adds_no_pixel_by_rounding(scene: Scene) -> None:
    west, north = corner(scene, 3 - 1e-8, 4 - 1e-8)
    east, south = corner(scene, 11 + 1e-8, 8 + 1e-8)
    assert area_from_bbox(scene, (west, south, east, north)) == Area(Window(4, 3, 4, 8))
    west, north = corner(scene, 3.01, 4.01)
    east, south = corner(scene, 10.01, 7.01)
    assert area_from_bbox(scene, (west, south, east, north)) == Area(Window(4, 3, 4, 8))


def test_an_area_beyond_the_scene_ends_with_it(scene: Scene) -> None:
    before, beyond = corner(scene, -5, -7), corner(scene, scene.width + 5, scene.height + 7)
    last = corner(scene, scene.width - 2, scene.height - 3)
    area = area_from_bbox(scene, (last[0], beyond[1], beyond[0], last[1]))
    assert area == Area(Window(scene.height - 3, scene.width - 2, 3, 2))
    area = area_from_bbox(scene, (before[0], beyond[1], beyond[0], before[1]))
    assert area == Area(Window(0, 0, scene.height, scene.width))


@pytest.mark.parametrize(
    "polygon", [None, shapely.Polygon([(1000.31, 900.77), (1090.13, 1010.42), (1015.9, 1070.6)])]
)
def test_a_mask_has_the_same_pixels_in_any_window(polygon: shapely.Polygon | None) -> None:
    """Polygons are burnt in squares of 1024 pixels; this one lies across four of them."""
    area = Area(Window(890, 1001, 170, 80), None if polygon is None else shapely.to_wkb(polygon))
    whole = np.zeros((1100, 1100), bool)
    whole[area.window.slices] = True
    if polygon is not None:
        whole &= geometry_mask([polygon], whole.shape, Affine.identity(), all_touched=True, invert=True)
    for window in (Window(0, 0, 1100, 1100), Window(1020, 1020, 10, 10), Window(1000, 990, 100, 110),
                   Window(880, 1000, 150, 30), Window(1059, 1080, 3, 3)):  # fmt: skip
        np.testing.assert_array_equal(area.mask(window), whole[window.slices])


def test_a_polygon_masks_what_it_does_not_touch(scene: Scene) -> None:
    shape = polygon(scene, (2.5, 2.5), (20.5, 4.5), (9.5, 30.5))
    area = area_from_geometry(scene, shape.wkt)
    expected = geometry_mask(
        [shape], (scene.height, scene.width), scene.transform, all_touched=True, invert=True
    )
    np.testing.assert_array_equal(area.mask(scene.window), expected)
    part = Window(5, 3, 9, 14)
    np.testing.assert_array_equal(area.mask(part), expected[part.slices])


def test_files_text_and_crs_name_the_same_area(scene: Scene, tmp_path: Path) -> None:
    shape = polygon(scene, (2.5, 2.5), (20.5, 4.5), (9.5, 30.5))
    lonlat = transform_geom(scene.crs, "EPSG:4326", shapely.geometry.mapping(shape))
    (tmp_path / "area.geojson").write_text(json.dumps(lonlat))
    (tmp_path / "area.wkt").write_text(shape.wkt)
    expected = area_from_geometry(scene, shape.wkt).mask(scene.window)
    for source, crs in [
        (tmp_path / "area.geojson", None),
        (tmp_path / "area.wkt", None),
        (json.dumps(lonlat), None),
        (shapely.geometry.shape(lonlat).wkt, "EPSG:4326"),
    ]:
        mask = area_from_geometry(scene, source, crs).mask(scene.window)
        assert (mask != expected).mean() < 0.002  # a pixel on the edge may fall to either side


def test_an_area_through_upscale_is_masked_where_nothing_else_marks_it(tmp_path: Path) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    scene = Scene.open(source)
    shape = polygon(scene, (2.5, 2.5), (20.5, 4.5), (9.5, 30.5))
    geosegsr.upscale(source, tmp_path / "out.tif", 2, "nearest", aoi=shape.wkt, block=16)
    area = area_from_geometry(scene, shape.wkt)
    with rasterio.open(tmp_path / "out.tif") as out, rasterio.open(source) as before:
        fine = np.repeat(np.repeat(area.mask(area.window), 2, 0), 2, 1)
        np.testing.assert_array_equal(out.read_masks(1) > 0, fine)
        np.testing.assert_array_equal(out.read(1)[::2, ::2], before.read(1)[area.window.slices])


def test_an_area_equals_that_part_of_the_whole(tmp_path: Path) -> None:
    source = factory.write_nodata(tmp_path / "in.tif")
    geosegsr.upscale(source, tmp_path / "whole.tif", 3, "bicubic")
    geosegsr.upscale(source, tmp_path / "part.tif", 3, "bicubic", window=(6, 9, 20, 25))
    with rasterio.open(tmp_path / "whole.tif") as whole, rasterio.open(tmp_path / "part.tif") as part:
        np.testing.assert_array_equal(part.read(), whole.read()[:, 27:102, 18:78])


def test_areas_that_cannot_work_say_why(scene: Scene, tmp_path: Path) -> None:
    west, north = corner(scene, -50, -50)
    with pytest.raises(WindowError, match="lies outside"):
        area_from_bbox(scene, (west - 100, north, west, north + 100))
    with pytest.raises(WindowError, match="west must be less than east"):
        area_from_bbox(scene, (5, 0, 4, 1))
    with pytest.raises(WindowError, match="does not lie inside"):
        area_from_window(scene, (0, 0, scene.width + 1, 2))
    with pytest.raises(WindowError, match="polygons"):
        area_from_geometry(scene, "LINESTRING (0 0, 1 1)")
    with pytest.raises(ConfigError, match="neither WKT nor GeoJSON"):
        area_from_geometry(scene, "no such thing")
    with pytest.raises(ConfigError, match="Cannot use CRS"):
        area_from_bbox(scene, (0, 0, 1, 1), "EPSG:0")
    (tmp_path / "broken.gpkg").write_text("nonsense")
    with pytest.raises(ConfigError, match="Cannot read area of interest"):
        area_from_geometry(scene, tmp_path / "broken.gpkg")


# 3 and 6 degrees from the middle of their zones, on the equator, far south, in a Mercator without poles.
PLACES = [
    ("EPSG:32633", Affine(10, 0, 463_200, 0, -10, 5_426_400)),
    ("EPSG:32633", Affine(10, 0, 160_000, 0, -10, 20_000)),
    ("EPSG:32733", Affine(100, 0, 840_000, 0, -100, 2_000_000)),
    ("EPSG:3857", Affine(10, 0, 1_000_000, 0, -10, 6_000_000)),
    ("EPSG:2154", Affine(10, 0, 700_000, 0, -10, 6_600_000)),
]


@pytest.mark.parametrize(("crs", "transform"), PLACES)
@pytest.mark.parametrize(
    "bbox", [(-180, -90, 180, 90), (-180, -85, 180, 85), (-170, -80, 170, 80), (-70, -80, 80, 80)]
)
def test_an_area_of_half_the_earth_holds_the_scene(
    crs: str, transform: Affine, bbox: tuple[float, float, float, float], tmp_path: Path
) -> None:
    scene = Scene.open(factory.write_plain(tmp_path / "in.tif", crs=crs, transform=transform))
    area = area_from_bbox(scene, bbox, "EPSG:4326")
    assert area.window == scene.window
    assert area.mask(scene.window).all()


@pytest.mark.parametrize(("crs", "transform"), PLACES)
def test_the_edge_of_a_wide_area_is_exact_over_the_scene(crs: str, transform: Affine, tmp_path: Path) -> None:
    """An edge of half the Earth is as exact over the scene as a short one."""
    scene = Scene.open(factory.write_plain(tmp_path / "in.tif", crs=crs, transform=transform))
    (lon,), (lat,) = transform_coordinates(crs, "EPSG:4326", *zip(corner(scene, 32, 24), strict=True))
    wide = area_from_bbox(scene, (-180, lat, 180, 90), "EPSG:4326")
    narrow = area_from_bbox(scene, (lon - 0.1, lat, lon + 0.1, lat + 0.1), "EPSG:4326")
    difference = wide.mask(scene.window) != narrow.mask(scene.window)
    assert difference.mean() < 0.002
    assert 0.4 < wide.mask(scene.window).mean() < 0.6


@pytest.mark.parametrize(("crs", "transform"), PLACES)
def test_a_wide_area_beside_the_scene_lies_outside(crs: str, transform: Affine, tmp_path: Path) -> None:
    scene = Scene.open(factory.write_plain(tmp_path / "in.tif", crs=crs, transform=transform))
    around = shapely.box(-180, -90, 180, 90) - shapely.box(-60, -89, 60, 89)
    for area in (shapely.box(100, -80, 170, 80), around):
        with pytest.raises(WindowError, match=r"lies outside '.*' \(in its own CRS it has x "):
            area_from_geometry(scene, area.wkt, "EPSG:4326")


@pytest.mark.parametrize("bbox", [(0, -90, 360, 90), (263, 38.9, 263.5, 41), (-460, 38.9, -96.5, 41)])
def test_longitudes_may_count_on(bbox: tuple[float, float, float, float], tmp_path: Path) -> None:
    grid = {"crs": "EPSG:32614", "transform": Affine(10, 0, 680_000, 0, -10, 4_430_000)}
    scene = Scene.open(factory.write_plain(tmp_path / "in.tif", **grid))  # at 97 degrees west
    assert area_from_bbox(scene, bbox, "EPSG:4326").mask(scene.window).all()


def test_areas_of_a_scene_across_the_antimeridian(tmp_path: Path) -> None:
    grid = {"crs": "EPSG:32760", "transform": Affine(1000, 0, 790_000, 0, -1000, 8_000_000)}
    scene = Scene.open(factory.write_plain(tmp_path / "in.tif", **grid))
    (before,) = area_from_bbox(scene, (170, -30, 180, 0), "EPSG:4326").mask(scene.window)[24:25]
    (after,) = area_from_bbox(scene, (-180, -30, -170, 0), "EPSG:4326").mask(scene.window)[24:25]
    assert before[0] and not before[-1] and after[-1] and not after[0]
    assert area_from_bbox(scene, (170, -30, 190, 0), "EPSG:4326").mask(scene.window).all()
    assert area_from_bbox(scene, (170, -30, -170, 0), "EPSG:4326").mask(scene.window).all()


@pytest.mark.parametrize("name", ["area.wkt", "area.geojson"])
def test_a_file_that_may_not_be_read_is_named(
    name: str, scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read all, so that a file's permissions would show nothing where tests run as root."""

    def refused(*_: object, **__: object) -> str:
        raise PermissionError(13, "Permission denied")

    (tmp_path / name).write_text("POLYGON ((0 0, 1 0, 1 1, 0 0))")
    monkeypatch.setattr(Path, "read_bytes" if name.endswith(".wkt") else "is_file", refused)
    with pytest.raises(
        ConfigError, match=rf"Cannot read area of interest '.*{name}': Permission denied\. Pass"
    ):
        area_from_geometry(scene, tmp_path / name)


@pytest.mark.parametrize("name", ["n" * 300 + ".wkt", "n" * 300, "a\0b.wkt", "a\0b.geojson"])
def test_a_name_that_no_file_can_have_is_refused(name: str, scene: Scene) -> None:
    with pytest.raises(ConfigError, match="Cannot use area of interest"):
        area_from_geometry(scene, name)


def test_a_scene_without_geotransform_takes_windows_only(tmp_path: Path) -> None:
    scene = Scene.open(factory.write_gcps(tmp_path / "in.tif"))
    with pytest.raises(WindowError, match=r"it has no geotransform\. Pass --window"):
        area_from_bbox(scene, (0, 0, 1, 1))
    assert area_from_window(scene, (1, 2, 3, 4)).window == Window(2, 1, 4, 3)


def test_a_box_whose_west_is_more_than_its_east_crosses_180_degrees(tmp_path: Path) -> None:
    turn = Affine(1000.0, 0.0, 500_000.0 - 24_000.0, 0.0, -1000.0, 8_000_000.0)
    scene = Scene.open(factory.write_plain(tmp_path / "fiji.tif", crs="EPSG:32701", transform=turn))
    west, east = (
        transform_coordinates("EPSG:32701", "EPSG:4326", [500_000 + x], [7_976_000])[0][0]
        for x in (-20_000, 30_000)
    )
    assert -180 < west < east < -176
    plain = area_from_bbox(scene, (west, -19, east, -17), "EPSG:4326")
    # The same scene, from 180 degrees on; and one in longitudes on either side of it.
    across = area_from_bbox(scene, (179.5, -19, east, -17), "EPSG:4326")
    np.testing.assert_array_equal(plain.mask(scene.window)[:, 10:], across.mask(scene.window)[:, 10:])
    for left in (178.0, -182.0):
        pixels = Affine(0.1, 0.0, left, 0.0, -0.1, -15.0)
        wide = Scene.open(factory.write_plain(tmp_path / "wide.tif", crs="EPSG:4326", transform=pixels))
        mask = area_from_bbox(wide, (179, -19, -179, -15)).mask(wide.window)
        np.testing.assert_array_equal(np.flatnonzero(mask.any(axis=0)), np.arange(10, 30))


@pytest.mark.parametrize("bbox", [(20.0, 0.0, 10.0, 1.0), (190.0, 0.0, 10.0, 1.0)])
def test_a_box_that_crosses_nothing_keeps_its_west_below_its_east(
    bbox: tuple[float, float, float, float], scene: Scene
) -> None:
    with pytest.raises(WindowError, match="west must be less than east"):
        area_from_bbox(scene, bbox)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("table.csv", "a,b\n1,2\n", "holds no geometry"),
        (
            "gone.vrt",
            '<OGRVRTDataSource><OGRVRTLayer name="gone"><SrcDataSource>gone.shp</SrcDataSource></OGRVRTLayer>'
            "</OGRVRTDataSource>",
            "gone.shp",
        ),
    ],
)
def test_vector_files_without_polygons_are_one_line(
    name: str, text: str, said: str, scene: Scene, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=said) as caught:
        area_from_geometry(scene, tmp_path / name)
    assert "\n" not in str(caught.value)


BOW_TIE = ((2.3, 2.4), (30.3, 30.4), (30.3, 2.4), (2.3, 30.4))


def test_a_polygon_that_crosses_itself_a_few_times_is_its_two_halves(scene: Scene) -> None:
    halves = shapely.MultiPolygon(
        [polygon(scene, BOW_TIE[i], (16.3, 16.4), BOW_TIE[j]) for i, j in ((0, 3), (1, 2))]
    )
    whole = area_from_geometry(scene, polygon(scene, *BOW_TIE).wkt)
    assert whole == Area(Window(2, 2, 29, 29), whole.polygon)
    np.testing.assert_array_equal(
        whole.mask(scene.window), area_from_geometry(scene, halves.wkt).mask(scene.window)
    )


def test_a_polygon_that_crosses_itself_keeps_both_halves_in_another_crs(scene: Scene) -> None:
    def moved(shape: shapely.Geometry) -> str:
        def to_degrees(xy: np.ndarray) -> np.ndarray:
            return np.column_stack(transform_coordinates(scene.crs, "EPSG:4326", xy[:, 0], xy[:, 1]))

        return shapely.transform(shape, to_degrees).wkt

    there = area_from_geometry(scene, moved(polygon(scene, *BOW_TIE)), "EPSG:4326")
    halves = [polygon(scene, BOW_TIE[i], (16.3, 16.4), BOW_TIE[j]) for i, j in ((0, 3), (1, 2))]
    each = [area_from_geometry(scene, moved(half), "EPSG:4326").mask(scene.window) for half in halves]
    np.testing.assert_array_equal(there.mask(scene.window), np.logical_or(*each))


def test_a_file_may_hold_a_polygon_that_crosses_itself_beside_others(scene: Scene, tmp_path: Path) -> None:
    box = polygon(scene, (9.3, 9.2), (40.3, 9.2), (40.3, 40.2), (9.3, 40.2))
    parts = [polygon(scene, *BOW_TIE), box]
    features = [{"type": "Feature", "properties": {}, "geometry": part.__geo_interface__} for part in parts]
    (tmp_path / "area.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    mask = area_from_geometry(scene, tmp_path / "area.geojson", scene.crs.to_wkt()).mask(scene.window)
    either = (area_from_geometry(scene, part.wkt).mask(scene.window) for part in parts)
    np.testing.assert_array_equal(mask, np.logical_or(*either))


@pytest.mark.parametrize("name", ["area.wkt", "area.geojson", "features.geojson"])
def test_a_polygon_that_crosses_itself_millions_of_times_is_refused(
    name: str, scene: Scene, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(0).uniform(0, 40, (4_000, 2))
    tangle = polygon(scene, *pixels)
    feature = {"type": "Feature", "properties": {}, "geometry": tangle.__geo_interface__}
    text = {
        "area.wkt": tangle.wkt,
        "area.geojson": shapely.to_geojson(tangle),
        "features.geojson": json.dumps({"type": "FeatureCollection", "features": [feature, feature]}),
    }[name]
    (tmp_path / name).write_text(text)
    for source in (tmp_path / name, text) if name == "area.wkt" else (tmp_path / name,):
        with pytest.raises(
            WindowError, match=r"4,001 vertices, cross each other more than 5,000 times\. .*--bbox"
        ):
            area_from_geometry(scene, source, scene.crs.to_wkt())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_text_as_editors_and_databases_write_it(scene: Scene, tmp_path: Path, encoding: str) -> None:
    """With a mark at its beginning, and with the code of its CRS before it."""
    (west, south), (east, north) = corner(scene, 4, 20), corner(scene, 24, 8)
    wkt = f"POLYGON (({west} {south}, {east} {south}, {east} {north}, {west} {south}))"
    code = scene.crs.to_epsg()
    expected = area_from_geometry(scene, wkt)
    for text in (wkt, f"SRID={code};{wkt}"):
        (tmp_path / "a.wkt").write_text(text, encoding=encoding)
        assert area_from_geometry(scene, tmp_path / "a.wkt").window == expected.window
    with pytest.raises(WindowError):
        area_from_geometry(scene, f"SRID=4326;{wkt}")
    (tmp_path / "b.wkt").write_text("garbage", encoding=encoding)
    with pytest.raises(ConfigError, match="it holds neither WKT nor GeoJSON"):
        area_from_geometry(scene, tmp_path / "b.wkt")
