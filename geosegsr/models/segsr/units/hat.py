"""HAT's residual hybrid attention group: windows, convolutions beside them, overlapping windows at the end.

Source:
    "Activating More Pixels in Image Super-Resolution Transformer", arXiv 2205.04437, section 3.2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.units.attention import (
    MLP,
    PositionBias,
    WindowAttention,
    attend,
    from_windows,
    to_windows,
)


class ChannelAttention(nn.Module):
    """Weighs each channel by what its mean and those of the others say."""

    def __init__(self, channels: int, squeeze: int) -> None:
        super().__init__()
        hidden = max(channels // squeeze, 1)
        self.down = nn.Conv2d(channels, hidden, 1)
        self.up = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3), keepdim=True)  # (N, C, 1, 1)
        return x * torch.sigmoid(self.up(F.relu(self.down(mean))))  # (N, C, h, w)


class ConvolutionBlock(nn.Sequential):
    """Two narrow convolutions and channel attention (CAB)."""

    def __init__(self, channels: int, compress: int, squeeze: int) -> None:
        hidden = max(channels // compress, 1)
        super().__init__(
            nn.Conv2d(channels, hidden, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(hidden, channels, 3, padding=1),
            ChannelAttention(channels, squeeze),
        )


class HybridBlock(nn.Module):
    """Window attention and convolutions side by side, then an MLP (HAB)."""

    def __init__(self, config: SeGSRConfig, shift: int) -> None:
        super().__init__()
        channels = config.width
        self.conv_scale = config.conv_scale
        self.norm1 = nn.LayerNorm(channels)
        self.attention = WindowAttention(channels, config.heads, config.window, shift)
        self.conv = ConvolutionBlock(channels, config.compress, config.squeeze)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) to the same shape."""
        y = self.norm1(x)  # (N, h, w, C)
        conv = self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (N, h, w, C)
        x = torch.add(x + self.attention(y), conv, alpha=self.conv_scale)  # (N, h, w, C)
        out: Tensor = x + self.mlp(self.norm2(x))  # (N, h, w, C)
        return out


class OverlappingBlock(nn.Module):
    """Attention from each window on a larger one around it (OCAB).

    Keys beyond the tile's edge are zeros and take part, as in the published network.
    """

    def __init__(self, config: SeGSRConfig) -> None:
        super().__init__()
        channels = config.width
        self.heads, self.side = config.heads, config.window
        self.margin = round(config.window * config.reach) // 2
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.bias = PositionBias(config.heads, self.side, self.side + 2 * self.margin)
        self.proj = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = MLP(channels, config.mlp_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(N, h, w, C) to the same shape."""
        n, height, width, channels = x.shape
        q, kv = self.qkv(self.norm1(x)).split((channels, 2 * channels), -1)
        queries = to_windows(q, self.side).flatten(0, 2)  # (B, L, C)
        keys = self._reaching(kv)  # (B, M, 2C)
        k, v = keys.view(*keys.shape[:2], 2, self.heads, -1).unbind(2)  # (B, M, heads, d)
        queries = queries.view(*queries.shape[:2], self.heads, -1)  # (B, L, heads, d)
        mixed = attend(queries, k, v, self.bias.mask(q.dtype))  # (B, L, C)
        mixed = mixed.view(n, height // self.side, width // self.side, -1, channels)  # (N, R, Q, L, C)
        x = self.proj(from_windows(mixed, self.side)) + x  # (N, h, w, C)
        out: Tensor = x + self.mlp(self.norm2(x))  # (N, h, w, C)
        return out

    def _reaching(self, kv: Tensor) -> Tensor:
        """Cut (N, h, w, C) into windows that overlap, zeros around the tile: (B, M, C)."""
        m, side = self.margin, self.side + 2 * self.margin
        padded = F.pad(kv, (0, 0, m, m, m, m))
        windows = padded.unfold(1, side, self.side).unfold(2, side, self.side)  # (N, R, Q, C, side, side)
        return windows.permute(0, 1, 2, 4, 5, 3).reshape(-1, side * side, kv.shape[-1])


class HATUnit(nn.Module):
    """A residual hybrid attention group."""

    def __init__(self, config: SeGSRConfig, depth: int) -> None:
        super().__init__()
        half = config.window // 2
        self.blocks = nn.ModuleList(HybridBlock(config, half * (i % 2)) for i in range(depth))
        self.overlap = OverlappingBlock(config)
        self.conv = nn.Conv2d(config.width, config.width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to what shall be added to it."""
        tokens = x.permute(0, 2, 3, 1)  # (N, h, w, C)
        for block in self.blocks:
            tokens = block(tokens)
        tokens = self.overlap(tokens)
        out: Tensor = self.conv(tokens.permute(0, 3, 1, 2))  # (N, C, h, w)
        return out
