"""A network that is told how each patch was imaged: what it is told, and that it learns to use it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from hypothesis import given
from hypothesis import strategies as st
from training_kit import TINY, folder_of, tiny_config

from geosegsr.errors import ConfigError
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.ground import Part, whole
from geosegsr.imagery.sources import PairSource, Patch, SceneSource
from geosegsr.models.checkpoint import load_checkpoint, read_card
from geosegsr.models.segsr.config import DESCRIPTOR
from geosegsr.models.segsr.presets import preset
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor
from geosegsr.training.batches import Batches
from geosegsr.training.config import ToldError
from geosegsr.training.equivariance import Equivariance
from geosegsr.training.events import Stepped
from geosegsr.training.learner import Learner
from geosegsr.training.loop import train
from geosegsr.training.network import build_network
from geosegsr.training.patches import Patches, validation_tiles
from geosegsr.training.run_folder import RunFolder
from geosegsr.training.told import with_error
from geosegsr.training.validation import Validation

TOLD = {**TINY, "skip_every": 2, "sensor_width": 8}
MIX = {"blur": [0.2, 1.2], "noise_read": [0.0, 0.03], "jpeg_quality": [50, 90], "clean": 0.3}
PLAIN = DataConfig(patch=8)
SOFT = SensorDescriptor(0.6, 0.1, 0.02, 60.0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return folder_of(tmp_path_factory.mktemp("images"))


def patches_of(folder, data=PLAIN, values=MIX, error=None):
    scenes = [Scene.open(path) for path in sorted(folder.glob("*.tif"))]
    sources = [SceneSource(scene, {"kind": "dtype"}, 2) for scene in scenes]
    parts = [Part(i, whole(scene, 2)) for i, scene in enumerate(scenes)]
    return Patches(sources, parts, data, Degradation.from_dict(values), 2, 5, error)


@given(st.integers(0, 2**32 - 1))
def test_an_error_leaves_a_descriptor_possible_and_zeros_alone(seed):
    error, rng = ToldError(0.3, 0.9, 0.9), np.random.default_rng(seed)
    assert with_error(BICUBIC, error, rng).numbers[2:] == (0.0, 0.0)
    with_error(SensorDescriptor(1.0, 1.0, 1.0, 5000.0), error, rng)  # one that is not is refused


def test_an_error_has_the_size_that_is_configured():
    rng = np.random.default_rng(0)
    told = np.array([with_error(SOFT, ToldError(), rng).numbers for _ in range(2000)])
    assert told.mean(axis=0) == pytest.approx(SOFT.numbers, rel=0.03)
    assert told[:, :2].std(axis=0) == pytest.approx([0.03, 0.03], rel=0.1)
    assert np.log(told[:, 2:]).std(axis=0) == pytest.approx([0.15, 0.15], rel=0.1)
    assert with_error(SOFT, ToldError(0, 0, 0), rng) == SOFT


def test_a_batch_tells_what_was_drawn_for_its_patches(images):
    exact, off = patches_of(images), patches_of(images, error=ToldError())
    batches = Batches(exact, 4, first=1, process=0, processes=1, workers=2)
    try:
        batch = next(iter(batches))
    finally:
        batches.close()
    assert (batch.descriptor.dtype, batch.descriptor.shape) == (torch.float32, (4, len(DESCRIPTOR)))
    expected = [exact[number].sensor.numbers for number in range(4, 8)]
    assert batch.descriptor.numpy() == pytest.approx(np.array(expected), rel=1e-6)
    assert len(set(expected)) > 1
    for number in range(4, 8):  # the error changes nothing else, and is the same each time
        assert np.array_equal(off[number].lr, exact[number].lr)
        assert off[number].sensor == off[number].sensor != exact[number].sensor


def test_bands_mixed_to_grey_have_less_noise(images):
    values = {"noise_read": 0.03}
    colour, grey = (patches_of(images, DataConfig(patch=8, grey=share), values) for share in (0.0, 0.999))
    assert {round(colour[n].sensor.noise, 6) for n in range(8)} == {0.03}
    told = {round(grey[n].sensor.noise, 6) for n in range(8)}
    assert max(told) == 0.03  # single bands
    assert 0.03 / 3**0.5 <= min(told) < 0.03


def test_a_real_pair_is_taken_for_bicubic():
    pair = SimpleNamespace(
        name="pair", lr=np.zeros((1, 8, 8)), hr=np.zeros((1, 16, 16)), same=np.ones((8, 8), bool)
    )
    patch = PairSource(pair, 2).cut(Window(0, 0, 8, 8), Degradation(blur=(1.0, 1.0)), None)
    assert patch.sensor == BICUBIC


def test_validation_tells_the_degradation_at_rest(images):
    patches = patches_of(images)
    tiles, _ = validation_tiles(patches.sources, patches.parts, patches.degradation, 2, tile=32, most=3)
    expected = SensorDescriptor.of_degradation(patches.degradation, 2).numbers
    assert [tile.sensor.numbers for tile in tiles] == [pytest.approx(expected)] * 3
    told = []

    def network(lr, guide, descriptor):
        told.append(descriptor)
        return torch.zeros(len(lr), 3, 32, 32)

    Validation(tiles, 2, clip=True, data_range=1.0).run(network, torch.device("cpu"))
    assert torch.cat(told).numpy() == pytest.approx(np.array([expected] * 3), rel=1e-6)


class TwoLevels:
    """Patches whose hr is brighter than lr where that is sharp, and darker where it is soft: no pixel tells which."""

    images = places = 1

    def batch(self, first, count):
        patches = []
        for number in range(first, first + count):
            lr = np.random.default_rng(number).uniform(0.48, 0.52, (3, 8, 8)).astype(np.float32)
            sensor, level = ((BICUBIC, 0.6), (SOFT, 0.4))[number % 2]
            hr = np.full((3, 16, 16), level, np.float32)
            patches.append(Patch(lr, hr, np.ones((16, 16), bool), str(number), sensor))
        return patches


def test_a_network_learns_to_use_what_it_is_told():
    config = tiny_config([], **{"model.changes": TOLD, "optimiser.ema": 0.0, "loss": {"mse": 1.0}})
    learner = Learner(config, 3, Accelerator(cpu=True))
    batches = Batches(TwoLevels(), 4, first=0, process=0, processes=1, workers=1)
    try:
        stream = iter(batches)
        for step in range(60):
            learner.step(step, stream, 5e-3)
        batch = next(stream)
    finally:
        batches.close()
    network = learner.network.eval()
    with torch.no_grad():
        right, wrong = (
            float((network(batch.lr, None, told) - batch.hr).abs().mean())
            for told in (batch.descriptor, batch.descriptor.roll(1, 0))
        )
    assert right < 0.5 * wrong
    Equivariance(network, "p4").start(trained=True)  # its weights have stayed so


class Cut(Exception):  # noqa: N818
    """Ends a run."""


def test_a_run_that_was_cut_off_tells_the_same(images, tmp_path):
    config = tiny_config(images, **{"model.changes": TOLD, "degradation": MIX, "schedule.steps": 4})

    def losses(folder, *, cut_at=0, resume=False):
        found = {}

        def note(event):
            if isinstance(event, Stepped):
                found[event.step] = event.loss
                if event.step == cut_at:
                    raise Cut

        run = RunFolder(folder)
        train(run.read_config() if resume else config, folder, resume=resume, on_event=note)
        return found

    whole_run = losses(tmp_path / "whole")
    with pytest.raises(Cut):
        losses(tmp_path / "cut", cut_at=3)
    assert losses(tmp_path / "cut", resume=True) == {step: whole_run[step] for step in (3, 4)}
    card = read_card(tmp_path / "whole" / "model.safetensors")
    assert Degradation.from_dict(card.degradation) == config.degradation
    assert card.config["sensor_width"] == 8


def test_a_checkpoint_that_is_told_nothing_can_learn_to_be(images, tmp_path):
    train(tiny_config(images, **{"schedule.steps": 2}), tmp_path / "plain")
    start = tmp_path / "plain" / "model.safetensors"
    changes = {"model.init": str(start), "model.changes": {"sensor_width": 8}}
    network, plain = build_network(tiny_config(images, **changes), 3), load_checkpoint(start)[0]
    lr = torch.rand(1, 3, 12, 12)
    with torch.no_grad():
        for sensor in (BICUBIC, SOFT):
            told = network(lr, None, torch.tensor([sensor.numbers]))
            assert told.numpy() == pytest.approx(plain(lr).numpy(), abs=0.01)
    same = {**changes, "model.changes": {"width": TINY["width"]}}  # as it is
    assert build_network(tiny_config(images, **same), 3).config == plain.config
    with pytest.raises(ConfigError, match="only a sensor_width can be added"):
        build_network(tiny_config(images, **{**changes, "model.changes": {"width": 12}}), 3)


def test_the_preset_is_told():
    config = preset("compact-sensor", scale=4)
    assert (config.depths, config.skip_every, config.sensor_width) == ((14, 14), 2, 32)
