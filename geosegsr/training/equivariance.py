"""Weights that prefer no direction: an image turned by a quarter gives the result turned by a quarter.

Ground has no up, and yet a trunk that learns from turned patches spends most of its steps on learning the same four times.
Here its weights are kept where turns commute with it, so that each patch teaches all of its turns at once. Channels
stand in fields of four (of eight, with mirrors), one for each turn: when the image turns, the channels of a field change
places. The network and its speed stay as they are; this only chooses among its weights.

Source:
    Groups and fields: T. Cohen, M. Welling, "Group Equivariant Convolutional Networks", ICML 2016. Averages over the group
    in place of tied weights: M. Finzi, M. Welling, A. Wilson, "A Practical Method for Constructing Equivariant
    Multilayer Perceptrons for Arbitrary Matrix Groups", ICML 2021.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor, nn

from geosegsr.errors import ConfigError
from geosegsr.models.segsr.network import SeGSR
from geosegsr.models.segsr.registry import UNITS
from geosegsr.models.segsr.sensor import GROUP

_ORDERS = {"p4": 4, "p4m": 8}
"""Elements of each group: quarter turns (p4), and mirrors too (p4m)."""

Moves: TypeAlias = Callable[[int, int], Tensor]
"""From an element of the group and a number of channels to the channel that each one's values come from."""

_NINE = torch.arange(9).view(3, 3)

_TOLERATED = 0.01
"""Distance of a checkpoint's weights from equivariant ones, over their length: far above what 16-bit storage leaves."""


class Equivariance:
    """Keeps the trunk of a network where a group of turns commutes with it; tower and prompts stay free."""

    def __init__(self, network: SeGSR, group: str) -> None:
        """Find out which weights take which places when the image turns.

        Raises:
            ConfigError: The trunk has other layers than convolutions, or no whole fields of channels.
        """
        config, order = network.config, _ORDERS[group]
        if not UNITS[config.unit].equivariant or config.head != "direct":
            able = ", ".join(repr(name) for name, unit in UNITS.items() if unit.equivariant)
            raise ConfigError(
                f"Cannot keep a trunk of '{config.unit}' units and a '{config.head}' head equivariant: it needs "
                f"{able} units and a 'direct' head. Pass --set model.equivariance=none."
            )
        if config.width % order:
            raise ConfigError(
                f"Cannot keep {config.width} channels equivariant under {group}: it needs a multiple of {order}. "
                "Pass another model.changes.width, or --set model.equivariance=none."
            )
        if config.sensor_width and order > GROUP:
            raise ConfigError(
                f"Cannot keep a trunk that is told of its sensor equivariant under {group}: its gains hold for fields of "
                f"{GROUP} channels. Pass --set model.equivariance=p4."
            )
        self._places = list(_places(network, order))

    def start(self, *, trained: bool) -> None:
        """Make the weights equivariant that a run begins with; random ones keep their length.

        Args:
            trained: Whether they come from a checkpoint, but for a head that may be new.

        Raises:
            ConfigError: Those of the checkpoint are not equivariant, and would be spoilt.
        """
        for name, p, places in self._places:
            mean, length = _mean(p.data, places), float(p.data.norm())
            uneven = float((mean - p.data).norm()) > _TOLERATED * length
            if trained and uneven and not name.startswith("head"):
                raise ConfigError(
                    f"Cannot keep the weights of this checkpoint equivariant: '{name}' is not. Pass --set "
                    "model.equivariance=none, or leave --init out."
                )
            if uneven:
                p.data.copy_(mean * (length / max(float(mean.norm()), 1e-12)))

    def project_gradients(self) -> None:
        """Average gradients over the group, so that a step keeps the weights where they are to be."""
        for _, p, places in self._places:
            if p.grad is not None:
                p.grad.copy_(_mean(p.grad, places))

    def project_weights(self) -> None:
        """Average the weights that learn over the group: rounding leads them away, by little in many steps."""
        for _, p, places in self._places:
            if p.requires_grad:
                p.data.copy_(_mean(p.data, places))


def _mean(values: Tensor, places: Tensor) -> Tensor:
    return values.reshape(-1)[places].mean(0).view(values.shape)


def _places(network: SeGSR, order: int) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """Weights of the trunk by name, and for each element of the group from where every value is taken, (order, values)."""
    features: Moves = partial(_of_fields, order)
    hr_pixels: Moves = partial(_of_sub_pixels, network.config.scale)
    for name, module in network.named_modules():
        if name.startswith(("features", "localisation")) or not isinstance(module, nn.Conv2d | nn.LayerNorm):
            continue
        reads_image = name == "conv_first" or "modulations" in name  # or a guidance map, which is one too
        into = _unmoved if reads_image else features
        out = _unmoved if name.endswith("shared") else hr_pixels if name.startswith("head") else features
        for p in (module.weight, module.bias):
            assert isinstance(p, nn.Parameter)
            moved = [_moved(p, element, out, into) for element in range(order)]
            yield name, p, torch.stack(moved).to(p.device)


def _moved(p: nn.Parameter, element: int, out: Moves, into: Moves) -> Tensor:
    """Places in `p`, flattened, of the values that an element of the group puts at each place, (values)."""
    places = torch.arange(p.numel()).view(p.shape)[out(element, p.shape[0])]
    if p.ndim == 4:
        places = _turn(element, places[:, into(element, p.shape[1])])
    return places.flatten()


def _turn(element: int, image: Tensor) -> Tensor:
    """Elements 0 to 3 turn the last two axes, 4 to 7 mirror them before."""
    return torch.rot90(image.flip(-1) if element > 3 else image, element % 4, (-2, -1))


def _unmoved(element: int, channels: int) -> Tensor:
    """Channels that mean the same whichever way the image lies."""
    return torch.arange(channels)


def _of_fields(order: int, element: int, channels: int) -> Tensor:
    """Channel g of a field shows for the image what channel h*g shows for the image moved by h."""
    seen = [_turn(g, _NINE).flatten().tolist() for g in range(order)]
    back = next(g for g in range(order) if _turn(element, _turn(g, _NINE)).equal(_NINE))
    taken = torch.tensor([seen.index(_turn(back, _turn(g, _NINE)).flatten().tolist()) for g in range(order)])
    return (torch.arange(0, channels, order)[:, None] + taken).flatten()


def _of_sub_pixels(scale: int, element: int, channels: int) -> Tensor:
    """The hr pixels inside an lr pixel move within it; bands stay apart."""
    inside = _turn(element, torch.arange(scale**2).view(scale, scale)).flatten()
    return (torch.arange(0, channels, scale**2)[:, None] + inside).flatten()
