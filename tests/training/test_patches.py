import numpy as np
import pytest
from training_kit import as_dtype, folder_of, ground, write

from geosegsr.errors import ConfigError, SceneError
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.ground import Part, whole
from geosegsr.imagery.sources import SceneSource
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation
from geosegsr.training.batches import Batches
from geosegsr.training.patches import Patches, keep_in_memory, validation_tiles

SCALE = 4
AS_IT_IS = {"kind": "range", "lo": 0.0, "hi": 1.0}
PLAIN = DataConfig(patch=8, texture=0.0, augment=False)


def patches_of(paths, data=PLAIN, degradation=None, seed=0, policy=None, zoom=(1.0, 1.0)):
    scenes = [Scene.open(path) for path in paths]
    sources = [SceneSource(scene, policy or {"kind": "dtype"}, SCALE, zoom=zoom) for scene in scenes]
    parts = [Part(i, whole(scene, SCALE)) for i, scene in enumerate(scenes)]
    return Patches(sources, parts, data, degradation or Degradation(), SCALE, seed)


@pytest.fixture
def images(tmp_path):
    return sorted(folder_of(tmp_path, number=3, size=(70, 90)).glob("*.tif"))


def place_of(patch):
    """Rows and columns that a patch's origin names."""
    rows, cols = patch.origin.split(" at rows ")[1].split(", columns ")
    return [int(n) for n in (*rows.split("-"), *cols.split("-"))]


def test_a_patch_equals_the_whole_scene_degraded_and_cut(images):
    patches = patches_of(images)
    for number in range(12):
        patch = patches[number]
        top, bottom, left, right = place_of(patch)
        values, _ = Scene.open(patch.origin.split("'")[1]).read(Window(0, 0, 68, 88))
        hr = values.astype(np.float32) / 255
        lr = Degradation().sample(hr, SCALE, np.random.default_rng(0))
        lr = np.rint(np.clip(lr, 0, 1) * 255) / 255
        assert patch.hr == pytest.approx(hr[:, top:bottom, left:right], abs=1e-6)
        cut = lr[:, top // SCALE : bottom // SCALE, left // SCALE : right // SCALE]
        assert patch.lr == pytest.approx(cut, abs=1e-6)


def test_augmented_patches_begin_anywhere_and_stay_pairs(images):
    sensor, scale = Degradation(kernel="box"), SCALE
    patches = patches_of(images, DataConfig(patch=8), sensor)
    phases = set()
    for number in range(200):
        patch = patches[number]
        top, bottom, left, right = place_of(patch)
        assert top >= 0 and bottom <= 70 and left >= 0 and right <= 90
        phases.add((top % scale, left % scale))
        seen = sensor.sample(patch.hr, scale, np.random.default_rng(0))
        assert patch.lr == pytest.approx(seen, abs=0.6 / 255)
    assert len(phases) == scale**2


def test_patches_follow_from_seed_and_number(images):
    data = DataConfig(patch=8, grey=0.3, shuffle_bands=0.3)
    sensor = Degradation(kernel="mtf", mtf=(0.1, 0.4), noise_read=(0.0, 0.02))
    one, two, other = (patches_of(images, data, sensor, seed) for seed in (1, 1, 2))
    assert np.array_equal(one[5].lr, two[5].lr)
    assert np.array_equal(one[5].hr, two[5].hr)
    assert not np.array_equal(one[5].lr, one[6].lr)
    assert not np.array_equal(one[5].lr, other[5].lr)


def test_turned_patches_stay_pairs(images):
    patches = patches_of(images, DataConfig(patch=8, grey=0.4, shuffle_bands=0.4))
    sensor, rng = Degradation(kernel="box"), np.random.default_rng(0)
    seen = patches_of(images, DataConfig(patch=8, grey=0.4, shuffle_bands=0.4), sensor)
    for number in range(16):
        patch = seen[number]
        assert patch.lr == pytest.approx(sensor.sample(patch.hr, SCALE, rng), abs=0.6 / 255)
    turned = [patches[n].hr for n in range(16)]
    assert len({image.tobytes() for image in turned}) > 8


def test_held_in_memory_or_read_by_windows_is_the_same(images):
    held, read = patches_of(images), patches_of(images)
    assert keep_in_memory(held.sources, 1.0) == (3, [])
    assert keep_in_memory(read.sources, 70 * 90 * 6 * 1.5e-9)[0] == 1  # the others do not fit
    for number in range(6):
        assert np.array_equal(held[number].lr, read[number].lr)


def test_nodata_never_gets_into_a_patch(tmp_path):
    field = as_dtype(ground(1, 128, 128), "uint8")
    field[:, :60] = 0
    field[:, :, 100:] = 0
    patches = patches_of([write(tmp_path / "a.tif", field, nodata=0)])
    for number in range(40):
        patch = patches[number]
        assert patch.valid.all()
        top, _, _, right = place_of(patch)
        assert top >= 60
        assert right <= 100


def test_zoomed_patches_hold_more_ground_and_stay_pairs(tmp_path):
    down, across = np.mgrid[:70, :90]
    slopes = np.stack([down, across, down + across]).astype(np.float32)
    patches = patches_of([write(tmp_path / "slopes.tif", slopes)], zoom=(1.2, 1.8), policy=AS_IT_IS)
    met = set()
    for number in range(20):
        patch = patches[number]
        assert patch.valid.all()
        inside = patch.hr[:, 8:-8, 8:-8]
        by_row = np.diff(inside[0], axis=0).mean(), np.diff(inside[0], axis=1)
        by_col = np.diff(inside[1], axis=1).mean(), np.diff(inside[1], axis=0)
        for along, sideways in (by_row, by_col):
            assert 1.2 * 0.95 <= along <= 1.8 * 1.05  # the slope is the factor, but for the kernel's ripples
            assert sideways == pytest.approx(0, abs=1e-3)
        met.add((float(by_row[0]), float(by_col[0])))
        assert inside[2] == pytest.approx(inside[0] + inside[1], abs=1e-3)
        assert patch.lr == pytest.approx(
            Degradation().sample(patch.hr, SCALE, np.random.default_rng(0)), abs=1e-3
        )
    assert len({round(down, 1) for down, _ in met}) > 4
    assert max(abs(down - across) for down, across in met) > 0.1


def test_an_image_is_reduced_as_far_as_it_reaches(tmp_path):
    across = np.tile(np.arange(48, dtype=np.float32), (3, 40, 1))
    patch = patches_of([write(tmp_path / "slope.tif", across)], zoom=(3.0, 3.0), policy=AS_IT_IS)[0]
    assert patch.hr.shape == (3, 32, 32)
    assert np.diff(patch.hr[0, :, 8:-8], axis=1).mean() == pytest.approx(48 / 32, rel=0.02)


def test_a_zoomed_patch_takes_no_nodata_from_around(tmp_path):
    field = as_dtype(ground(1, 64, 64), "uint8").clip(1)
    field[:, :, 34:] = 0
    path = write(tmp_path / "a.tif", field, nodata=0)
    patch = patches_of([path], zoom=(1.5, 1.5))[0]
    top, bottom, left, right = place_of(patch)
    assert patch.valid.all()
    assert np.array_equal(patch.hr, field[:, top:bottom, left:right].astype(np.float32) / 255)


def test_textured_places_come_more_often(tmp_path):
    field = np.full((1, 128, 128), 0.5)
    field[:, :64] = ground(1, 64, 128)
    path = write(tmp_path / "a.tif", as_dtype(field, "uint8"))

    def share(texture):
        patches = patches_of([path], DataConfig(patch=8, texture=texture, augment=False))
        return np.mean([place_of(patches[n])[0] < 48 for n in range(60)])

    assert share(1.0) > 0.85
    assert share(0.0) < 0.7


def test_patches_larger_than_the_images_are_refused_with_what_fits(images):
    with pytest.raises(ConfigError, match=r"Cannot cut patches of 128 hr pixels .* has 68. Pass --patch 17"):
        patches_of(images, DataConfig(patch=32))


def test_small_images_among_large_ones_are_left_out_and_counted(images, tmp_path):
    small = write(tmp_path / "small" / "s.tif", as_dtype(ground(3, 20, 20), "uint8"))
    patches = patches_of([*images, small])
    assert patches.images == 3
    assert patches.left_out == ["1 are smaller than a patch of 32 hr pixels."]


def test_images_of_nodata_only_are_refused(tmp_path):
    path = write(tmp_path / "empty.tif", np.zeros((1, 64, 64), np.uint8), nodata=0)
    with pytest.raises(SceneError, match="without nodata in any of 1 images"):
        patches_of([path])


def test_validation_tiles_are_always_the_same(images):
    patches = patches_of(images)
    sensor = Degradation(kernel="mtf", mtf=(0.1, 0.4), noise_read=(0.0, 0.02))
    one, two = (
        validation_tiles(patches.sources, patches.parts, sensor, SCALE, tile=32, most=5)[0] for _ in range(2)
    )
    assert len(one) == 5
    assert all(np.array_equal(a.lr, b.lr) for a, b in zip(one, two, strict=True))
    assert {tile.hr.shape for tile in one} == {(3, 32, 32)}


def test_a_file_that_cannot_be_read_is_named(images):
    patches = patches_of(images)
    images[0].write_bytes(images[0].read_bytes()[:600])
    from geosegsr.raster.gdal import forget_handles

    forget_handles()
    tiles, failures = validation_tiles(patches.sources, patches.parts, Degradation(), SCALE, tile=64, most=9)
    assert {tile.origin.split("'")[1] for tile in tiles} == {str(images[1]), str(images[2])}
    assert str(images[0]) in failures[0]


def batches_of(patches, size, first=0, process=0, processes=1, count=3, workers=2):
    made = Batches(patches, size, first=first, process=process, processes=processes, workers=workers)
    stream = iter(made)
    try:
        return [next(stream).origins for _ in range(count)]
    finally:
        made.close()


def test_two_processes_share_out_what_one_would_see(images):
    patches = patches_of(images)
    alone = batches_of(patches, 4)
    first, second = (batches_of(patches, 2, process=p, processes=2) for p in (0, 1))
    assert [a + b for a, b in zip(first, second, strict=True)] == alone
    assert batches_of(patches, 4, first=1, count=2) == alone[1:]
    assert batches_of(patches, 4, workers=1) == alone
