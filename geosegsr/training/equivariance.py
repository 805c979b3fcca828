"""Equivariant weights: rotating the image by a quarter turn rotates the result by a quarter turn.

Ground has no up direction, but a free trunk must learn each structure once for every orientation. Here its weights are
confined to those that commute with rotations, so that each patch teaches all of its orientations. Channels form fields of
four (of eight, with mirrors), one for each rotation; when the image rotates, the channels of a field permute. Architecture
and speed of the network stay the same.

Source:
    Groups and fields: T. Cohen, M. Welling, "Group Equivariant Convolutional Networks", ICML 2016. Averages over the group
    instead of tied weights: M. Finzi, M. Welling, A. Wilson, "A Practical Method for Constructing Equivariant
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
"""Order of each group: quarter turns (p4); quarter turns and mirrors (p4m)."""

Moves: TypeAlias = Callable[[int, int], Tensor]
"""Maps a group element and a number of channels to the channel from which each channel takes its values."""

_NINE = torch.arange(9).view(3, 3)

_TOLERATED = 0.01
"""Largest relative distance of a checkpoint's weights from equivariant ones; far above the rounding of 16-bit storage."""


class Equivariance:
    """Keeps the trunk of a network equivariant under a group of rotations; tower and prompts stay free."""

    def __init__(self, network: SeGSR, group: str) -> None:
        """Find how the weights permute when the image rotates.

        Args:
            network: Its trunk must be made of plain convolutions.
            group: "p4" or "p4m".

        Raises:
            ConfigError: The trunk has other layers, or its width is no multiple of the group's order.
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
        self.places = list(_places(network, order))
        """Name, weights and permutations of each parameter of the trunk; the permutations have shape (order, values)."""

    def start(self, *, trained: bool) -> None:
        """Project the initial weights onto equivariant ones; random weights keep their norm.

        Args:
            trained: Whether the weights come from a checkpoint; the head may be new even then.

        Raises:
            ConfigError: The weights of the checkpoint are not equivariant, and projecting would spoil them.
        """
        for name, p, places in self.places:
            mean, length = _mean(p.data, places), float(p.data.norm())
            uneven = float((mean - p.data).norm()) > _TOLERATED * length
            if trained and uneven and not name.startswith("head"):
                raise ConfigError(
                    f"Cannot keep the weights of this checkpoint equivariant: '{name}' is not. Pass --set "
                    "model.equivariance=none, or --init none."
                )
            if uneven:
                p.data.copy_(mean * (length / max(float(mean.norm()), 1e-12)))

    def project_gradients(self) -> None:
        """Average the gradients over the group, so that a step keeps the weights equivariant."""
        for _, p, places in self.places:
            if p.grad is not None:
                p.grad.copy_(_mean(p.grad, places))

    def project_weights(self) -> None:
        """Average the trainable weights over the group, which removes the rounding errors of many steps."""
        for _, p, places in self.places:
            if p.requires_grad:
                p.data.copy_(_mean(p.data, places))


def _mean(values: Tensor, places: Tensor) -> Tensor:
    return values.reshape(-1)[places].mean(0).view(values.shape)


def _places(network: SeGSR, order: int) -> Iterator[tuple[str, nn.Parameter, Tensor]]:
    """Name, weights and permutations of each parameter of the trunk; the permutations have shape (order, values)."""
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
    """Indices into the flattened `p` of the values that a group element moves to each place, shape (values)."""
    places = torch.arange(p.numel()).view(p.shape)[out(element, p.shape[0])]
    if p.ndim == 4:
        places = _turn(element, places[:, into(element, p.shape[1])])
    return places.flatten()


def _turn(element: int, image: Tensor) -> Tensor:
    """Rotate the last two axes by `element % 4` quarter turns; elements 4 to 7 mirror them first."""
    return torch.rot90(image.flip(-1) if element > 3 else image, element % 4, (-2, -1))


def _unmoved(element: int, channels: int) -> Tensor:
    """Channels that do not permute: bands, and gains that hold for all orientations."""
    return torch.arange(channels)


def _of_fields(order: int, element: int, channels: int) -> Tensor:
    """Channel g of a field shows for the image what channel h*g shows for the image moved by h."""
    seen = [_turn(g, _NINE).flatten().tolist() for g in range(order)]
    back = next(g for g in range(order) if _turn(element, _turn(g, _NINE)).equal(_NINE))
    taken = torch.tensor([seen.index(_turn(back, _turn(g, _NINE)).flatten().tolist()) for g in range(order)])
    return (torch.arange(0, channels, order)[:, None] + taken).flatten()


def _of_sub_pixels(scale: int, element: int, channels: int) -> Tensor:
    """The hr pixels inside one lr pixel permute; bands do not."""
    inside = _turn(element, torch.arange(scale**2).view(scale, scale)).flatten()
    return (torch.arange(0, channels, scale**2)[:, None] + inside).flatten()
