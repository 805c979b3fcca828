"""The image encoder: one of open_clip's vision transformers, frozen, with low-rank adapters."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.utils import parametrize

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.transformer import VisionTransformer


class LowRank(nn.Module):
    """Adds a trainable product of two thin matrices to a frozen weight: W + alpha/rank B A.

    B starts at zero, so building it changes nothing. In training a share of the columns of A (inputs of the
    adapter) is left out at random in each step.

    Source:
        LoRA, arXiv 2106.09685, equation 3.
    """

    def __init__(self, outputs: int, inputs: int, rank: int, alpha: float, dropout: float) -> None:
        super().__init__()
        self.A = nn.Parameter(torch.empty(rank, inputs))
        self.B = nn.Parameter(torch.zeros(outputs, rank))
        self.weight_of = alpha / rank
        self.dropout = dropout
        nn.init.kaiming_uniform_(self.A, a=math.sqrt(5))

    def forward(self, weight: Tensor) -> Tensor:
        a: Tensor = self.A
        if self.training and self.dropout > 0:
            a = a * F.dropout(a.new_ones(1, a.shape[1]), self.dropout)
        return weight + self.weight_of * (self.B @ a)


class Tower(nn.Module):
    """A vision transformer with open_clip's weights that takes images of any size and returns a feature per patch."""

    def __init__(self, config: SeGSRConfig) -> None:
        super().__init__()
        self.patch = config.tower_patch
        self.heads = config.tower_heads
        self.grid = config.tower_grid
        self.compat = config.compat
        self.vit: Any = VisionTransformer(
            config.tower_width,
            config.tower_layers,
            config.tower_heads,
            patch=config.tower_patch,
            grid=config.tower_grid,
            output=config.tower_output,
            mlp_ratio=config.tower_mlp_ratio,
            quick=config.tower_act == "quick_gelu",
        )
        self.adapted = config.lora_rank > 0
        if self.adapted:
            self.vit.requires_grad_(False)
            for module, name in _adapted_weights(self.vit):
                outputs, inputs = getattr(module, name).shape
                low_rank = LowRank(outputs, inputs, config.lora_rank, config.lora_alpha, config.lora_dropout)
                parametrize.register_parametrization(module, name, low_rank)

    def base_weights(self) -> dict[str, nn.Parameter]:
        """The transformer's own parameters by their names in open_clip, without the adapters."""
        named = {k.replace("parametrizations.", ""): p for k, p in self.vit.named_parameters()}
        adapters = (".0.A", ".0.B")
        return {k.removesuffix(".original"): p for k, p in named.items() if not k.endswith(adapters)}

    def merge(self) -> None:
        """Fold the adapters into the weights, for inference: the same values with fewer steps."""
        if self.adapted:
            for module, name in _adapted_weights(self.vit):
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)
            self.vit.requires_grad_(False)
            self.adapted = False

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Features of an image, each of length one.

        Args:
            image: Normalised, shape (N, 3, H, W); sides are multiples of the patch.

        Returns:
            Local features, shape (N, H/patch, W/patch, D), and the global feature, shape (N, D).
        """
        vit = self.vit
        x = self._tokens(image)  # (N, E, R, Q)
        rows, cols = x.shape[-2:]
        x = x.flatten(2).transpose(1, 2)  # (N, RQ, E)
        first = vit.class_embedding.to(x.dtype).expand(x.shape[0], 1, -1)  # (N, 1, E)
        x = torch.cat([first, x], 1) + self.positions(rows, cols).to(x.dtype)  # (N, 1+RQ, E)
        x = vit.ln_pre(x)
        for block in vit.transformer.resblocks:
            x = x + self._attend(block.attn, block.ln_1(x))
            x = x + block.mlp(block.ln_2(x))
        x = vit.ln_post(x)
        pooled = x[:, 0] if self.compat.global_token == "class" else vit.ln_post(x[:, 1])  # (N, E)
        proj = vit.proj.to(x.dtype)
        local = F.normalize((x[:, 1:] @ proj).float(), dim=-1)  # (N, RQ, D)
        return local.view(x.shape[0], rows, cols, -1), F.normalize((pooled @ proj).float(), dim=-1)

    def _tokens(self, image: Tensor) -> Tensor:
        """The image cut into patches, each as a vector: (N, 3, H, W) to (N, E, R, Q)."""
        conv = self.vit.conv1
        if image.shape[-1] > self.patch:
            tokens: Tensor = conv(image)
            return tokens
        # oneDNN's bfloat16 convolution with a stride reads memory that nobody wrote where its result is one column
        # of five or more. One row is right, so the column is turned into one.
        return F.conv2d(image.mT, conv.weight.mT, stride=self.patch).mT

    def positions(self, rows: int, cols: int) -> Tensor:
        """The position table for a grid of tokens, class token first, shape (1 + rows*cols, E)."""
        table: Tensor = self.vit.positional_embedding  # (1+GG, E)
        if self.compat.positions == "line":
            return F.interpolate(table.T[None], 1 + rows * cols, mode="linear")[0].T
        if (rows, cols) == (self.grid, self.grid):
            return table
        square = table[1:].T.reshape(1, -1, self.grid, self.grid)  # (1, E, G, G)
        square = F.interpolate(square.float(), (rows, cols), mode="bicubic").to(table.dtype)
        return torch.cat([table[:1], square[0].flatten(1).T])

    def _attend(self, attention: Any, x: Tensor) -> Tensor:
        qkv = F.linear(x, attention.in_proj_weight, attention.in_proj_bias)  # (N, L, 3E)
        q, k, v = qkv.view(*qkv.shape[:2], 3, self.heads, -1).permute(2, 0, 3, 1, 4)  # (N, heads, L, d)
        out = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = attention.out_proj(out.transpose(1, 2).flatten(2))  # (N, L, E)
        return projected


def _adapted_weights(vit: Any) -> list[tuple[nn.Module, str]]:
    return [
        pair
        for block in vit.transformer.resblocks
        for pair in ((block.attn, "in_proj_weight"), (block.mlp.c_fc, "weight"), (block.mlp.c_proj, "weight"))
    ]
