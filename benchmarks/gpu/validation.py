"""PSNR on Y of a network under known degradations, beside that of bicubic enlargement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image
from torch import Tensor

from benchmarks.gpu.degradations import BICUBIC, REACH, jpeg, matrices
from geosegsr.models.segsr.enlarge import bicubic
from geosegsr.models.segsr.network import SeGSR
from geosegsr.sensor.jpeg import YCC


@dataclass(frozen=True)
class Condition:
    """What is done to hr after antialiased bicubic reduction."""

    sigma: float = 0
    """Standard deviation of a Gaussian, in lr pixels."""
    noise: float = 0
    """Standard deviation, in DN of 255."""
    quality: float = 0
    """Of a JPEG; 0: none."""


CONDITIONS = {
    "clean": Condition(),
    "blur0.6": Condition(sigma=0.6),
    "blur1.2": Condition(sigma=1.2),
    "noise8": Condition(noise=8),
    "q75": Condition(quality=75),
    "mix": Condition(sigma=0.8, noise=3, quality=75),
}
ALL_CONDITIONS = ("naip",)
"""Sources that are measured under all conditions; others are under "clean" and "mix"."""
LUMA = [219 / 255 * weight for weight in YCC[0]]
"""Weights of red, green and blue in the Y of BT.601, 16 to 235."""


def read_images(folder: Path) -> list[tuple[str, Tensor]]:
    """Source and pixels of each validation image, (3, height, width) in uint8."""
    found = []
    for file in sorted(folder.glob("*.avif")):
        pixels = np.array(Image.open(file).convert("RGB"))
        found.append((file.name.split("__")[0], torch.from_numpy(pixels).permute(2, 0, 1)))
    return found


@torch.inference_mode()
def validate(
    network: SeGSR, images: list[tuple[str, Tensor]], device: torch.device
) -> dict[str, tuple[float, float]]:
    """PSNR on Y in dB of the network and of bicubic enlargement, by "source/condition", means over images.

    The network is told of the degradation as it was; one that is told nothing is measured without any. A border of the
    scale, at least 4 pixels, is left out.
    """
    scale, told = network.config.scale, network.sensor is not None
    generator = torch.Generator(device).manual_seed(1)
    found: dict[str, list[tuple[float, float]]] = {}
    for source, pixels in images:
        height, width = (side // scale * scale for side in pixels.shape[1:])
        hr = pixels[None, :, :height, :width].float().to(device) / 255
        for name, condition in CONDITIONS.items():
            if name == "clean" or (told and (source in ALL_CONDITIONS or name == "mix")):
                lr, descriptor = degraded(hr, condition, scale, generator)
                with torch.autocast(device.type, torch.bfloat16):
                    sr = network(lr, None, descriptor)
                both = (
                    psnr_y(sr, hr, max(scale, 4)),
                    psnr_y(bicubic(lr, scale, -0.5), hr, max(scale, 4)),
                )
                found.setdefault(f"{source}/{name}", []).append(both)
    return {
        name: (round(float(own), 3), round(float(simple), 3))
        for name, values in found.items()
        for own, simple in [np.mean(values, 0)]
    }


def degraded(
    hr: Tensor, condition: Condition, scale: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lr (1, 3, h, w), rounded to 8 bits, and its descriptor (1, 4)."""
    margin = REACH * scale
    x = F.pad(hr, (margin,) * 4, mode="reflect")
    kind, sigma = torch.tensor([BICUBIC], device=hr.device), hr.new_tensor([condition.sigma])
    down, mtf = matrices(kind, sigma, scale, hr.shape[2] // scale)
    across, _ = matrices(kind, sigma, scale, hr.shape[3] // scale)
    lr = down[:, None] @ x @ across[:, None].transpose(2, 3)
    noise = condition.noise / 255
    if noise:
        lr = lr + noise * torch.randn(lr.shape, device=lr.device, generator=generator)
    lr = (lr * 255).round().clamp(0, 255) / 255
    quantisation = 200 - 2 * condition.quality if condition.quality else 0.0
    if quantisation:
        one = torch.ones(1, dtype=torch.bool, device=lr.device)
        lr = jpeg(lr, lr.new_tensor([quantisation]), subsampled=one, grey=~one)
    return lr, torch.cat([mtf, lr.new_tensor([[noise, quantisation]])], 1)


def psnr_y(sr: Tensor, hr: Tensor, border: int) -> float:
    """PSNR on Y in dB of sr, rounded to 8 bits; shape (1, 3, h, w)."""
    off = (sr.float() * 255).round().clamp(0, 255) / 255 - hr
    luma = torch.einsum("c,nchw->nhw", off.new_tensor(LUMA), off)[:, border:-border, border:-border]
    return -10 * math.log10(float(luma.square().mean()))
