"""Whether a model suits a scene: agreement with the input, and warnings."""

import io
import warnings

import numpy as np
import PIL.Image
import pytest

from geosegsr.errors import ConfigError, GeoSegSRWarning
from geosegsr.models.card import ModelCard
from geosegsr.models.segsr.network import preset
from geosegsr.pipeline.plan import plan
from geosegsr.pipeline.suitability import _gains
from geosegsr.sensor.descriptor import SensorDescriptor
from tests.kits.sensor_kit import network_file, scene, texture


def compressed(pixels, quality):
    packed = io.BytesIO()
    PIL.Image.fromarray(pixels.transpose(1, 2, 0)).save(packed, "JPEG", quality=quality, subsampling=0)
    return np.asarray(PIL.Image.open(packed)).transpose(2, 0, 1)


@pytest.fixture
def model(tmp_path):
    return network_file(tmp_path / "told.safetensors")


def test_no_result_is_made_consistent_with_noise(tmp_path, model):
    noisy = scene(tmp_path, texture(noise=9))
    assert plan(noisy, 2, model, sensor="bicubic").rendering.consistent
    assert not plan(noisy, 2, model).rendering.consistent
    assert plan(noisy, 2, model, consistency=True).rendering.consistent


def test_no_result_is_made_consistent_with_a_fine_jpeg(tmp_path, model):
    file = scene(tmp_path, compressed(texture(), 90))
    planned = plan(file, 2, model, sensor=SensorDescriptor(quantisation=20))
    assert not planned.rendering.consistent


def test_a_model_that_cannot_be_told_is_warned_of(tmp_path):
    path = network_file(tmp_path / "untold.safetensors", sensor_width=0)
    with pytest.warns(GeoSegSRWarning, match="imaged otherwise"):
        plan(scene(tmp_path, texture(noise=9)), 2, path)


def test_a_scene_beyond_the_training_is_warned_of(tmp_path):
    narrow = network_file(tmp_path / "narrow.safetensors", told={"noise": [0, 0.01]})
    wide = network_file(tmp_path / "wide.safetensors", told={"noise": [0, 0.05]})
    noisy = scene(tmp_path, texture(noise=9))
    with pytest.warns(GeoSegSRWarning, match="beyond what 'narrow' was trained for"):
        plan(noisy, 2, narrow)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan(noisy, 2, wide)


@pytest.mark.parametrize(
    ("metrics", "weak"),
    [
        ({"psnr": 11.1, "psnr_bicubic": 24.97, "steps": 7}, True),
        ({"psnr": 25.1, "psnr_bicubic": 24.97}, False),
        ({"town": {"psnr": 24.0, "psnr_bicubic": 25.0}, "sea": {"psnr": 30.1, "psnr_bicubic": 30.0}}, True),
        ({}, False),
    ],
)
def test_a_model_behind_bicubic_by_its_own_card_is_warned_of(tmp_path, metrics, weak):
    path = network_file(tmp_path / "weak.safetensors", metrics=metrics)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        plan(scene(tmp_path, texture()), 2, path)
    assert any("behind bicubic" in str(warning.message) for warning in caught) is weak


def test_gains_are_those_of_each_set():
    assert _gains({"a": {"psnr": 3.0, "psnr_bicubic": 1.0}, "b": {"sam": 1.0}}) == [2.0]


@pytest.mark.parametrize("span", [[0.2], [0.3, 0.1], "0 to 1", [-1, 1], [0, True]])
def test_a_card_with_an_impossible_span_is_refused(span):
    config = preset("compact", scale=2, width=16, depths=(2, 2), sensor_width=8)
    with pytest.raises(ConfigError, match=r"told\.noise"):
        ModelCard.of(config, "odd", told={"noise": span})
