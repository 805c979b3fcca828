"""What the trunk is told of the sensor: gains and offsets of its convolutions, from a descriptor of the scene.

A scene has one descriptor, so for inference gains and offsets are folded into the convolutions: a network that is told
costs no more than one that is not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geosegsr.models.segsr.config import DESCRIPTOR, SeGSRConfig

GROUP = 4
"""Neighbouring channels that share gain and offset; a field of channels under quarter turns, see training.equivariance."""


class SensorConditioning(nn.Module):
    """Gain and offset of each convolution in the units, from the sensor's descriptor.

    Source:
        Feature-wise modulation: E. Perez and others, "FiLM: Visual Reasoning with a General Conditioning Layer", 2018,
        section 2.
    """

    def __init__(self, config: SeGSRConfig) -> None:
        super().__init__()
        hidden = config.sensor_width
        self.depths = config.depths
        self.groups = config.width // GROUP
        self.embed = nn.Sequential(
            nn.Linear(len(DESCRIPTOR), hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.out = nn.Linear(hidden, sum(config.depths) * 2 * self.groups)

    def start_plain(self) -> None:
        """Make all gains close to one and all offsets close to zero, whatever the descriptor."""
        for layer in self.embed:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
        nn.init.normal_(self.out.weight, std=1e-3)

    def forward(self, descriptor: Tensor) -> tuple[Tensor, ...]:
        """Descriptors (N, 4) to gains and offsets of each unit's convolutions, (depth, 2, N, W, 1, 1)."""
        n = len(descriptor)
        x: Tensor = self.out(
            self.embed(_evened(descriptor.float()).to(self.out.weight.dtype))
        )  # (N, layers * 2 * groups)
        x = x.view(n, sum(self.depths), 2, self.groups).repeat_interleave(GROUP, -1)  # (N, layers, 2, W)
        x = x.permute(1, 2, 0, 3)[..., None, None]  # (layers, 2, N, W, 1, 1)
        gains = x + x.new_tensor([1.0, 0.0]).view(1, 2, 1, 1, 1, 1)
        conditions: tuple[Tensor, ...] = gains.split(self.depths)
        return conditions


def _evened(descriptor: Tensor) -> Tensor:
    """A descriptor's numbers in ranges of about one, and as finely spaced as their effect."""
    quarter, nyquist, noise, quantisation = descriptor.unbind(1)
    return torch.stack(
        [
            2 * quarter - 1,
            2 * nyquist - 0.5,
            (255 * noise).clamp_min(0).sqrt() / 3.5,
            torch.log1p(quantisation.clamp_min(0)) / 5,
        ],
        1,
    )
