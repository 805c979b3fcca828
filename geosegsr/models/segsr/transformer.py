"""The weights of a vision transformer, by the names and in the shapes that open_clip gives them.

open_clip itself takes longer to import than a small scene takes to enlarge, and of its transformer nothing but
the weights is used here: `Tower` computes with them.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class QuickGELU(nn.Module):
    """The activation of OpenAI's weights."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Block(nn.Module):
    """Attention and an MLP, each behind a normalisation."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, act: type[nn.Module]) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.ln_1 = nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential()
        self.mlp.add_module("c_fc", nn.Linear(width, hidden))
        self.mlp.add_module("gelu", act())
        self.mlp.add_module("c_proj", nn.Linear(hidden, width))


class Transformer(nn.Module):
    """The blocks."""

    def __init__(self, width: int, layers: int, heads: int, mlp_ratio: float, act: type[nn.Module]) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads, mlp_ratio, act) for _ in range(layers))


class VisionTransformer(nn.Module):
    """Patches, positions, blocks, and the projection to features.

    Args:
        width: Channels.
        layers: Number of blocks.
        heads: Of each block's attention.
        patch: Side of a token, in pixels.
        grid: Tokens along each side of the image that the position table is for.
        output: Length of a feature.
        mlp_ratio: Hidden width of a block's MLP over `width`.
        quick: Whether the activation is OpenAI's approximation of GELU.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        *,
        patch: int,
        grid: int,
        output: int,
        mlp_ratio: float,
        quick: bool,
    ) -> None:
        super().__init__()
        spread = width**-0.5
        self.class_embedding = nn.Parameter(spread * torch.randn(width))
        self.positional_embedding = nn.Parameter(spread * torch.randn(grid**2 + 1, width))
        self.proj = nn.Parameter(spread * torch.randn(width, output))
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(width, layers, heads, mlp_ratio, QuickGELU if quick else nn.GELU)
        self.ln_post = nn.LayerNorm(width)
