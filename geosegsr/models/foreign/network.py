"""A network of another project as a torch module of ours: trained, and saved as a checkpoint with a card."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from geosegsr.errors import CheckpointError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import load_tensors, save_tensors
from geosegsr.models.foreign.known import known_network, program_of
from geosegsr.models.foreign.open import refused
from geosegsr.models.foreign.probe import Findings, measure
from geosegsr.models.foreign.program import Program
from geosegsr.models.foreign.sizes import sizes_of
from geosegsr.models.padding import padded


class ForeignNetwork(nn.Module):
    """The network that a state dict belongs to, called as `SeGSR` is."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Build the network on the CPU, in float32 and evaluation mode.

        Args:
            tensors: As `known_network` takes them; errors as of it.
        """
        super().__init__()
        self._found = known_network(tensors)
        self.network: nn.Module = self._found.model.float().eval()

    def forward(self, lr: Tensor, guide: Tensor | None = None, descriptor: Tensor | None = None) -> Tensor:
        """Enlarge images of any size, (N, C, h, w) to (N, C, scale*h, scale*w); it knows no guide and no descriptor."""
        height, width = lr.shape[-2:]
        scale, program = self.scale, self.program
        with _without_inference_mode():
            sr = program.call(padded(lr, program.multiple_of, program.min_size))
        return sr[..., : height * scale, : width * scale]

    def train(self, mode: bool = True) -> Self:
        """As of any module, but batch normalisation keeps its statistics: those of a few patches are none of a scene."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self

    @property
    def program(self) -> Program:
        """The network as any other project's."""
        return program_of(self._found)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """By the names of the network's own project; floats in float32."""
        return whole(self.network.state_dict())

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, along each side."""
        scale: int = self._found.scale
        return scale

    def measured(self) -> Findings:
        """What `probe.measure` finds of the network as it is, where it is."""
        self.eval()
        device = next(self.network.parameters()).device
        with torch.autocast(device.type, enabled=False):
            return measure(self.program, device, torch.float32, 1.0)

    def described(self, card: ModelCard) -> ModelCard:
        """A card with the sizes that these weights need; the memory of a call is that of the card, if that says it."""
        found = self.measured()
        known = card.config.get("bytes_a_pixel", 0)
        found = replace(found, bytes_a_pixel=known or found.bytes_a_pixel)
        return replace(card, config=asdict(found), **sizes_of(self.program, found))


def whole(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Floats in float32; all else as it is."""
    return {
        name: value.to(torch.float32) if value.is_floating_point() else value
        for name, value in tensors.items()
    }


def load_foreign_network(path: Path) -> tuple[ForeignNetwork, ModelCard]:
    """The network and the card of a converted checkpoint.

    Raises:
        CheckpointError: The file is damaged or no such checkpoint.
        ConfigError: Spandrel is not installed.
    """
    tensors, card = load_tensors(path)
    try:
        return ForeignNetwork(tensors), card
    except CheckpointError as error:
        raise refused(path, error) from error


def save_foreign_network(path: str | Path, network: ForeignNetwork, card: ModelCard) -> ModelCard:
    """Write a network with the sizes that its weights need; result and errors as of `save_checkpoint`."""
    return save_tensors(path, network.tensors, network.described(card))


@contextmanager
def _without_inference_mode() -> Iterator[None]:
    """Leave inference mode, whose tensors could not be trained: networks such as SPAN change their weights in calls."""
    if not torch.is_inference_mode_enabled():
        yield
        return
    with torch.inference_mode(False), torch.no_grad():
        yield
