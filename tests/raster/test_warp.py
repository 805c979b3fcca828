"""A scene on another pixel grid, against fields whose values are known at every place."""

import numpy as np
import pytest
from affine import Affine
from pyproj import Transformer
from rasterio.enums import ColorInterp
from scene_factory import CRS, TRANSFORM, blob, pixels, write_scene

from geosegsr.errors import SceneError
from geosegsr.raster import warp
from geosegsr.raster.scene import Scene
from geosegsr.raster.warp import WarpedScene
from geosegsr.raster.window import Window


def plane(transform, size, crs=CRS, to=None):
    """A field that is linear in the coordinates of `to`, at pixel centres; shape (1, h, w)."""
    rows, cols = np.mgrid[0 : size[0], 0 : size[1]] + 0.5
    x, y = transform @ (cols, rows)
    if to is not None:
        x, y = Transformer.from_crs(crs, to, always_xy=True).transform(x, y)
    return (0.7 * (x - 463_200) - 0.3 * (y - 5_426_400))[None]


def grid(path, transform, size=(40, 50), **profile):
    return Scene.open(write_scene(path, np.ones((1, *size), "uint8"), transform=transform, **profile))


def test_whole_pixels_apart_nothing_is_resampled(tmp_path):
    values = pixels(size=(48, 64))
    source = Scene.open(write_scene(tmp_path / "a.tif", values))
    target = grid(tmp_path / "b.tif", TRANSFORM @ Affine.translation(3, 5))
    placed = WarpedScene.onto(source, target)
    assert placed.metadata.transform == target.metadata.transform
    found, valid = placed.read(placed.window)
    assert valid.all()
    assert found.dtype == values.dtype
    assert np.array_equal(found, values[:, 5:45, 3:53])


@pytest.mark.parametrize(
    "target",
    [
        TRANSFORM @ Affine.translation(3.5, 5.25),
        TRANSFORM @ Affine.translation(2, 2) @ Affine.scale(0.37),
        TRANSFORM @ Affine.scale(3.3) @ Affine.translation(1, 1),
        TRANSFORM @ Affine.translation(20, 5) @ Affine.rotation(30),
    ],
)
def test_a_plane_stays_a_plane_on_any_grid(tmp_path, target):
    size = (160, 200)
    source = Scene.open(write_scene(tmp_path / "a.tif", plane(TRANSFORM, size)))
    placed = WarpedScene.onto(source, grid(tmp_path / "b.tif", target))
    found, valid = placed.read(placed.window)
    expected = plane(placed.transform, (placed.height, placed.width))
    rows, cols = np.mgrid[0 : placed.height, 0 : placed.width] + 0.5
    x, y = ~TRANSFORM @ (placed.transform @ (cols, rows))
    reach = 8
    inside = (x > reach) & (x < size[1] - reach) & (y > reach) & (y < size[0] - reach)
    assert inside.mean() > 0.3
    assert valid[0][inside].all()
    assert not valid[0][(x < -reach) | (y < -reach) | (x > size[1] + reach) | (y > size[0] + reach)].any()
    assert np.abs(found - expected)[0][inside].max() < 0.01  # a thousandth of a pixel of the source


def test_another_crs_is_met_to_a_hundredth_of_a_pixel(tmp_path):
    degrees = Affine(1e-4, 0, 14.5, 0, -1e-4, 49.0)
    field = plane(degrees, (220, 260), "EPSG:4326", CRS)
    source = Scene.open(write_scene(tmp_path / "a.tif", field, transform=degrees, crs="EPSG:4326"))
    x, y = Transformer.from_crs("EPSG:4326", CRS, always_xy=True).transform(14.51, 48.99)
    placed = WarpedScene.onto(source, grid(tmp_path / "b.tif", Affine(8, 0, x, 0, -8, y)))
    found, valid = placed.read(placed.window)
    assert valid.all()
    assert np.abs(found - plane(placed.transform, (40, 50))).max() < 0.01 * 8


@pytest.mark.parametrize("pieces", [False, True])
def test_every_window_has_the_pixels_of_the_whole(tmp_path, monkeypatch, pieces):
    source = Scene.open(write_scene(tmp_path / "a.tif", pixels(size=(120, 150)), crs="EPSG:32633"))
    target = TRANSFORM @ Affine.translation(2.3, 4.6) @ Affine.rotation(7) @ Affine.scale(1.7)
    placed = WarpedScene.onto(source, grid(tmp_path / "b.tif", target, (50, 60)))
    whole, known = placed.read(placed.window)
    if pieces:
        monkeypatch.setattr(warp, "_MOST_PIXELS", 900)
    for window in (Window(0, 0, 20, 25), Window(17, 11, 13, 29), placed.window):
        found, valid = placed.read(window)
        assert np.array_equal(valid, known[:, *window.slices])
        assert np.array_equal(found[valid], whole[:, *window.slices][valid])


@pytest.mark.parametrize("kind", ["nodata", "mask", "alpha", "nan"])
def test_pixels_without_data_count_nowhere(tmp_path, kind):
    invalid = blob((48, 64))
    results = []
    for filler in (0, 60_000):
        values = pixels(size=(48, 64), dtype="float32" if kind == "nan" else "uint16")
        values[:, invalid] = filler
        options = {}
        if kind == "nodata":
            options["nodata"] = filler
        elif kind == "nan":
            values[:, invalid] = np.nan
        elif kind == "mask":
            options["mask"] = ~invalid
        else:
            values = np.concatenate([values, np.where(invalid, 0, 65_535).astype("uint16")[None]])
            options["colorinterp"] = (ColorInterp.red, ColorInterp.green, ColorInterp.blue, ColorInterp.alpha)
        source = Scene.open(write_scene(tmp_path / f"{filler}.tif", values, **options))
        assert (source.alpha_band is not None) == (kind == "alpha")
        placed = WarpedScene.onto(
            source, grid(tmp_path / "b.tif", TRANSFORM @ Affine.translation(0.4, 0.4), (47, 63))
        )
        results.append(placed.read(placed.window))
    (one, valid), (other, same) = results
    assert np.array_equal(valid, same)
    assert np.array_equal(one[valid], other[valid])
    assert one[valid].min() > 0
    assert not valid[:, invalid[:47, :63] & invalid[1:, 1:] & invalid[1:, :63] & invalid[:47, 1:]].all()
    assert valid.mean() == pytest.approx(1 - invalid.mean(), abs=0.06)


def test_what_has_no_ground_in_common_is_no_scene(tmp_path):
    source = Scene.open(write_scene(tmp_path / "a.tif", pixels()))
    for number, transform in enumerate((TRANSFORM @ Affine.translation(64, 0), Affine(10, 0, 0, 0, -10, 0))):
        assert WarpedScene.onto(source, grid(tmp_path / f"{number}.tif", transform)) is None


def test_a_scene_around_a_pole_covers_it(tmp_path):
    polar = Affine(50_000, 0, -2e6, 0, -50_000, 2e6)
    source = Scene.open(
        write_scene(tmp_path / "a.tif", pixels(1, (80, 80)), transform=polar, crs="EPSG:3413")
    )
    world = grid(tmp_path / "b.tif", Affine(1, 0, -180, 0, -1, 90), (180, 360), crs="EPSG:4326")
    placed = WarpedScene.onto(source, world)
    _, valid = placed.read(placed.window)
    assert (placed.metadata.transform.f, placed.width) == (90, 360)
    assert valid[0, :10].all()  # down to 80 degrees north


def test_a_crs_that_nothing_leads_to_is_refused(tmp_path):
    site = 'LOCAL_CS["site",UNIT["metre",1]]'
    source = Scene.open(write_scene(tmp_path / "a.tif", pixels(), crs=site))
    with pytest.raises(SceneError, match=r"Cannot warp .*a\.tif' between"):
        WarpedScene.onto(source, grid(tmp_path / "b.tif", TRANSFORM))


def test_rasters_without_a_crs_share_a_plane(tmp_path):
    size = (60, 80)
    source = Scene.open(write_scene(tmp_path / "a.tif", plane(TRANSFORM, size), crs=None))
    placed = WarpedScene.onto(
        source, grid(tmp_path / "b.tif", TRANSFORM @ Affine.translation(3.5, 5.25), crs=None)
    )
    found, _ = placed.read(Window(0, 0, 40, 50))
    assert np.allclose(found, plane(placed.transform, (40, 50)), rtol=0, atol=1e-3)
