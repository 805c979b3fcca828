import numpy as np
import pytest
import rasterio
from training_kit import as_dtype, folder_of, ground, write

from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning, SceneError
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.find import find_images
from geosegsr.imagery.ground import find_overlaps, footprint, group_by_place, split_by_place
from geosegsr.imagery.images import open_images, radiometry_policy
from geosegsr.raster.radiometry import resolve_radiometry
from geosegsr.raster.scene import Scene


def opened(root, **data):
    return open_images(find_images([str(root)]), DataConfig(**data))


def test_an_unreadable_file_among_good_ones_is_named_and_counted(tmp_path):
    folder_of(tmp_path, 3)
    (tmp_path / "broken.tif").write_bytes(b"II*\0 nothing more")
    with pytest.warns(GeoSegSRWarning, match=r"1 of 4 images left out.*broken\.tif"):
        scenes = opened(tmp_path)
    assert len(scenes) == 3


def test_only_unreadable_files_are_an_error(tmp_path):
    (tmp_path / "broken.tif").write_bytes(b"nothing")
    with pytest.raises(SceneError, match=r"the only image is left out.*broken\.tif"):
        opened(tmp_path)


def test_mixed_band_counts_are_refused_with_bands_that_all_have(tmp_path):
    folder_of(tmp_path / "a", 1, count=3)
    folder_of(tmp_path / "b", 1, count=4)
    with pytest.raises(BandError, match=r"has 3 and '.*' has 4. Pass --bands 1,2,3"):
        opened(tmp_path)
    assert {scene.count for scene in opened(tmp_path, bands=(1, 2, 3))} == {3}


def test_mixed_dtypes_are_refused(tmp_path):
    folder_of(tmp_path / "a", 1, dtype="uint8")
    folder_of(tmp_path / "b", 1, dtype="uint16")
    with pytest.raises(ConfigError, match=r"is uint8 and '.*' is uint16"):
        opened(tmp_path)


def test_plain_pictures_come_with_a_warning(tmp_path):
    with (
        pytest.warns(rasterio.errors.NotGeoreferencedWarning),
        rasterio.open(
            tmp_path / "a.png", "w", driver="PNG", height=32, width=32, count=3, dtype="uint8"
        ) as out,
    ):
        out.write(as_dtype(ground(3, 32, 32), "uint8"))
    with pytest.warns(GeoSegSRWarning, match="1 of 1 images are plain pictures without georeference"):
        opened(tmp_path)


def test_classes_are_found_in_every_image_and_images_in_none(tmp_path):
    folder_of(tmp_path, 10, count=1, size=(128, 128))
    classes = (np.indices((128, 128)).sum(0) // 16 % 5 * 3 + 2).astype("uint8")[None]
    write(tmp_path / "z_classes.tif", classes)  # the last one
    with pytest.warns(GeoSegSRWarning, match=r"1 of 11 images left out.*classes \(5 values\)"):
        assert len(opened(tmp_path)) == 10


def test_an_image_of_many_values_is_read_at_one_place_only(tmp_path, monkeypatch):
    folder_of(tmp_path, 10, count=1, size=(600, 600))
    pixels = []
    read = Scene.read
    monkeypatch.setattr(
        Scene,
        "read",
        lambda self, window: (pixels.append(window.height * window.width), read(self, window))[1],
    )
    opened(tmp_path)
    assert pixels[-2:] == [64 * 64, 64 * 64]


def test_undeclared_nodata_is_warned_of_and_taken_when_asked(tmp_path):
    folder_of(tmp_path, 2, size=(64, 64))
    field = as_dtype(0.2 + 0.7 * ground(3, 64, 64), "uint8")
    field[:, :, :20] = 0
    write(tmp_path / "z.tif", field)
    with pytest.warns(GeoSegSRWarning, match=r"1 of the first 3 images.*z\.tif.*--nodata 0 or --nodata auto"):
        opened(tmp_path)
    scenes = opened(tmp_path, nodata="auto")
    assert [scene.nodata for scene in scenes] == [None, None, 0]
    _, valid = scenes[2].read(scenes[2].window)
    assert not valid[:, :, :20].any()
    assert valid[:, :, 20:].all()


@pytest.mark.parametrize(
    ("dtype", "radiometry", "kind"),
    [
        ("uint8", "auto", "dtype"),
        ("uint16", "auto", "range"),
        ("float32", "auto", "range"),
        ("uint16", "dtype", "dtype"),
        ("uint16", "standard", "standard"),
    ],
)
def test_the_range_is_found_and_serves_at_inference(tmp_path, dtype, radiometry, kind):
    scenes = opened(folder_of(tmp_path, 3, count=2, dtype=dtype), radiometry=radiometry)
    policy = radiometry_policy(scenes, DataConfig(radiometry=radiometry))
    assert policy["kind"] == kind
    ranges = [resolve_radiometry(scene, policy) for scene in scenes]
    assert len({(r.lo, r.hi) for r in ranges}) == 1  # one DN means one value in every scene of the sensor
    if kind == "range":
        values = np.concatenate([s.read(s.window)[0].ravel() for s in scenes])
        assert policy["lo"] == pytest.approx(np.percentile(values, 0.1), rel=0.05, abs=0.01)
        assert policy["hi"] == pytest.approx(np.percentile(values, 99.9), rel=0.05)


def test_declared_scale_and_offset_become_reflectance_0_to_1(tmp_path):
    for i in range(2):
        path = write(tmp_path / f"{i}.tif", as_dtype(ground(2, 32, 32, i), "uint16"), east=1000.0 * i)
        with rasterio.open(path, "r+") as out:
            out.scales, out.offsets = (1e-4, 1e-4), (-0.1, -0.1)
    scenes = opened(tmp_path)
    ranges = resolve_radiometry(scenes[0], radiometry_policy(scenes, DataConfig()))
    assert ranges.lo == pytest.approx((1000, 1000))
    assert ranges.hi == pytest.approx((11000, 11000))
    with rasterio.open(tmp_path / "1.tif", "r+") as out:
        out.scales = (2e-4, 2e-4)
    with pytest.raises(ConfigError, match="declare 2 different ones"):
        radiometry_policy(
            [Scene.open(tmp_path / f"{i}.tif") for i in range(2)], DataConfig(radiometry="declared")
        )


def test_a_float_image_has_no_range_of_its_dtype(tmp_path):
    scenes = opened(folder_of(tmp_path, 1, dtype="float32"))
    with pytest.raises(ConfigError, match="float32 has none"):
        radiometry_policy(scenes, DataConfig(radiometry="dtype"))


def test_nodata_only_gives_no_range(tmp_path):
    write(tmp_path / "a.tif", np.zeros((1, 32, 32), np.uint16), nodata=0)
    with (
        pytest.warns(GeoSegSRWarning, match="no pixel in a sample of"),
        pytest.raises(SceneError, match="none of 1 images has a pixel that is valid"),
    ):
        radiometry_policy(opened(tmp_path), DataConfig())


def test_overlapping_ground_is_found_across_projections(tmp_path):
    field = as_dtype(ground(1, 64, 64), "uint8")
    a = Scene.open(write(tmp_path / "a.tif", field))
    beside = Scene.open(write(tmp_path / "b.tif", field, east=500_000 + 128.0))  # touches a
    half = Scene.open(write(tmp_path / "c.tif", field, east=500_000 + 64.0))
    west, south, _, north = footprint(a).bounds
    degrees = (north - south) / 64
    other = Scene.open(
        write(tmp_path / "d.tif", field, east=west, north=north, pixel=degrees, crs="EPSG:4326")
    )
    assert find_overlaps([a], [beside, half, other]) == [(0, 1), (0, 2)]
    nowhere = Scene.open(write(tmp_path / "e.tif", field, crs=None))
    assert find_overlaps([a, nowhere], [nowhere]) == [(1, 0)]
    assert sorted(map(sorted, group_by_place([a, beside, half, nowhere]))) == [[0, 1, 2], [3]]


def test_places_are_split_whole(tmp_path):
    scenes = opened(folder_of(tmp_path, 8))
    train, val = split_by_place(scenes, 0.25, 2, 16, seed=0)
    assert len(val) == 2
    assert {p.image for p in train} | {p.image for p in val} == set(range(8))
    assert not find_overlaps([scenes[p.image] for p in train], [scenes[p.image] for p in val])
    assert split_by_place(scenes, 0.25, 2, 16, seed=0) == (train, val)
    assert split_by_place(scenes, 0.0, 2, 16, seed=0)[1] == []


def test_two_dates_of_one_place_are_cut_along_one_line(tmp_path):
    early = write(tmp_path / "early.tif", as_dtype(ground(1, 200, 100), "uint8"))
    late = write(tmp_path / "late.tif", as_dtype(ground(1, 120, 100, 1), "uint8"), north=5_000_000 - 100.0)
    scenes = [Scene.open(early), Scene.open(late)]
    train, val = split_by_place(scenes, 0.2, 4, 16, seed=0)
    north_of = {0: 0, 1: 50}  # rows by which each lies south of the first
    lowest = max(part.window.row_stop + north_of[part.image] for part in train)
    highest = min(part.window.row + north_of[part.image] for part in val)
    assert highest - lowest >= 24  # a strip for neither
    assert all(n % 4 == 0 for p in (*train, *val) for n in (p.window.row, p.window.row_stop))


def test_an_image_that_faces_south_is_cut_on_the_ground(tmp_path):
    from rasterio.transform import Affine

    path = write(tmp_path / "a.tif", as_dtype(ground(1, 160, 80), "uint8"))
    with rasterio.open(path, "r+") as out:
        out.transform = Affine(2, 0, 500_000, 0, 2, 5_000_000)
    train, val = split_by_place([Scene.open(path)], 0.25, 4, 16, seed=0)
    assert val[0].window.row == 0  # its first rows are the southern ones
    assert train[0].window.row > val[0].window.row_stop


def test_an_image_too_small_to_cut_is_refused(tmp_path):
    scenes = opened(folder_of(tmp_path, 1, size=(40, 40)))
    with pytest.raises(ConfigError, match=r"aside for validation.*Pass --val"):
        split_by_place(scenes, 0.1, 4, 32, seed=0)
