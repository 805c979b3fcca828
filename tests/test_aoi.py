"""Areas of interest: snapped outward, masked, and placed by any CRS."""

import json
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
import shapely
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom

import geosegsr
from geosegsr.aoi import Area, area_from_bbox, area_from_geometry, area_from_window
from geosegsr.errors import ConfigError, WindowError
from geosegsr.scene import Scene
from geosegsr.windows import Window


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


def test_a_scene_without_geotransform_takes_windows_only(tmp_path: Path) -> None:
    scene = Scene.open(factory.write_gcps(tmp_path / "in.tif"))
    with pytest.raises(WindowError, match=r"it has no geotransform\. Pass --window"):
        area_from_bbox(scene, (0, 0, 1, 1))
    assert area_from_window(scene, (1, 2, 3, 4)).window == Window(2, 1, 4, 3)
