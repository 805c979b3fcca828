"""SwinIR's residual group of Swin transformer blocks.

Source:
    "SwinIR: Image Restoration Using Swin Transformer", arXiv 2108.10257, section 3.2.
"""

from __future__ import annotations

from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.units.attention import MLP, WindowAttention


class SwinBlock(nn.Module):
    """Window attention, then an MLP."""

    def __init__(self, config: SeGSRConfig, shift: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width)
        self.attention = WindowAttention(config.width, config.heads, config.window, shift)
        self.norm2 = nn.LayerNorm(config.width)
        self.mlp = MLP(config.width, config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) to the same shape."""
        x = x + self.attention(self.norm1(x))  # (N, h, w, C)
        out: Tensor = x + self.mlp(self.norm2(x))  # (N, h, w, C)
        return out


class SwinUnit(nn.Module):
    """Swin blocks and a convolution."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        half = config.window // 2
        self.blocks = nn.ModuleList(SwinBlock(config, half * (i % 2)) for i in range(depth))
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to what shall be added to it."""
        tokens = x.permute(0, 2, 3, 1)  # (N, h, w, C)
        for block in self.blocks:
            tokens = block(tokens)
        out: Tensor = self.conv(tokens.permute(0, 3, 1, 2))  # (N, C, h, w)
        return out
