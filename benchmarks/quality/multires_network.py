"""Whether a small network on top of the regression sharpens better than the regression alone.

    python benchmarks/quality/multires_network.py 10m.tif 20m.tif [--minutes 10] [--width 32] [--layers 4]

The protocol is that of multires.py: the lower third is scored, and nothing is learnt from it. The network sees the
result of the regression, the coarse bands enlarged without a guide, and the guide; it learns what the regression misses,
on the scene itself, where the regression was fitted too. Every fifth column is left out of the training and decides
which weights are kept. What it adds is projected, so that the result reduced again is the input, as for the regression.

Printed for each band: PSNR in dB and RMSE in DN of the regression, and of both together, with the fit and the training at
the level that is scored ("guided") and one level below ("from below", as `upscale` fits a scene).
"""

from __future__ import annotations

import argparse
import copy
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import multires
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from geosegsr.sensor.consistency import Sampling, degraded, least_image, project
from geosegsr.sharpening.blur import Sample, sampling_of_mtf
from geosegsr.sharpening.fit import Fit, fit
from geosegsr.sharpening.sharpen import sharpen

Floats = NDArray[np.floating[Any]]
_PATCH, _BATCH = 40, 16
_STRIPE = 5
"""One column of patches of so many validates."""
_CHECK_EVERY = 100


@dataclass(frozen=True)
class Case:
    """Coarse bands to restore, and what the regression makes of them."""

    low: Floats
    """DN, shape (bands, h, w)."""
    guide: Floats
    """DN, shape (guide bands, ratio * h, ratio * w)."""
    base: Floats
    """The coarse bands without a guide, shape (bands, ratio * h, ratio * w)."""
    regression: Floats
    """By the guide; same shape."""

    @classmethod
    def of(cls, low: Floats, guide: Floats, fitted: Fit) -> Case:
        """Run the regression."""
        known = np.ones(low.shape, bool), np.ones(guide.shape, bool)
        base = np.stack([least_image(band, fitted.sampling) for band in low])
        sharp = sharpen(fitted, (low, known[0]), (guide, known[1]), (0, 0), np.dtype(np.float64))
        return cls(low, guide, base, sharp)


class Network(nn.Module):
    """Convolutions of 3 x 3 from planes of a scene to what the regression misses, in units of its own error."""

    def __init__(self, planes: int, bands: int, width: int, layers: int) -> None:
        super().__init__()
        sides = [planes, *[width] * (layers - 1)]
        body = [
            part
            for inner, outer in pairwise(sides)
            for part in (nn.Conv2d(inner, outer, 3, padding=1, padding_mode="replicate"), nn.GELU())
        ]
        last = nn.Conv2d(sides[-1], bands, 3, padding=1, padding_mode="replicate")
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        self.layers = nn.Sequential(*body, last)

    def forward(self, planes: Tensor) -> Tensor:
        """(n, planes, h, w) to (n, bands, h, w)."""
        out: Tensor = self.layers(planes)
        return out


def planes_of(case: Case, fitted: Fit) -> Tensor:
    """What the network sees: bands at their usual level and contrast, and their detail; shape (planes, h, w)."""
    scaling = fitted.scaling

    def usual(bands: Floats, mean: Any, deviation: Any) -> Floats:
        return (bands - np.array(mean)[:, None, None]) / np.array(deviation)[:, None, None]

    deviation = np.array(scaling.coarse_deviation)[:, None, None]
    planes = np.concatenate(
        [
            usual(case.guide, scaling.guide_mean, scaling.guide_deviation),
            usual(case.base, scaling.coarse_mean, scaling.coarse_deviation),
            4 * (case.regression - case.base) / deviation,
        ]
    )
    return torch.from_numpy(planes.astype(np.float32))


def trained(
    case: Case, truth: Floats, fitted: Fit, minutes: float, width: int, layers: int
) -> tuple[Network, Tensor]:
    """A network for the scene, and the size of what it puts out, in DN, shape (bands, 1, 1)."""
    torch.manual_seed(0)
    planes = planes_of(case, fitted)
    missed = torch.from_numpy((truth - case.regression).astype(np.float32))
    size = missed.square().mean((1, 2), keepdim=True).sqrt()
    target = missed / size
    network = Network(len(planes), len(target), width, layers)
    height, cols = planes.shape[1:]
    validates = (torch.arange(cols) // _PATCH) % _STRIPE == _STRIPE - 1
    optimiser = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-3)
    best, best_error, step, began = copy.deepcopy(network.state_dict()), 1.0, 0, time.process_time()
    starts = [col for col in range(cols - _PATCH + 1) if not validates[col : col + _PATCH].any()]
    while (spent := (time.process_time() - began) / 60) < minutes:
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * 0.5 * (1 + np.cos(np.pi * min(spent / minutes, 1)))
        x, y = _batch(planes, target, starts, height)
        optimiser.zero_grad()
        (network(x) - y).square().mean().backward()
        optimiser.step()
        step += 1
        if step % _CHECK_EVERY == 0:
            with torch.no_grad():
                off = (network(planes[None])[0] - target)[:, :, validates]
            error = float(off.square().mean() / target[:, :, validates].square().mean())
            if error < best_error:
                best, best_error = copy.deepcopy(network.state_dict()), error
    print(
        f"  {step} steps; squared error that is left where it validates: {best_error:.3f} of the regression's"
    )
    network.load_state_dict(best)
    return network, size


def _batch(planes: Tensor, target: Tensor, starts: list[int], height: int) -> tuple[Tensor, Tensor]:
    """Patches at random places, flipped and turned together."""
    side = min(_PATCH, height)
    xs, ys = [], []
    for _ in range(_BATCH):
        row = int(torch.randint(0, height - side + 1, ()))
        col = starts[int(torch.randint(0, len(starts), ()))]
        part = (slice(None), slice(row, row + side), slice(col, col + side))
        x, y = planes[part], target[part]
        turns, flip = int(torch.randint(0, 4, ())), bool(torch.randint(0, 2, ()))
        x, y = torch.rot90(x, turns, (1, 2)), torch.rot90(y, turns, (1, 2))
        xs.append(x.flip(2) if flip else x)
        ys.append(y.flip(2) if flip else y)
    return torch.stack(xs), torch.stack(ys)


def restored(network: Network, size: Tensor, case: Case, fitted: Fit) -> Floats:
    """The regression and what the network adds, projected; shape (bands, h, w)."""
    with torch.no_grad():
        added = network(planes_of(case, fitted)[None])[0] * size
    image = case.regression + added.numpy().astype(np.float64)
    known = np.ones(case.low.shape[1:], bool)
    for band, low in zip(image, case.low, strict=True):
        project(band, low, known, fitted.sampling, (0, 0), 0.0)
    return image


def reduced(bands: Floats, sampling: Sampling) -> Floats:
    """Bands of a coarser raster; shape (bands, h, w)."""
    return np.stack([degraded(band, sampling) for band in bands])


def measure(level: multires.Level, mtf: float, minutes: float, width: int, layers: int) -> None:
    """Print the tables of one level."""
    ratio = level.ratio
    sampling = sampling_of_mtf(ratio, mtf, level.half)
    rows, cols = (length // ratio**2 * ratio**2 for length in level.usable.shape)
    truth, guide = level.coarse[:, :rows, :cols], level.guide[:, : rows * ratio, : cols * ratio]
    low, low_guide = reduced(truth, sampling), reduced(guide, sampling)
    upper = rows * 2 // 3 // ratio * ratio
    usable = level.usable[:rows, :cols]
    above = Sample(
        truth[:, :upper].astype(np.float32), guide[:, : upper * ratio].astype(np.float32), usable[:upper]
    )
    below = Sample(low.astype(np.float32), low_guide.astype(np.float32), np.ones(low.shape[1:], bool))
    for name, sample in (("guided", above), ("from below", below)):
        print(f"\n{name}")
        fitted = fit([sample], ratio, len(guide), len(low), mtf=mtf, half=level.half)
        seen = Case.of(reduced(sample.coarse, sampling), reduced(sample.guide, sampling), fitted)
        network, size = trained(seen, sample.coarse, fitted, minutes, width, layers)
        case = Case.of(low, low_guide, fitted)
        both = restored(network, size, case, fitted)
        tables = [multires.scores(found, level) for found in (case.regression, both)]
        print("\n| band | regression | and network |\n|---|---|---|")
        for number, band in enumerate((*level.names, "mean")):
            cells = [
                "{:.2f} dB, {:.1f} DN".format(*(t[number] if number < len(t) else t.mean(0))) for t in tables
            ]
            print(f"| {band} | {' | '.join(cells)} |")


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rasters", nargs=2, help="guide and coarse raster of one ground")
    parser.add_argument("--mtf", type=float, default=0.3, help="of the protocol's blur (0.3)")
    parser.add_argument("--side", type=int, default=600, help="most coarse pixels along a side (600)")
    parser.add_argument("--minutes", type=float, default=10, help="of CPU time for each training (10)")
    parser.add_argument("--width", type=int, default=32, help="channels (32)")
    parser.add_argument("--layers", type=int, default=4, help="convolutions (4)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for level in multires.levels(options.rasters, options.side):
        measure(level, options.mtf, options.minutes, options.width, options.layers)


if __name__ == "__main__":
    main()
