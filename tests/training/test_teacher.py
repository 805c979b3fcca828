"""Learning from another model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from training_kit import TINY, folder_of, tiny_config

from geosegsr.errors import ConfigError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.config import TeacherConfig
from geosegsr.training.loop import train
from geosegsr.training.teacher import Teacher


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(5)
    network = SeGSR(preset("compact", scale=2, **TINY))
    with torch.no_grad():
        network.head[0].weight.normal_(0, 0.01)
        network.head[0].bias.fill_(0.2)  # brighter than any ground: what is learnt must come from here
    file = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_checkpoint(file, network, ModelCard.of(network.config, "teacher"))
    return file


def of(path, share, scale=2, bands=3):
    return Teacher(TeacherConfig(str(path), share), scale, bands, torch.device("cpu"))


def test_targets_lie_between_hr_and_the_mean_of_both_mirror_images(path):
    rng = torch.Generator().manual_seed(0)
    lr, hr = torch.rand(2, 3, 16, 24, generator=rng), torch.rand(2, 3, 32, 48, generator=rng)
    network, _ = load_checkpoint(path)
    with torch.inference_mode():
        seen = [network(image).numpy() for image in (lr, torch.flip(lr, (3,)))]
    mean = (seen[0] + seen[1][..., ::-1]) / 2
    assert np.abs(seen[0] - mean).max() > 1e-4
    for share in (0.25, 1.0):
        expected = (1 - share) * hr.numpy() + share * mean
        np.testing.assert_allclose(of(path, share).target(lr, hr).numpy(), expected, atol=1e-5)


def test_a_run_comes_nearer_to_its_teacher(path, tmp_path):
    images = folder_of(tmp_path / "images")
    lr = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1))
    taught = of(path, 1.0).target(lr, torch.zeros(1, 3, 48, 48))

    def distance(name, **settings):
        config = tiny_config(
            images,
            **{
                "model.equivariance": "none",
                "optimiser.learning_rate": 5e-3,
                "schedule.steps": 80,
                "schedule.warmup_steps": 10,
                "data.val_share": 0.0,  # the last weights, not those that are nearest to hr
                **settings,
            },
        )
        model = train(config, tmp_path / name).model
        with torch.inference_mode():
            return float((load_checkpoint(model)[0](lr) - taught).square().mean())

    by_itself = distance("alone")
    assert distance("taught", **{"teacher.model": str(path), "teacher.share": 1.0}) < 0.5 * by_itself


@pytest.mark.parametrize(("scale", "bands"), [(4, 3), (2, 4)])
def test_a_teacher_for_something_else_is_refused(path, scale, bands):
    with pytest.raises(ConfigError, match=r"made for scale 2 and 3 bands.* Pass another teacher\.model"):
        of(path, 0.5, scale, bands)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ConfigError, match=r"teacher\.share"):
        tiny_config("x", **{"teacher.share": share})
