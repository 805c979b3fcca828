"""A small network that reads blur and noise off one patch of a scene, and says how sure it is.

    plane, colour differences ----> convolutions -> mean and spread over the patch --+
         |                                                                           +--> two layers --> value, log-variance
         +--> spectrum, flat parts, JPEG's blocks, contrast, compression --------------+     of 3 numbers

What enters is free of the patch's level. Convolutions and spectrum see it divided by its contrast; the contrast enters
as one number of its own, because noise and rounding are in DN.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from geosegsr.sensor.jpeg import dct_matrix

_WIDTH, _DEEP, _HIDDEN = 48, 64, 96
_FINEST = 0.25 / 255  # contrast below which a patch is flat
_LEVEL = 9  # pixels along a side, over which the level is taken
_WINDOW = 16  # pixels along a side of a spectrum's window
_QUANTILES = (0.02, 0.1, 0.3, 0.6)
_SPECTRUM = 2 * (_WINDOW // 2 + 1) ** 2
_FLATNESS = 3 * len(_QUANTILES)
_BLOCKS = 2 * 64
_TOLD = 4
OUTPUTS = 3
"""MTF at 1/4 and at 1/2 cycle per pixel, and noise as `noise_to_score` gives it."""


def noise_to_score(noise: Tensor) -> Tensor:
    """Noise on a scale on which errors are alike: linear near 0, logarithmic from about 1 DN of 255 on."""
    return torch.log1p(noise * 255)


def planes_of(bands: Tensor) -> Tensor:
    """Luminance and two colour differences.

    Args:
        bands: Shape (N, 3, h, w) for red, green, blue, or (N, 1, h, w) for a single band.

    Returns:
        Shape (N, 3, h, w); the differences of a single band are 0.
    """
    if bands.shape[1] == 1:
        return torch.cat([bands, torch.zeros_like(bands).expand(-1, 2, -1, -1)], 1)
    red, green, blue = bands.unbind(1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return torch.stack([luma, (red - green) * math.sqrt(0.5), (blue - green) * math.sqrt(0.5)], 1)


class Regressor(nn.Module):
    """Values and log-variances of blur and noise, from patches of any size from 48 pixels on."""

    hann: Tensor
    dct: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, _WIDTH, 5, stride=2, padding=2)
        self.told = nn.Linear(_TOLD, 2 * _WIDTH)
        self.fine = nn.ModuleList(nn.Conv2d(_WIDTH, _WIDTH, 3, padding=1) for _ in range(3))
        self.down = nn.Conv2d(_WIDTH, _DEEP, 3, stride=2, padding=1)
        self.coarse = nn.ModuleList(nn.Conv2d(_DEEP, _DEEP, 3, padding=1) for _ in range(2))
        self.mixed = nn.Linear(2 * _DEEP + _SPECTRUM + _FLATNESS + _TOLD + _BLOCKS, _HIDDEN)
        self.hidden = nn.Linear(_HIDDEN, _HIDDEN)
        self.head = nn.Linear(_HIDDEN, 2 * OUTPUTS)
        window = torch.hann_window(_WINDOW + 1)[1:]
        self.register_buffer("hann", window[:, None] * window[None], persistent=False)
        self.register_buffer("dct", torch.from_numpy(dct_matrix()).float(), persistent=False)

    def forward(
        self, planes: Tensor, quantisation: Tensor, single: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Read blur and noise.

        Args:
            planes: float32, shape (N, 3, h, w), as `planes_of` gives them.
            quantisation: Shape (N,), in percent.
            single: Shape (N,); 1 for single bands, 0 for colour.
            scale: Shape (N,); hr pixels per lr pixel of the model that is to be told.

        Returns:
            Values and log-variances, both of shape (N, 3).
        """
        with torch.autocast(planes.device.type, enabled=False):
            detail = planes - _local_mean(planes)
            contrast = _contrast(planes[:, :1])  # (N, 1, 1, 1)
            level = (contrast.flatten() * 255).log() / 2
            told = torch.stack([level, torch.log1p(quantisation) / 2, single, scale.log2() - 2], 1)
            spectrum = self._spectrum(detail[:, 0] / contrast[:, 0])
            known = torch.cat([spectrum, _flatness(detail), told, self._blocks(planes[:, 0])], 1)
            gain, offset = self.told(told)[:, :, None, None].chunk(2, 1)
            detail = (detail / (3 * contrast)).clamp(-8, 8)
        x = self.stem(detail.contiguous(memory_format=torch.channels_last))  # (N, 48, h/2, w/2)
        x = F.relu(x * (1 + gain) + offset)
        for layer in self.fine:
            x = x + F.relu(layer(x))
        x = F.relu(self.down(x))  # (N, 64, h/4, w/4)
        for layer in self.coarse:
            x = x + F.relu(layer(x))
        with torch.autocast(planes.device.type, enabled=False):
            x = x.float()
            mean = x.mean((2, 3))
            spread = ((x - mean[:, :, None, None]).square().mean((2, 3)) + 1e-6).sqrt()
            y = F.relu(self.mixed(torch.cat([mean, spread, known], 1)))
            y = y + F.relu(self.hidden(y))
            values, variances = self.head(y).chunk(2, 1)
        return values, variances.clamp(-12, 4)

    def _spectrum(self, plane: Tensor) -> Tensor:
        """Log-power over 9 x 9 frequencies: mean of the logarithms over all windows, and logarithm of the mean.

        Args:
            plane: Shape (N, h, w).
        """
        windows = plane.unfold(1, _WINDOW, _WINDOW // 2).unfold(2, _WINDOW, _WINDOW // 2)
        power = torch.fft.rfft2(windows * self.hann).abs().square()  # (N, rows, columns, 16, 9)
        half = _WINDOW // 2
        power = (
            power[..., : half + 1, :] + torch.cat([power[..., :1, :], power[..., half:, :].flip(-2)], -2)
        ) / 2
        power = power + 1e-4
        both = torch.stack([power.log().mean((1, 2)), power.mean((1, 2)).log()], 1)
        return (both.flatten(1) - 3) / 4

    def _blocks(self, plane: Tensor) -> Tensor:
        """Of the 64 coefficients of JPEG's blocks: how many are not 0, and how large they are, in DN of 255.

        Compression turns noise into few coefficients of one step, in blocks that are flat otherwise.

        Args:
            plane: Shape (N, h, w); row 0 and column 0 begin a block.
        """
        blocks = plane.unfold(1, 8, 8).unfold(2, 8, 8).flatten(1, 2)  # (N, blocks, 8, 8)
        found = (self.dct @ (blocks * 255) @ self.dct.T).flatten(2).abs()
        occupied = (found.square() / (1 + found.square())).mean(1)
        found = torch.cat([occupied, torch.log1p(found.mean(1)) / 2], 1)
        return found * (torch.arange(2 * 64, device=found.device) % 64 > 0)  # the level is not looked at


def _local_mean(planes: Tensor) -> Tensor:
    return F.avg_pool2d(planes, _LEVEL, 1, _LEVEL // 2, count_include_pad=False)


def _contrast(plane: Tensor) -> Tensor:
    """RMS of the gradient, shape (N, 1, 1, 1)."""
    across, down = plane.diff(dim=3), plane.diff(dim=2)
    power = across.square().mean((1, 2, 3), keepdim=True) + down.square().mean((1, 2, 3), keepdim=True)
    return (power / 2 + _FINEST**2).sqrt()


def _flatness(detail: Tensor) -> Tensor:
    """Log standard deviation, in DN of 255, of what a Laplacian leaves in the flattest parts of each plane.

    Source:
        J. Immerkaer, "Fast noise variance estimation", CVIU 64 (1996), for the filter.
    """
    kernel = detail.new_tensor([[1.0, -2, 1], [-2, 4, -2], [1, -2, 1]]) / 6
    left = F.conv2d(detail.flatten(0, 1)[:, None], kernel[None, None])[:, 0]
    power = F.avg_pool2d(left.square(), 6, 4).flatten(1)  # (N * 3, parts)
    places = detail.new_tensor(_QUANTILES) * (power.shape[1] - 1)
    chosen = power.sort(1).values[:, places.round().long()]
    return ((chosen * 255**2 + 1e-3).log() / 4).view(len(detail), -1)
