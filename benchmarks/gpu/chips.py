"""Chips: the squares of training imagery that a GPU holds in memory, and the regions that are cut from them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

CORE = 256
"""Pixels along a side that a chip has of its own."""
EDGE = 24
"""Pixels around them that it shares with its neighbours, or that are mirrored at the end of an image."""
CHIP = CORE + 2 * EDGE
LARGEST = 65535
"""The value of a chip's pixels that a network sees as 1; chips are uint16."""
STEPS = "steps/{}.npy"
"""File that says what one DN is in each chip of a source, where DN are coarse."""
ZOOM = 1.34
"""Copies of chips are reduced by up to this, along each side: there are few images."""
DEEP = ("s2", "s2_60m", "soft", "landsat", "wv3")
"""Sources with more than 8 bits."""
SOFT, SOFTENED, SOFT_EVERY = "soft", "naip_rgbn", 6
"""A source without detail, as bands are that were resampled from coarser pixels; the source whose chips it blurs, one of how many."""
SOFT_SIGMA = (2.8, 12.0)
"""Standard deviations of its Gaussians, in hr pixels."""
SHARES = {
    "naip": 0.18, "naip_rgbn": 0.09, "naip_ndakota_rgbn": 0.02, "oam": 0.05, "oam_banepa_nepal": 0.03, "neon": 0.06,
    "usgs": 0.05, "drone": 0.05, "drone_boruszyn_kap": 0.03, "drone_caliterra_tx": 0.03, "drone_lewis_oh": 0.03,
    "drone_warsaw_kap": 0.04, "aerial_pawleys_sc": 0.03, "wv3_vegas_spacenet": 0.02, "wv3": 0.01, "photo": 0.26,
    "s2": 0.10, "s2_60m": 0.08, "soft": 0.015, "landsat": 0.04, "aerial_usgs-pacific": 0.03,
    "aerial_usgs-dunes": 0.02, "aerial_noaa-doodler": 0.02,
}  # fmt: skip
"""How often a region comes from each source; 0.01 for others."""


class Chips:
    """All chips of a folder, on the device that trains."""

    def __init__(self, folder: Path, device: torch.device, copies: int) -> None:
        """Load them.

        Args:
            folder: SOURCE.npy each, uint16 of shape (chips, 3, CHIP, CHIP).
            device: Where to keep them.
            copies: Reduced copies of each chip. Those of Sentinel-2 have none: its ground is coarse enough.
        """
        files = sorted(folder.glob("*.npy"))
        if not files:
            raise SystemExit(
                f"Cannot train: '{folder}' holds no chips. Run python -m benchmarks.gpu.prepare first."
            )
        parts: list[tuple[str, Tensor]] = []
        for file in files:
            # Torch cannot index uint16 on a GPU, so the same bits are kept as int16.
            own = torch.from_numpy(np.load(file).view(np.int16)).to(device)
            reduced = range(0 if file.stem.startswith("s2") else copies)
            parts += [(file.stem, version) for version in (own, *(zoomed(own) for _ in reduced))]
            if file.stem == SOFTENED:
                parts.append((SOFT, softer(own[::SOFT_EVERY])))
        self.sources = list(dict.fromkeys(name for name, _ in parts))
        owners = [self.sources.index(name) for name, chips in parts for _ in range(len(chips))]
        self.chips = torch.cat([chips for _, chips in parts])
        self.counts = torch.bincount(torch.tensor(owners)).tolist()
        owner_of = torch.tensor(owners, device=device)
        chances = [
            SHARES.get(name, 0.01) / count for name, count in zip(self.sources, self.counts, strict=True)
        ]
        self.weights = torch.tensor(chances, device=device)[owner_of]
        self.deep = torch.tensor([name in DEEP for name in self.sources], device=device)[owner_of]
        self.steps = torch.where(self.deep, 0.0, 1 / 255)
        for owner, name in enumerate(self.sources):
            steps = folder / STEPS.format(name)
            if steps.exists():  # these sources have no reduced copies
                self.steps[owner_of == owner] = torch.from_numpy(np.load(steps)).to(device)

    def regions(self, count: int, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw regions.

        Returns:
            Pixels (count, 3, side, side) in 0 to 1; which have more than 8 bits (count,); what one DN is, or 0 where that is too
            fine to matter (count,).
        """
        drawn = torch.multinomial(self.weights, count, replacement=True)
        windows = self.chips.unfold(2, side, 1).unfold(3, side, 1)
        rows, columns = (
            torch.randint(0, CHIP - side + 1, (count,), device=self.chips.device) for _ in range(2)
        )
        return _unsigned(windows[drawn, :, rows, columns]) / LARGEST, self.deep[drawn], self.steps[drawn]


def zoomed(chips: Tensor) -> Tensor:
    """Chips reduced by 1 to ZOOM along each side, and mirrored back to their size."""
    parts = []
    for part in chips.split(48):
        height, width = (round(CHIP / factor) for factor in (1 + (ZOOM - 1) * torch.rand(2)).tolist())
        x = F.interpolate(_unsigned(part), size=(height, width), mode="bicubic", antialias=True)
        x = F.pad(x.clamp(0, LARGEST), (0, CHIP - width, 0, CHIP - height), mode="reflect")
        parts.append(_signed(x))
    return torch.cat(parts)


def softer(chips: Tensor) -> Tensor:
    """Chips through Gaussians, each of another width."""
    parts = []
    for chip in chips:
        sigma = float(torch.empty(()).uniform_(*SOFT_SIGMA))
        reach = math.ceil(3 * sigma)
        at = torch.arange(-reach, reach + 1, device=chip.device)
        kernel = torch.exp(-0.5 * (at / sigma) ** 2)
        kernel = kernel / kernel.sum()
        x = F.pad(_unsigned(chip)[:, None], (reach,) * 4, mode="reflect")  # (3, 1, h, w)
        x = F.conv2d(F.conv2d(x, kernel[None, None, None]), kernel[None, None, :, None])
        parts.append(_signed(x[:, 0]))
    return torch.stack(parts)


def varied(hr: Tensor) -> Tensor:
    """Regions (B, 3, side, side) turned and mirrored, all alike; single bands as grey, and bands in another order."""
    hr = torch.rot90(hr, int(torch.randint(4, ())), (2, 3))
    if torch.rand(()) < 0.5:
        hr = hr.flip(3)
    count, device = len(hr), hr.device
    grey, shuffled = (torch.rand(count, 1, 1, 1, device=device) < share for share in (0.08, 0.06))
    band = torch.randint(3, (count,), device=device)
    single = hr[torch.arange(count, device=device), band][:, None]  # (B, 1, side, side)
    return torch.where(grey, single, torch.where(shuffled, hr.roll(1, 1), hr))


def _signed(values: Tensor) -> Tensor:
    """Numbers from 0 to LARGEST as int16 with the bits of uint16."""
    whole = values.round().int()
    return torch.where(whole > LARGEST // 2, whole - LARGEST - 1, whole).to(torch.int16)


def _unsigned(bits: Tensor) -> Tensor:
    """The uint16 numbers behind int16 ones, as float32."""
    return (bits.int() & LARGEST).float()
