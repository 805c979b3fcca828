"""A network that is told how a scene was imaged."""

from dataclasses import replace

import pytest
import torch

from geosegsr.errors import ConfigError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_checkpoint, save_checkpoint
from geosegsr.models.segsr.config import BICUBIC, DESCRIPTOR
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.equivariance import Equivariance

SOFT = (0.7, 0.2, 0.02, 50.0)
SMALL = {"width": 16, "depths": (3, 4), "skip_every": 2, "sensor_width": 8}


@pytest.fixture
def network():
    torch.manual_seed(3)
    net = SeGSR(preset("compact", scale=2, **SMALL))
    for p in net.sensor.parameters():  # as if it had learnt something
        torch.nn.init.normal_(p, std=0.3)
    torch.nn.init.normal_(net.head[0].weight, std=0.1)
    return net.eval().requires_grad_(False)


def copy_of(network):
    other = SeGSR(network.config)
    other.load_state_dict(network.state_dict())
    return other.eval().requires_grad_(False)


def test_what_is_told_is_folded_into_the_weights(network):
    lr = torch.rand(2, 3, 20, 24)
    told = network(lr, None, torch.tensor([SOFT, SOFT]))
    folded = copy_of(network).specialise(SOFT)
    assert folded.sensor is None
    assert folded.config == replace(network.config, sensor_width=0)
    torch.testing.assert_close(folded(lr), told, rtol=1e-4, atol=1e-5)


def test_each_number_of_the_descriptor_matters(network):
    lr = torch.rand(1, 3, 20, 20)
    plain = network(lr, None, torch.tensor([BICUBIC]))
    for i in range(len(DESCRIPTOR)):
        changed = [SOFT[j] if i == j else value for j, value in enumerate(BICUBIC)]
        assert not torch.allclose(network(lr, None, torch.tensor([changed])), plain, atol=1e-5)


def test_images_of_a_batch_have_descriptors_of_their_own(network):
    lr = torch.rand(2, 3, 20, 20)
    both = network(lr, None, torch.tensor([SOFT, BICUBIC]))
    for i, descriptor in enumerate((SOFT, BICUBIC)):
        torch.testing.assert_close(both[i : i + 1], network(lr[i : i + 1], None, torch.tensor([descriptor])))


def test_without_a_descriptor_the_input_was_reduced_bicubically(network):
    lr = torch.rand(1, 3, 20, 20)
    assert torch.equal(network(lr), network(lr, None, torch.tensor([BICUBIC])))


def test_a_network_that_is_told_nothing_ignores_it():
    network = SeGSR(preset("compact", scale=2, width=16, depths=(2, 2))).eval()
    lr = torch.rand(1, 3, 20, 20)
    with torch.no_grad():
        assert torch.equal(network(lr, None, torch.tensor([SOFT])), network(lr))
    assert network.specialise(SOFT) is network


def test_skips_inside_a_unit_are_sums_before_the_activation(network):
    unit = copy_of(network).specialise(BICUBIC).units[1]
    x = torch.rand(1, 16, 9, 9)
    conv = unit.convolutions()

    def act(features):
        return torch.nn.functional.leaky_relu(features, 0.1)

    kept = conv[1](act(conv[0](x))) + x
    torch.testing.assert_close(unit(x), conv[3](act(conv[2](act(kept)))))


def test_it_stays_equivariant(network):
    lr = torch.rand(1, 3, 21, 21)
    Equivariance(network, "p4").start(trained=False)
    for name, p in network.named_parameters():
        if name.startswith(("features", "localisation")):
            p.zero_()  # the guidance is free to prefer a direction
    told = torch.tensor([SOFT])
    turned = network(torch.rot90(lr, 1, (2, 3)), None, told)
    torch.testing.assert_close(turned, torch.rot90(network(lr, None, told), 1, (2, 3)), rtol=1e-4, atol=1e-5)


def test_mirrors_are_refused(network):
    with pytest.raises(ConfigError, match="equivariance=p4"):
        Equivariance(SeGSR(preset("compact", scale=2, **SMALL)), "p4m")


def test_a_checkpoint_keeps_what_is_told(network, tmp_path):
    path = tmp_path / "told.safetensors"
    save_checkpoint(path, network, ModelCard.of(network.config, "told"))
    again, _ = load_checkpoint(path)
    lr, told = torch.rand(1, 3, 16, 16), torch.tensor([SOFT])
    with torch.no_grad():
        assert torch.equal(again(lr, None, told), network(lr, None, told))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"unit": "swin", "sensor_width": 8}, "'compact' units"),
        ({"width": 18, "sensor_width": 8}, "multiple of 4"),
        ({"skip_every": 65}, "skip_every"),
    ],
)
def test_what_cannot_be_built_is_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        preset("compact", scale=2, **changes)
