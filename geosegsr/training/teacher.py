"""A trained model as a teacher: its results lack the unpredictable noise that hr contains."""

from __future__ import annotations

import torch
from torch import Tensor

from geosegsr.errors import ConfigError
from geosegsr.models.catalogue import located
from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.training.config import TeacherConfig


class Teacher:
    """Moves targets from hr towards the mean of a model's results for a patch and for its mirror image.

    The mean is better than either result, so it can teach a network of the model's own size, even the model itself.

    Source:
        G. Hinton, O. Vinyals, J. Dean, "Distilling the knowledge in a neural network", 2015. For squared errors, the weighted
        mean of the errors to hr and to the teacher's result equals the error to a point between both, plus a constant.
    """

    def __init__(self, config: TeacherConfig, scale: int, bands: int, device: torch.device) -> None:
        """Load the teacher.

        Raises:
            CheckpointError: The file is no checkpoint.
            ConfigError: The teacher has another scale or another number of bands than this run.
        """
        network, card = load_checkpoint(str(located(config.model)))
        if (card.scale, card.bands) != (scale, bands):
            raise ConfigError(
                f"Cannot learn from '{config.model}': it is made for scale {card.scale} and {card.bands} bands, and this run "
                f"for scale {scale} and {bands}. Pass another teacher.model."
            )
        self.share = config.share
        network.merge_lora().requires_grad_(False).to(memory_format=torch.channels_last)
        self.network = network.to(device)

    def target(self, lr: Tensor, hr: Tensor, descriptor: Tensor | None = None) -> Tensor:
        """What to learn, for a batch of patches.

        Args:
            lr: Shape (N, C, h, w).
            hr: Shape (N, C, scale*h, scale*w).
            descriptor: Of each patch's sensor, shape (N, 4), for a teacher that can be told of it.

        Returns:
            Shape of `hr`.
        """
        with torch.no_grad():
            straight: Tensor = self.network(lr, None, descriptor)
            mirrored: Tensor = self.network(lr.flip(-1), None, descriptor).flip(-1)
            return hr.lerp((straight + mirrored) / 2, self.share)
