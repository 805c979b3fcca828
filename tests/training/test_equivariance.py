"""Weights that are kept where turns of the image commute with the trunk."""

import pytest
import torch

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.training.equivariance import Equivariance


def network(scale: int = 4, **changes: object) -> SeGSR:
    torch.manual_seed(0)
    net = SeGSR(preset("compact", scale=scale, width=16, depths=(2, 1), **changes)).eval()
    for modulation in net.modulations:  # as a trained one has it: no plain normalisation
        torch.nn.init.normal_(modulation.gain_offset.weight)
        torch.nn.init.normal_(modulation.norm.weight)
    return net


def moved(image: torch.Tensor, element: int) -> torch.Tensor:
    return torch.rot90(image.flip(-1) if element > 3 else image, element % 4, (-2, -1))


def trunk(net: SeGSR, image: torch.Tensor, element: int = 0) -> torch.Tensor:
    """What the trunk makes of an image and of guidance that moves with it."""
    net.localisation.enlarge = lambda unit, guidance, height, width: guidance  # maps that are large already
    height, width = image.shape[-2:]
    guidance = torch.linspace(-1, 1, height * width).view(1, 1, height, width)
    return net._enlarge(moved(image, element), [moved(guidance * k, element) for k in (1, 2)])


@pytest.mark.parametrize("scale", [2, 3, 4, 8])
@pytest.mark.parametrize(("group", "order"), [("p4", 4), ("p4m", 8)])
def test_the_trunk_commutes_with_every_move_of_the_group(group: str, order: int, scale: int) -> None:
    net, image = network(scale), torch.rand(1, 3, 11, 14)
    lengths = [p.norm() for p in net.parameters()]
    with torch.no_grad():
        upright = trunk(net, image)
        assert (trunk(net, image, 1) - moved(upright, 1)).abs().max() > 1e-4  # random weights do not
        Equivariance(net, group).start(trained=False)
        upright = trunk(net, image)
        for element in range(order):
            torch.testing.assert_close(trunk(net, image, element), moved(upright, element), atol=1e-5, rtol=0)
    assert (upright - torch.nn.functional.interpolate(image, scale_factor=scale, mode="bicubic")).std() > 1e-3
    torch.testing.assert_close([p.norm() for p in net.parameters()], lengths)


def test_modulation_by_three_by_three_convolutions_commutes_too() -> None:
    net, image = network(modulation_kernel=3), torch.rand(1, 3, 9, 9)
    with torch.no_grad():
        Equivariance(net, "p4").start(trained=False)
        upright = trunk(net, image)
        for element in range(4):
            torch.testing.assert_close(trunk(net, image, element), moved(upright, element), atol=1e-5, rtol=0)


def test_gradients_become_their_mean_over_the_turns_of_the_image() -> None:
    net, image, truth = network(), torch.rand(1, 3, 8, 8), torch.rand(1, 3, 32, 32)
    Equivariance(net, "p4").start(trained=False)
    wanted = [torch.zeros_like(p) for p in net.parameters()]
    for element in range(4):
        net.zero_grad()
        (trunk(net, image, element) - moved(truth, element)).square().mean().backward()
        for total, p in zip(wanted, net.parameters(), strict=True):
            total += 0 if p.grad is None else p.grad / 4
    net.zero_grad()
    (trunk(net, image) - truth).square().mean().backward()
    Equivariance(net, "p4").project_gradients()
    trained = [(p.grad, w) for p, w in zip(net.parameters(), wanted, strict=True) if p.grad is not None]
    assert len(trained) > 10
    for gradient, mean in trained:
        torch.testing.assert_close(gradient, mean, atol=1e-6, rtol=1e-4)


def test_weights_that_are_equivariant_stay_as_they_are() -> None:
    net = network()
    Equivariance(net, "p4m").start(trained=False)
    before = {name: p.clone() for name, p in net.named_parameters()}
    Equivariance(net, "p4").start(trained=True)  # p4 is a part of p4m
    Equivariance(net, "p4").project_weights()
    torch.testing.assert_close(dict(net.named_parameters()), before)


def test_a_checkpoint_of_other_weights_is_refused_and_named() -> None:
    with pytest.raises(ConfigError, match=r"'conv_first' is not.*equivariance=none"):
        Equivariance(network(), "p4").start(trained=True)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"width": 18}, "18 channels.*multiple of 4"),
        ({"head": "stages"}, "'stages' head.*'direct' head"),
        ({"unit": "residual"}, "'residual' units"),
    ],
)
def test_trunks_that_cannot_be_equivariant_are_refused(changes: dict[str, object], told: str) -> None:
    net = SeGSR(preset("compact", scale=2, **{"width": 16, "depths": (2,), **changes}))
    with pytest.raises(ConfigError, match=told):
        Equivariance(net, "p4")
