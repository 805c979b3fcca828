"""RCAN's residual group: convolutions with channel attention, nothing else.

Source:
    "Image Super-Resolution Using Very Deep Residual Channel Attention Networks", ECCV 2018,
    arXiv 1807.02758, section 3.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.units.hat import ChannelAttention


class ResidualBlock(nn.Module):
    """Two convolutions and channel attention around an identity."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            ChannelAttention(channels, squeeze),
        )

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.body(x)  # (N, C, h, w)
        return out


class ResidualUnit(nn.Module):
    """Residual blocks and a convolution."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(config.width, config.squeeze) for _ in range(depth)))
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to what shall be added to it."""
        out: Tensor = self.conv(self.blocks(x))  # (N, C, h, w)
        return out
