"""Guidance: semantic features of the image, and prompts whose similarity to them steers the trunk."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.precision import InFloat32, without_autocast
from geosegsr.models.segsr.tower import Tower

CONTRAST = 100.0  # guidance per cosine, CLIP's own temperature


class SemanticFeatures(nn.Module):
    """Semantic features of the image: a vector for each patch and a global one (SFEM).

    Source:
        The method's paper, section III-B.
    """

    def __init__(self, config: SeGSRConfig) -> None:
        super().__init__()
        self.tower = Tower(config)
        self.scale = config.tower_scale
        self.mean, self.std = config.tower_mean, config.tower_std
        if config.compat.tower_input == "trunk":
            self.mean, self.std = tuple(config.band_mean[b] for b in config.tower_bands), (1.0, 1.0, 1.0)

    def forward(self, rgb: Tensor) -> tuple[Tensor, Tensor]:
        """Local (N, R, Q, D) and global features (N, D) of red, green, blue (N, 3, h, w) in 0 to 1."""
        image = (rgb - rgb.new_tensor(self.mean).view(3, 1, 1)) / rgb.new_tensor(self.std).view(3, 1, 1)
        if self.scale > 1:
            image = F.interpolate(image, scale_factor=self.scale, mode="bilinear")  # (N, 3, sh, sw)
        features: tuple[Tensor, Tensor] = self.tower(image.to(self.tower.vit.conv1.weight.dtype))
        return features


class GatedFusion(nn.Module):
    """Gates the global prompt by a unit's prompt."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gate = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, unit: Tensor, common: Tensor) -> Tensor:
        out: Tensor = self.out(torch.sigmoid(self.gate(unit)) * self.value(common))  # (N, D)
        return out


class PromptAttention(nn.Module):
    """Self-attention among prompts: no residual, no normalisation."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(dim, dim, bias=False)
        self.k = nn.Linear(dim, dim, bias=False)
        self.v = nn.Linear(dim, dim, bias=False)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.q, self.k, self.v))
        mixed = F.scaled_dot_product_attention(q, k, v)  # (N, heads, 1+k, d)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))  # (N, 1+k, D)
        return out


class GuidanceUpsampler(nn.Sequential):
    """Learned enlargement of a guidance map by a power of two; starts as nearest neighbour."""

    def __init__(self, ratio: float) -> None:
        stages: list[nn.Module] = []
        for _ in range(math.ceil(math.log2(ratio)) if ratio > 1 else 0):
            conv = nn.Conv2d(1, 4, 3, padding=1)
            nn.init.normal_(conv.weight, std=0.02)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
            with torch.no_grad():
                conv.weight[:, :, 1, 1] += 1
            stages += [conv, nn.PixelShuffle(2)]
        super().__init__(*stages)


class SemanticLocalisation(InFloat32):
    """Locates each unit's prompt in the image (SLM), in float32.

    A map is a hundred times a cosine: 16 bits would round it to steps of up to a half.

    Source:
        The method's paper, section III-C.
    """

    def __init__(self, config: SeGSRConfig) -> None:
        super().__init__()
        dim, units = config.tower_output, len(config.depths)
        hidden = max(dim // 16, 1)
        self.unit_prompts = config.compat.unit_prompts
        self.prompt = nn.Parameter(torch.randn(dim) * dim**-0.5)
        self.prompts = nn.Parameter(torch.randn(units, dim) * dim**-0.5)
        self.meta = nn.Sequential(nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, dim))
        self.film = nn.Linear(dim, 2 * dim)
        self.film_out = nn.Linear(dim, dim)
        self.attention = PromptAttention(dim, config.prompt_heads)
        self.fusions = nn.ModuleList(GatedFusion(dim) for _ in range(units))
        ratio = config.tower_patch / config.tower_scale
        self.upsamplers = nn.ModuleList(GuidanceUpsampler(ratio) for _ in range(units))

    def forward(self, local: Tensor, common: Tensor) -> list[Tensor]:
        """Guidance of each unit on the token grid.

        Args:
            local: Features of the patches, shape (N, R, Q, D), of length one.
            common: Feature of the image, shape (N, D), of length one.

        Returns:
            As many maps as units, shape (N, 1, R, Q).
        """
        with without_autocast(local):
            queries = self._queries(common.float())  # (N, k, D)
            maps = CONTRAST * torch.einsum("nrqd,nkd->nkrq", local.float(), queries)  # (N, k, R, Q)
        return list(torch.split(maps, 1, 1))

    def enlarge(self, unit: int, guidance: Tensor, height: int, width: int) -> Tensor:
        """The map of one unit at the size of the trunk's features, shape (N, 1, height, width)."""
        with without_autocast(guidance):
            large: Tensor = self.upsamplers[unit](guidance)
        if large.shape[-2:] != (height, width):
            large = F.interpolate(large, (height, width), mode="bilinear")
        return large

    def _queries(self, common: Tensor) -> Tensor:
        gamma, beta = self.film(self.meta(common)).chunk(2, -1)  # (N, D)
        prompt = self.film_out(gamma * self.prompt + beta)  # (N, D)
        own = self.prompts.expand(prompt.shape[0], -1, -1)  # (N, k, D)
        mixed = self.attention(torch.cat([prompt[:, None], own], 1))  # (N, 1+k, D)
        fused = [fuse(mixed[:, i + 1], mixed[:, 0]) for i, fuse in enumerate(self.fusions)]
        queries = torch.stack(fused, 1)  # (N, k, D)
        return F.normalize(queries, dim=-1) if self.unit_prompts else queries
