"""A finished model that another one learns from: its results are calmer than hr, which holds what no one can foresee."""

from __future__ import annotations

import torch
from torch import Tensor

from geosegsr.errors import ConfigError
from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.training.config import TeacherConfig


class Teacher:
    """Moves targets from hr towards a model's results, each the mean of a patch's and its mirror image's.

    The mean is better than the model itself, so that it can teach a network of its own size, or itself.

    Source:
        G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015, with squared errors: the mean
        of those to hr and to the teacher's result differs by a constant from the error to a point between them.
    """

    def __init__(self, config: TeacherConfig, scale: int, bands: int, device: torch.device) -> None:
        """Open the teacher.

        Raises:
            CheckpointError: It is no checkpoint.
            ConfigError: It is made for another scale or other bands.
        """
        network, card = load_checkpoint(config.model)
        if (card.scale, card.bands) != (scale, bands):
            raise ConfigError(
                f"Cannot learn from '{config.model}': it is made for scale {card.scale} and {card.bands} bands, and this run "
                f"for scale {scale} and {bands}. Pass another teacher.model."
            )
        self.share = config.share
        network.merge_lora().requires_grad_(False).to(memory_format=torch.channels_last)
        self.network = network.to(device)

    def target(self, lr: Tensor, hr: Tensor) -> Tensor:
        """What to learn, for a batch of patches; lr (N, C, h, w), hr and the result (N, C, scale*h, scale*w)."""
        with torch.no_grad():
            straight: Tensor = self.network(lr)
            mirrored: Tensor = self.network(lr.flip(-1)).flip(-1)
            return hr.lerp((straight + mirrored) / 2, self.share)
