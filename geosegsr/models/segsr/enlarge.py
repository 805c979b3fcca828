"""Enlargement by an integer factor: bicubic interpolation, or learned, as the end of the trunk.

Both compute at low resolution and end with a pixel shuffle, which keeps memory access contiguous.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from torch import Tensor, nn

from geosegsr.models.kernels import keys
from geosegsr.models.segsr.config import SeGSRConfig
from geosegsr.models.segsr.precision import conv_in_float32


def bicubic(image: Tensor, scale: int, sharpness: float = -0.75) -> Tensor:
    """Equals F.interpolate(mode="bicubic"), and is several times faster on a CPU.

    Args:
        image: Shape (N, C, h, w).
        scale: Output pixels per input pixel, along each side.
        sharpness: The kernel's parameter a; -0.75 as in torch, -0.5 as Keys has it, which is exact on parabolas.

    Returns:
        float32, shape (N, C, scale*h, scale*w).
    """
    n, bands, height, width = image.shape
    padded = F.pad(image.float(), (2, 2, 2, 2), mode="replicate").flatten(0, 1)[:, None]  # (NC, 1, h+4, w+4)
    kernel = torch.from_numpy(_kernel(scale, sharpness)).to(image.device)  # (ss, 1, 5, 5)
    fine = conv_in_float32(padded, kernel)  # (NC, ss, h, w); in 16 bits it would be off by 0.006
    return shuffled(fine.reshape(n, bands * scale**2, height, width), scale)


def shuffled(x: Tensor, factor: int) -> Tensor:
    """Pixel shuffle of (N, C*factor**2, h, w) into (N, C, factor*h, factor*w), contiguous."""
    n, _, height, width = x.shape
    x = x.reshape(n, -1, factor, factor, height, width).permute(0, 1, 4, 2, 5, 3)  # (N, C, h, f, w, f)
    return x.reshape(n, -1, height * factor, width * factor)


class Shuffle(nn.Module):
    """Pixel shuffle by `factor`, as the last step."""

    def __init__(self, factor: int) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return shuffled(x, self.factor)


def build_head(config: SeGSRConfig) -> nn.Sequential:
    """The learned enlargement: features (N, width, h, w) to bands (N, C, scale*h, scale*w)."""
    if config.head == "direct":
        conv = nn.Conv2d(config.width, config.bands * config.scale**2, 3, padding=1)
        return nn.Sequential(conv, Shuffle(config.scale))
    layers: list[nn.Module] = []
    hidden = config.width
    if config.head == "stages":
        hidden = config.head_width
        layers += [nn.Conv2d(config.width, hidden, 3, padding=1), nn.LeakyReLU(0.01, inplace=True)]
    for factor in [3] if config.scale == 3 else [2] * (config.scale.bit_length() - 1):
        layers += [nn.Conv2d(hidden, factor**2 * hidden, 3, padding=1), nn.PixelShuffle(factor)]
    return nn.Sequential(*layers, nn.Conv2d(hidden, config.bands, 3, padding=1))


@lru_cache(maxsize=8)
def _kernel(scale: int, a: float) -> NDArray[np.float32]:
    """Weight of the 5x5 inputs around a pixel for each sub-pixel, shape (scale**2, 1, 5, 5).

    No tensor: one that is made while torch.export traces the network has no values, and must not be kept.
    """
    centres = (np.arange(scale) + 0.5) / scale - 0.5  # from the input pixel's own
    weights = keys(centres[:, None] - np.arange(-2, 3), a)  # (scale, 5)
    both: NDArray[Any] = weights[:, None, :, None] * weights[None, :, None, :]  # (scale, scale, 5, 5)
    return np.ascontiguousarray(both.reshape(scale**2, 1, 5, 5), np.float32)
