"""Batches: regions of chips, what a sensor makes of them, and what a network is told of it."""

from __future__ import annotations

import argparse
from functools import lru_cache

import torch
from torch import Tensor

from benchmarks.gpu.chips import CHIP, Chips, varied
from benchmarks.gpu.degradations import BICUBIC, Mix, blurred, chance, matrices, recorded, wide

CLEAN_REACH = 2  # lr pixels, of the kernel of bicubic reduction


def batch(chips: Chips, args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lr (B, 3, patch, patch), hr, what the network is told of the sensor (B, 4), and which have more than 8 bits (B,).

    lr is made with some pixels more than a patch, so that patches begin anywhere in a JPEG's blocks. What is told is as
    uncertain as an estimate.
    """
    if args.clean == 1:
        return clean_batch(chips, args)
    mix = Mix(
        clean=args.clean, blurred=0.8, gaussian=0.34, box=0.08, sigma=1.32, sigma_alone=(0.05, 0.75),
        noisy=0.45, packed=0.42, quality=(38, 98),
    )  # fmt: skip
    scale, patch = args.scale, args.patch
    slack, reach = (8, 6) if scale < 8 else (4, 4)  # lr pixels; at x8 a chip has no room for more
    region = (patch + slack + 2 * reach) * scale
    if region > CHIP:
        raise SystemExit(
            f"Cannot train: a patch of {patch} lr pixels needs {region} hr pixels, and a chip has {CHIP}."
        )
    hr, deep, _ = chips.regions(args.batch, region)
    hr = varied(hr)
    degraded = ~chance(mix.clean, args.batch, hr.device)
    lr, mtf = blurred(hr, mix, degraded, scale, patch + slack, reach)
    grey = (hr[:, :1] == hr[:, 1:]).all(3).all(2).all(1)
    lr, noise, quantisation = recorded(lr, mix, degraded, deep, grey)
    row, column = torch.randint(slack, (2,)).tolist()
    lr = lr[..., row : row + patch, column : column + patch]
    row, column = (row + reach) * scale, (column + reach) * scale
    hr = hr[..., row : row + patch * scale, column : column + patch * scale]
    told = estimated(torch.cat([mtf, noise[:, None], quantisation[:, None]], 1), degraded)
    return lr, hr, told, deep


def clean_batch(chips: Chips, args: argparse.Namespace) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """As `batch`, for bicubic reduction alone, of which a network is told nothing; no step waits for the device."""
    scale, patch = args.scale, args.patch
    hr, deep, steps = chips.regions(args.batch, (patch + 2 * CLEAN_REACH) * scale)
    hr = varied(hr)
    down = clean_reduction(scale, patch, hr.device)
    lr = down @ hr @ down.T
    lr = torch.where(wide(deep), lr, lr.clamp(0, 1))
    lr = torch.where(wide(steps > 0), (lr / wide(steps)).round() * wide(steps), lr)
    edge = CLEAN_REACH * scale
    return lr, hr[..., edge:-edge, edge:-edge], hr.new_zeros(args.batch, 4), deep


@lru_cache(maxsize=1)
def clean_reduction(scale: int, patch: int, device: torch.device) -> Tensor:
    """The matrix of antialiased bicubic reduction, (patch, (patch + 2 CLEAN_REACH) * scale)."""
    kind = torch.full((1,), BICUBIC, device=device)
    down, _ = matrices(kind, torch.zeros(1, device=device), scale, patch, CLEAN_REACH)
    return down[0]


def estimated(truth: Tensor, degraded: Tensor) -> Tensor:
    """Descriptors (B, 4) with the errors of an estimate; clean images are known to have no noise."""
    errors = torch.randn_like(truth)
    mtf = truth[:, :2] + errors[:, :2] * truth.new_tensor([0.02, 0.03])
    noise = truth[:, 2] * torch.exp(0.12 * errors[:, 2])
    noise = noise + 0.25 / 255 * torch.randn_like(noise).abs() * degraded
    quantisation = truth[:, 3] * torch.exp(0.08 * errors[:, 3])
    return torch.cat([mtf, noise[:, None], quantisation[:, None]], 1)
