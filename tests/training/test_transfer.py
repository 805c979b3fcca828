"""A network for other bands and another scale, from the weights of one that is there."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from training_kit import folder_of, ground, tiny_config

from geosegsr.imagery.sources import Patch
from geosegsr.models.catalogue import bundled_checkpoint
from geosegsr.models.checkpoint import clean_beside, load_checkpoint, read_card
from geosegsr.models.interpolation import Interpolator
from geosegsr.models.segsr.enlarge import bicubic
from geosegsr.sensor.degradation import imresize_down
from geosegsr.training.config import resolve_config
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.events import Started
from geosegsr.training.loop import train
from geosegsr.training.network import build_network
from geosegsr.training.transfer import band_mixtures, scale_new_detail, with_bands, with_shape

RGB = ("red", "green", "blue")


@pytest.fixture(scope="module")
def bundled():
    return load_checkpoint(clean_beside(bundled_checkpoint(2)))[0]


def image(count, side=24, seed=0):
    return torch.from_numpy(ground(count, side, side, seed)[None].astype(np.float32))


def enlarged(network, lr):
    """By a network, without its border: where the trunk meets zeros, the mean of a band matters."""
    with torch.inference_mode():
        return network.eval()(lr)[..., 40:-40, 40:-40]


@pytest.mark.parametrize("order", [("blue", "green", "red"), ("green", "red", "blue")])
def test_bands_in_another_order_come_out_as_they_would(bundled, order):
    places = [RGB.index(name) for name in order]
    lr = image(3, 64)
    other = with_bands(bundled, order, RGB)
    np.testing.assert_allclose(enlarged(other, lr[:, places]), enlarged(bundled, lr)[:, places], atol=1e-5)


def test_a_single_band_goes_through_as_grey(bundled):
    lr = image(1, 64)
    grey = enlarged(bundled, lr.repeat(1, 3, 1, 1)).mean(1, keepdim=True)
    np.testing.assert_allclose(enlarged(with_bands(bundled, ("",), RGB), lr), grey, atol=1e-4)


def test_a_new_band_leaves_the_others_alone_and_gets_their_mean_detail(bundled):
    lr = image(4, 64)
    sr = enlarged(with_bands(bundled, ("nir", "red", "green", "blue"), RGB), lr)
    known = enlarged(bundled, lr[:, 1:])
    np.testing.assert_allclose(sr[:, 1:], known, atol=1e-5)
    plain = bicubic(lr, 2, bundled.config.base_sharpness)[..., 40:-40, 40:-40]
    np.testing.assert_allclose(
        sr[:, :1] - plain[:, :1], (known - plain[:, 1:]).mean(1, keepdim=True), atol=1e-5
    )


def patch_of(hr, scale=2):
    """A patch whose lr is reduced from hr."""
    lr = imresize_down(hr, scale).astype(np.float32)
    return Patch(lr, hr.astype(np.float32), np.ones(hr.shape[1:], bool), "a patch")


def test_a_new_band_begins_with_the_detail_that_fits_it(bundled):
    hr = ground(3, 96, 96).astype(np.float32)
    alike, flat = hr.mean(0), np.full_like(hr[0], 0.5)
    patch = patch_of(np.stack([*hr, alike, flat]))
    names = (*RGB, "nir", "b10")
    before = with_bands(bundled, names, RGB)
    after = with_bands(bundled, names, RGB)
    scale_new_detail(after, [3, 4], [patch])
    lr = torch.from_numpy(patch.lr[None])
    sr, other = enlarged(after, lr), enlarged(before, lr)
    np.testing.assert_array_equal(sr[:, :3], other[:, :3])
    target = torch.from_numpy(patch.hr[None])[..., 40:-40, 40:-40]
    errors = [((made - target) ** 2).mean((0, 2, 3)) for made in (sr, other)]
    assert errors[0][3] <= errors[1][3] * 1.001
    np.testing.assert_allclose(sr[:, 4], 0.5, atol=1e-4)  # no detail is best


@given(st.lists(st.sampled_from(["red", "green", "blue", "nir", "b05", ""]), min_size=1, max_size=13))
def test_every_input_is_a_mean_of_bands_and_every_band_a_mean_of_outputs(bands):
    inputs, outputs = band_mixtures(bands, RGB)
    assert (inputs.shape, outputs.shape) == ((3, len(bands)), (len(bands), 3))
    for mixture in (inputs, outputs):
        assert mixture.min() >= 0
        np.testing.assert_allclose(mixture.sum(1), 1.0, rtol=1e-6)


@pytest.mark.parametrize("scale", [3, 4, 8])
def test_another_scale_starts_ahead_of_bicubic_and_equivariant(bundled, scale):
    hr = ground(3, 96, 96, 3)
    lr = imresize_down(hr, scale).astype(np.float32)
    other = with_shape(bundled, replace(bundled.config, scale=scale)).eval()
    with torch.inference_mode():
        sr = other(torch.from_numpy(lr[None]))[0].numpy()
    inner = np.s_[:, 16:-16, 16:-16]
    errors = [np.mean((made - hr)[inner] ** 2) for made in (sr, Interpolator("bicubic", scale)(lr[None])[0])]
    assert errors[0] < errors[1]
    before = {name: value.clone() for name, value in other.state_dict().items()}
    Equivariance(other, "p4").start(trained=True)
    for name, value in other.state_dict().items():
        assert (value - before[name]).norm() <= 0.01 * before[name].norm()


@pytest.mark.parametrize("count", [1, 2, 4, 13])
@pytest.mark.parametrize("preset", ["compact", "compact-sensor"])
def test_any_number_of_bands_starts_from_the_bundled_weights(count, preset):
    config = resolve_config(preset, None, {"model.scale": 4})
    network = build_network(config, count)
    assert (network.config.bands, network.config.scale) == (count, 4)
    assert (network.config.sensor_width > 0) == (preset == "compact-sensor")
    with torch.inference_mode():
        assert network(torch.rand(1, count, 16, 16)).shape == (1, count, 64, 64)


def test_a_run_says_what_it_starts_from_and_its_card_too(tmp_path):
    images = folder_of(tmp_path / "hr", number=2, count=4)
    told = []
    config = tiny_config(images, **{"model.init": "bundled", "model.changes": {}, "schedule.steps": 1})
    result = train(config, tmp_path / "run", on_event=told.append)
    notes = next(event.notes for event in told if isinstance(event, Started))
    assert any(note.startswith("start: compact-x2-clean; ") for note in notes)
    assert result.start.psnr > result.baseline.psnr - 1
    card = read_card(result.model)
    assert (card.bands, card.grey) == (3, True)
    assert card.trained_on.endswith("started from compact-x2-clean")
