"""How a sensor makes lr of hr, for whole batches on any device: each image has its own blur, noise and compression.

    hr -> blurred -> (whatever a training does to lr) -> recorded -> lr, and what was done to it

`geosegsr.sensor.degradation` does the same for one image at a time. Needs torch and numpy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from geosegsr.sensor.jpeg import CHROMINANCE, LUMINANCE, YCC, dct_matrix

REACH = 6  # lr pixels that a kernel reaches
TAPS = 3  # per hr pixel, of the kernels
BICUBIC, BOX, NONE = 0, 1, 2
"""What a Gaussian follows: antialiased bicubic reduction, the mean over an lr pixel, or nothing."""


@dataclass(frozen=True)
class Mix:
    """How often images are degraded, and how strongly."""

    clean: float
    """Share of images that are bicubic reductions and nothing else."""
    blurred: float
    """Share of the others that a Gaussian blurs; `gaussian` and `box` are parts of it."""
    gaussian: float
    """Share with the Gaussian alone."""
    box: float
    """Share with a box before it."""
    sigma: float
    """Largest standard deviation of a Gaussian after another kernel, in lr pixels."""
    sigma_alone: tuple[float, float]
    """Standard deviation of a Gaussian alone, in lr pixels; a small one leaves aliases, as thinning out does."""
    noisy: float
    """Share of degraded images with noise, of up to 12.5 DN of 255."""
    packed: float
    """Share of degraded images of 8 bits that are JPEGs."""
    quality: tuple[float, float]
    """Quality of these JPEGs, as libjpeg counts it."""


def chance(share: float, count: int, device: torch.device) -> Tensor:
    """True for a share of `count` images, drawn at random."""
    return torch.rand(count, device=device) < share


def uniform(low: float, high: float, count: int, device: torch.device) -> Tensor:
    """Numbers between two bounds, shape (count,)."""
    return torch.rand(count, device=device) * (high - low) + low


def blurred(
    hr: Tensor, mix: Mix, degraded: Tensor, scale: int, side: int, reach: int = REACH
) -> tuple[Tensor, Tensor]:
    """Blur and sampling, a little different along both axes.

    Args:
        hr: Shape (B, C, (side + 2 reach) * scale, the same).
        mix: How often, and how strongly.
        degraded: Shape (B,): False where bicubic reduction is all.
        scale: hr pixels per lr pixel.
        side: lr pixels.
        reach: lr pixels of hr beyond the ends of lr.

    Returns:
        lr (B, C, side, side), and its responses at 1/4 and 1/2 cycle per lr pixel (B, 2), means of both axes.
    """
    count, device = len(hr), hr.device
    drawn = uniform(0, 1, count, device)
    soft = degraded & (drawn < mix.blurred)
    kind = torch.where(
        soft & (drawn < mix.gaussian),
        NONE,
        torch.where(soft & (drawn < mix.gaussian + mix.box), BOX, BICUBIC),
    )
    alone = uniform(*mix.sigma_alone, count, device)
    after = uniform(0, mix.sigma, count, device) * torch.where(kind == BOX, 0.8, 1.0)
    sigma = torch.where(soft, torch.where(kind == NONE, alone, after), 0.0)
    uneven = torch.exp(0.08 * torch.randn(count, 2, device=device))
    down, mtf_down = matrices(kind, sigma * uneven[:, 0], scale, side, reach)
    across, mtf_across = matrices(kind, sigma * uneven[:, 1], scale, side, reach)
    return down[:, None] @ hr @ across[:, None].transpose(2, 3), (mtf_down + mtf_across) / 2


def matrices(kind: Tensor, sigma: Tensor, scale: int, side: int, reach: int = REACH) -> tuple[Tensor, Tensor]:
    """Blur and sampling along one side.

    Args:
        kind: Shape (B,): BICUBIC, BOX or NONE; a Gaussian follows it.
        sigma: Shape (B,), of the Gaussian, in lr pixels.
        scale: hr pixels per lr pixel.
        side: lr pixels.
        reach: lr pixels of hr beyond the ends of lr.

    Returns:
        Matrices (B, side, (side + 2 reach) * scale), and responses at 1/4 and 1/2 cycle per lr pixel (B, 2).
    """
    half = reach * scale * TAPS
    kernel = _kernels(kind, sigma, half, TAPS * scale)
    columns = torch.arange((side + 2 * reach) * scale, device=sigma.device, dtype=torch.float32)
    rows = torch.arange(side, device=sigma.device, dtype=torch.float32)
    at = columns - ((rows[:, None] + reach) * scale + (scale - 1) / 2)  # hr pixels from an lr pixel's centre
    place = (at * TAPS + half).clamp(0, 2 * half)
    first = place.floor().long()
    share = place - first
    weights = kernel[:, first] * (1 - share) + kernel[:, (first + 1).clamp_max(2 * half)] * share
    weights = torch.where((at * TAPS).abs() <= half, weights, 0.0)
    weights = weights / weights.sum(2, keepdim=True)
    middle, x = weights[:, side // 2], at[side // 2] / scale
    waves = [torch.exp(-2j * math.pi * f * x) for f in (0.25, 0.5)]
    return weights, torch.stack([(middle * wave).sum(1).abs() for wave in waves], 1)


def _kernels(kind: Tensor, sigma: Tensor, half: int, taps: int) -> Tensor:
    """Kernels of sum 1 and their Gaussians, convolved: (B, 2 half + 1), with `taps` of them per lr pixel."""
    t = torch.arange(-half, half + 1, device=sigma.device) / taps  # lr pixels
    base = torch.stack([_keys(t), (t.abs() <= 0.5).float(), (t.abs() < 0.5 / taps).float()])[kind]
    gauss = torch.exp(-0.5 * (t / sigma.clamp_min(1e-3)[:, None]) ** 2)
    n = 2 * len(t)
    both = torch.fft.rfft(base / base.sum(1, keepdim=True), n) * torch.fft.rfft(
        gauss / gauss.sum(1, keepdim=True), n
    )
    kernels: Tensor = torch.fft.irfft(both, n)[:, half : half + len(t)]
    return kernels


def _keys(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -0.5: `geosegsr.models.kernels.keys`, on a device."""
    x = x.abs()
    near, far = 1.5 * x**3 - 2.5 * x**2 + 1, -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return torch.where(x <= 1, near, torch.where(x <= 2, far, 0.0))


def recorded(
    lr: Tensor, mix: Mix, degraded: Tensor, deep: Tensor, grey: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Noise, rounding and compression; noise is white or soft, constant or growing with the signal.

    Args:
        lr: Shape (B, 3, side, side), 0 to 1.
        mix: How often, and how strongly.
        degraded: Shape (B,): False where there is neither noise nor compression.
        deep: Shape (B,): more than 8 bits; never compressed, and mostly not rounded.
        grey: Shape (B,): single bands.

    Returns:
        lr; the standard deviation of its noise (B,); the scale of its quantisation tables in percent, or 0 (B,).
    """
    count, device = len(lr), lr.device
    noisy = degraded & chance(mix.noisy, count, device)
    noise = torch.where(noisy, uniform(0, 1, count, device) ** 1.5 * 12.5 / 255, 0.0)
    soft, shot = (chance(share, count, device) for share in (0.25, 0.4))
    lr = lr + noise_of(lr, noise, grey, soft, shot)
    packed = degraded & chance(mix.packed, count, device) & ~deep
    quality = uniform(*mix.quality, count, device).round()
    scales = torch.where(quality < 50, 5000 / quality, 200 - 2 * quality)
    subsampled, shifted = chance(0.5, count, device), bool(torch.rand(()) < 0.5)
    compressed = jpeg(lr, scales, subsampled, grey, shifted=shifted)
    rounded = torch.where(
        wide(~deep | chance(0.3, count, device)), (lr * 255).round().clamp(0, 255) / 255, lr
    )
    return torch.where(wide(packed), compressed, rounded), noise, torch.where(packed, scales, 0.0)


def noise_of(lr: Tensor, noise: Tensor, grey: Tensor, soft: Tensor, shot: Tensor) -> Tensor:
    """Noise to add.

    Args:
        lr: Shape (B, C, h, w), 0 to 1.
        noise: Shape (B,), its standard deviation.
        grey: Shape (B,): alike in all bands.
        soft: Shape (B,): correlated between neighbours, or white.
        shot: Shape (B,): growing with the root of the signal, or of one strength.
    """
    z = torch.randn_like(lr)
    z = torch.where(wide(grey), z[:, :1], z)
    smooth = F.avg_pool2d(F.pad(z, (1, 1, 1, 1), mode="circular"), 3, 1)
    z = torch.where(wide(soft), (z + 2 * smooth) / math.sqrt(1 + 4 / 9 + 4 / 9), z)
    mean = lr.mean((1, 2, 3), keepdim=True).clamp_min(0.02)
    strength = torch.where(wide(shot), (lr.clamp_min(0) / mean).sqrt().clamp_max(3), 1.0)
    return wide(noise) * strength * z


def jpeg(lr: Tensor, scales: Tensor, subsampled: Tensor, grey: Tensor, *, shifted: bool = False) -> Tensor:
    """Images compressed and decoded again.

    Args:
        lr: Shape (B, 3, h, w), 0 to 1.
        scales: Shape (B,), of the quantisation tables, in percent.
        subsampled: Shape (B,): chroma at half the resolution.
        grey: Shape (B,): without chroma.
        shifted: Whether images begin in the middle of a unit of 16 x 16 pixels.
    """
    h, w = lr.shape[2:]
    before = 8 if shifted else 0
    x = F.pad(lr, (before, -(w + before) % 16, before, -(h + before) % 16), mode="replicate")
    dn = (x.clamp(0, 1) * 255).round()
    ycc = torch.einsum("ij,njhw->nihw", dn.new_tensor(YCC), dn)
    luma = _quantised(ycc[:, :1] - 128, LUMINANCE, scales) + 128
    full = _quantised(ycc[:, 1:].contiguous(), CHROMINANCE, scales)
    small = _quantised(F.avg_pool2d(ycc[:, 1:], 2), CHROMINANCE, scales)
    chroma = torch.where(wide(subsampled), F.interpolate(small, scale_factor=2, mode="bilinear"), full)
    chroma = torch.where(wide(grey), 0.0, chroma)
    rgb = torch.einsum("ij,njhw->nihw", torch.linalg.inv(dn.new_tensor(YCC)), torch.cat([luma, chroma], 1))
    return (rgb.round().clamp(0, 255) / 255)[..., before : before + h, before : before + w]


def _quantised(planes: Tensor, table: tuple[int, ...], scales: Tensor) -> Tensor:
    """Through the quantised DCT and back; planes (B, c, h, w) about 0, sides multiples of 8."""
    n, c, h, w = planes.shape
    dct = torch.from_numpy(dct_matrix()).to(planes)
    blocks = planes.view(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    steps = torch.tensor(table, device=planes.device).view(8, 8) * scales[:, None, None] + 50
    steps = (steps / 100).floor().clamp(1, 255)[:, None, None, None]
    back = dct.T @ ((dct @ blocks @ dct.T / steps).round() * steps) @ dct
    return back.transpose(3, 4).reshape(n, c, h, w)


def wide(values: Tensor) -> Tensor:
    """One value an image (B,) beside its pixels, (B, 1, 1, 1)."""
    return values[:, None, None, None]
