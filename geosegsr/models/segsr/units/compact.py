"""Plain convolutions, made for processors: few channels, one cheap activation, no attention."""

from __future__ import annotations

from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig


class CompactUnit(nn.Module):
    """3x3 convolutions with an activation between."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Conv2d(config.width, config.width, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
        self.body = nn.Sequential(*layers[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to what shall be added to it."""
        out: Tensor = self.body(x)  # (N, C, h, w)
        return out
