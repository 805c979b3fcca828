"""A checkpoint that is told how a scene was imaged, as an Upscaler."""

import pickle

import numpy as np
import pytest
import torch

from geosegsr.errors import CheckpointError
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import describe_upscaler, load_upscaler
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.contract import for_sensor
from geosegsr.models.ensemble import Ensemble
from geosegsr.models.interpolation import Interpolator
from geosegsr.models.segsr.config import BICUBIC
from geosegsr.models.segsr.network import SeGSR, preset

SOFT = (0.7, 0.2, 0.02, 50.0)


def saved(path, seed=0, sensor_width=8):
    torch.manual_seed(seed)
    network = SeGSR(preset("compact", scale=2, width=16, depths=(2, 2), sensor_width=sensor_width))
    if network.sensor is not None:
        for p in network.sensor.parameters():
            torch.nn.init.normal_(p, std=0.3)
    torch.nn.init.normal_(network.head[0].weight, std=0.1)
    save_checkpoint(path, network, ModelCard.of(network.config, "told"))
    return path


@pytest.fixture
def path(tmp_path):
    return saved(tmp_path / "told.safetensors")


@pytest.fixture
def lr():
    return np.random.default_rng(0).random((1, 3, 24, 24), np.float32)


def test_what_is_told_changes_pixels_and_fingerprint(path, lr):
    plain = load_upscaler(path, device="cpu", precision="fp32")
    told = for_sensor(plain, SOFT)
    assert plain.facts.takes_sensor
    assert told.facts.fingerprint != plain.facts.fingerprint
    assert not np.allclose(told(lr), plain(lr), atol=1e-4)
    assert np.array_equal(for_sensor(plain, BICUBIC)(lr), plain(lr))


def test_it_travels_to_another_process(path, lr):
    told = for_sensor(load_upscaler(path, device="cpu", precision="fp32"), SOFT)
    again = pickle.loads(pickle.dumps(told))
    assert again.facts == told.facts
    assert np.array_equal(again(lr), told(lr))


def test_a_described_model_is_told_where_it_is_loaded(path, lr):
    described = for_sensor(describe_upscaler(path, device="cpu", precision="fp32"), SOFT)
    told = for_sensor(load_upscaler(path, device="cpu", precision="fp32"), SOFT)
    assert described.facts.fingerprint == told.facts.fingerprint
    assert np.array_equal(pickle.loads(pickle.dumps(described))(lr), told(lr))


def test_an_ensemble_tells_its_model(path, lr):
    plain = load_upscaler(path, device="cpu", precision="fp32")
    told = for_sensor(Ensemble.of(plain), SOFT)
    assert np.array_equal(told(lr), Ensemble.of(for_sensor(plain, SOFT))(lr))
    assert told.facts.fingerprint != Ensemble.of(plain).facts.fingerprint


def test_models_that_take_no_descriptor_stay_as_they_are(tmp_path):
    plain = load_upscaler(saved(tmp_path / "plain.safetensors", sensor_width=0), device="cpu")
    cubic = Interpolator("bicubic", 2)
    assert for_sensor(plain, SOFT) is plain
    assert for_sensor(cubic, SOFT) is cubic


def test_a_file_replaced_during_the_run_is_refused(path):
    plain = load_upscaler(path, device="cpu", precision="fp32")
    saved(path, seed=1)
    with pytest.raises(CheckpointError, match="replaced"):
        for_sensor(plain, SOFT)


def test_another_file_of_that_name_is_refused_elsewhere(path):
    packed = pickle.dumps(for_sensor(load_upscaler(path, device="cpu", precision="fp32"), SOFT))
    saved(path, seed=1)
    with pytest.raises(CheckpointError, match="not the file"):
        pickle.loads(packed)


def test_a_clean_scene_goes_through_the_network_for_clean_scenes(path, lr):
    clean = saved(path.with_stem("told-clean"), seed=2, sensor_width=0)
    for opened in (load_upscaler, describe_upscaler):
        told = opened(path, device="cpu", precision="fp32")
        chosen = pickle.loads(pickle.dumps(for_sensor(told, BICUBIC)))
        alone = load_upscaler(clean, device="cpu", precision="fp32")
        assert chosen.facts.fingerprint == alone.facts.fingerprint
        assert np.array_equal(chosen(lr), alone(lr))
        assert for_sensor(told, SOFT).facts.fingerprint.startswith(told.card.sha256)


def test_a_long_batch_does_not_keep_a_network_for_every_scene(path):
    plain = load_upscaler(path, device="cpu", precision="fp32")
    told = [for_sensor(plain, (0.9, 0.4, number / 1000, 0.0)) for number in range(40)]
    assert len(plain._for_sensor) == 32
    assert for_sensor(plain, (0.9, 0.4, 0.039, 0.0)) is told[-1]
