"""Chips: the squares of training imagery that a GPU holds in memory, and the regions that are cut from them."""

from __future__ import annotations

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
ZOOM = 1.34
"""Copies of chips are reduced by up to this, along each side: there are few images."""
DEEP = ("s2", "landsat", "wv3")
"""Sources with more than 8 bits."""
SHARES = {
    "naip": 0.24, "naip_rgbn": 0.14, "naip_ndakota_rgbn": 0.02, "oam": 0.06, "oam_banepa_nepal": 0.03, "neon": 0.07,
    "usgs": 0.05, "drone": 0.04, "drone_boruszyn_kap": 0.03, "drone_caliterra_tx": 0.03, "drone_lewis_oh": 0.03,
    "drone_warsaw_kap": 0.05, "aerial_pawleys_sc": 0.02, "wv3_vegas_spacenet": 0.02, "wv3": 0.01, "photo": 0.06,
    "s2": 0.08, "landsat": 0.04,
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
        self.sources = [file.stem for file in files]
        chips, owners = [], []
        for owner, file in enumerate(files):
            # Torch cannot index uint16 on a GPU, so the same bits are kept as int16.
            own = torch.from_numpy(np.load(file).view(np.int16)).to(device)
            versions = [own, *(zoomed(own) for _ in range(0 if file.stem == "s2" else copies))]
            chips += versions
            owners += [owner] * sum(map(len, versions))
        self.chips = torch.cat(chips)
        self.counts = torch.bincount(torch.tensor(owners)).tolist()
        owner_of = torch.tensor(owners, device=device)
        chances = [
            SHARES.get(name, 0.01) / count for name, count in zip(self.sources, self.counts, strict=True)
        ]
        self.weights = torch.tensor(chances, device=device)[owner_of]
        self.deep = torch.tensor([name in DEEP for name in self.sources], device=device)[owner_of]

    def regions(self, count: int, side: int) -> tuple[Tensor, Tensor]:
        """Regions (count, 3, side, side) in 0 to 1, and which of them have more than 8 bits (count,)."""
        drawn = torch.multinomial(self.weights, count, replacement=True)
        windows = self.chips.unfold(2, side, 1).unfold(3, side, 1)
        rows, columns = (
            torch.randint(0, CHIP - side + 1, (count,), device=self.chips.device) for _ in range(2)
        )
        return _unsigned(windows[drawn, :, rows, columns]) / LARGEST, self.deep[drawn]


def zoomed(chips: Tensor) -> Tensor:
    """Chips reduced by 1 to ZOOM along each side, and mirrored back to their size."""
    parts = []
    for part in chips.split(48):
        height, width = (round(CHIP / factor) for factor in (1 + (ZOOM - 1) * torch.rand(2)).tolist())
        x = F.interpolate(_unsigned(part), size=(height, width), mode="bicubic", antialias=True)
        x = F.pad(x.clamp(0, LARGEST), (0, CHIP - width, 0, CHIP - height), mode="reflect").round().int()
        parts.append(torch.where(x > LARGEST // 2, x - LARGEST - 1, x).to(torch.int16))
    return torch.cat(parts)


def varied(hr: Tensor) -> Tensor:
    """Regions (B, 3, side, side) turned and mirrored, all alike; single bands as grey, and bands in another order."""
    hr = torch.rot90(hr, int(torch.randint(4, ())), (2, 3))
    if torch.rand(()) < 0.5:
        hr = hr.flip(3)
    count, device = len(hr), hr.device
    grey, shuffled = (torch.rand(count, 1, 1, 1, device=device) < share for share in (0.08, 0.06))
    band = torch.randint(3, (count,), device=device)
    single = hr[torch.arange(count, device=device), band][:, None]  # (B, 1, side, side)
    return torch.where(grey, single, torch.where(shuffled, hr[:, [2, 0, 1]], hr))


def _unsigned(bits: Tensor) -> Tensor:
    """The uint16 numbers behind int16 ones, as float32."""
    return (bits.int() & LARGEST).float()
