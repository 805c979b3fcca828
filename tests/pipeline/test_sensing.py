"""How a scene was imaged: estimated from its pixels, given, or assumed."""

import json

import numpy as np
import pytest
import rasterio

import geosegsr
from geosegsr.errors import ConfigError
from geosegsr.pipeline.plan import plan
from geosegsr.pipeline.sensing import ESTIMATED, GIVEN, _patches, _windows
from geosegsr.raster.scene import Scene
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from tests.kits.sensor_kit import network_file, scene, texture

NOISY = SensorDescriptor(noise=0.03)


@pytest.fixture
def model(tmp_path):
    return network_file(tmp_path / "told.safetensors")


def test_noise_is_found_and_told(tmp_path, model):
    planned = plan(scene(tmp_path, texture(noise=9)), 2, model)
    assert planned.sensing.origin == ESTIMATED
    assert planned.sensing.sensors[0].noise * 255 == pytest.approx(9, rel=0.4)
    assert planned.rendering.upscaler_of(0).facts.fingerprint != planned.rendering.upscaler.facts.fingerprint
    assert not planned.rendering.consistent
    assert "noise" in planned.tags()["GEOSEGSR_SENSOR"]


def test_a_sensor_that_is_given_is_not_estimated(tmp_path, model):
    source = scene(tmp_path, texture(noise=9))
    described = tmp_path / "sensor.toml"
    described.write_text(NOISY.to_toml())
    for asked in (NOISY, described, str(described)):
        sensing = plan(source, 2, model, sensor=asked).sensing
        assert (sensing.origin, sensing.sensors) == (GIVEN, (NOISY,))
    assert plan(source, 2, model, sensor="bicubic").sensing.sensors == (BICUBIC,)


def test_it_decides_pixels_and_keys(tmp_path, model):
    source = scene(tmp_path, texture())
    keys, pixels = set(), []
    for number, sensor in enumerate((BICUBIC, NOISY)):
        out = tmp_path / f"out{number}.tif"
        geosegsr.upscale(source, out, 2, model, sensor=sensor)
        with rasterio.open(out) as file:
            keys.add(
                file.tags()["GEOSEGSR_KEY"] if "GEOSEGSR_KEY" in file.tags() else json.dumps(file.tags())
            )
            pixels.append(file.read())
    assert len(keys) == 2
    assert not np.array_equal(*pixels)


def test_another_block_gives_the_same_pixels(tmp_path, model):
    source = scene(tmp_path, texture(noise=5))
    results = []
    for block in (128, 512):
        out = tmp_path / f"block{block}.tif"
        geosegsr.upscale(source, out, 2, model, block=block, tile=64)
        with rasterio.open(out) as file:
            results.append(file.read())
    assert np.array_equal(*results)


def test_an_area_is_told_the_sensor_of_the_whole_scene(tmp_path, model):
    source = scene(tmp_path, texture(noise=5))
    whole, part = plan(source, 2, model), plan(source, 2, model, window=(8, 8, 40, 40))
    assert whole.sensing == part.sensing


def test_bands_beyond_the_model_are_taken_for_clean_beside_its_own(tmp_path, model):
    pixels = np.concatenate([texture(3, noise=9), texture(1, noise=12, seed=5)])
    planned = plan(scene(tmp_path, pixels, photometric="RGB"), 2, model, alpha="image", other_bands="model")
    colours, infrared = planned.sensing.sensors
    assert colours.noise > 4 / 255
    assert infrared == BICUBIC
    told = [upscaler.facts.fingerprint for upscaler in planned.rendering.told]
    assert told[0] != told[1]


def test_single_bands_have_sensors_of_their_own(tmp_path, model):
    pixels = np.concatenate([texture(1), texture(1, noise=12, seed=5)])
    planned = plan(scene(tmp_path, pixels), 2, model, other_bands="model")
    clean, noisy = planned.sensing.sensors
    assert noisy.noise > clean.noise + 4 / 255


def test_patches_lie_on_the_lattice_and_avoid_nodata(tmp_path):
    pixels = texture(side=520)
    pixels[:, :200, :300] = 0
    opened = Scene.open(scene(tmp_path, pixels, nodata=0))
    for values, valid in _patches(opened):
        assert valid.all() or not valid.any(axis=0).all()
        assert values.shape == valid.shape
    for window in _windows(opened.height, opened.width):
        assert window.row % 8 == window.col % 8 == 0
        assert window.row_stop <= 520
        assert window.col_stop <= 520


@pytest.mark.parametrize("side", [1, 47])
def test_too_little_ground_is_taken_for_clean(tmp_path, model, side):
    planned = plan(scene(tmp_path, texture(side=64)[:, :side, :side]), 2, model)
    assert planned.sensing.sensors == (BICUBIC,)
    assert "GEOSEGSR_SENSOR" not in planned.tags()


def test_a_file_that_describes_no_sensor_is_refused(tmp_path, model):
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("mtf_nyqist = 0.2\n")
    with pytest.raises(ConfigError, match="mtf_nyqist"):
        plan(scene(tmp_path, texture()), 2, model, sensor=wrong)


def test_arrays_are_sensed_like_files(tmp_path, model):
    import rioxarray

    source = scene(tmp_path, texture(noise=5))
    out = tmp_path / "out.tif"
    geosegsr.upscale(source, out, 2, model)
    lazy = geosegsr.super_resolve(rioxarray.open_rasterio(source, chunks={}), 2, model)
    with rasterio.open(out) as file:
        assert np.array_equal(file.read(), lazy.values)
