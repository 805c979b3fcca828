"""What the spread of an ensemble says about the error of a model, on images whose truth is known.

    python benchmarks/quality/spread.py imagery/val/naip imagery/val/neon

Of every third image of each folder the upper left 256 x 256 pixels of three bands, reduced by antialiased bicubic, go through the
model in its eight orientations, without agreement with the input.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rasterio
from consistency import parse_arguments
from numpy.typing import NDArray
from rasterio.windows import Window
from scipy.stats import spearmanr

from geosegsr.evaluation.metrics import crop_border, psnr
from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.ensemble import Ensemble, mean_and_spread
from geosegsr.sensor.degradation import imresize_down

SIDE = 256
PARTS = {"least": 0, "fifth": 4, "most": 9}
"""Tenths of the pixels, by spread."""


def main() -> None:
    args = parse_arguments(__doc__)
    ensemble = Ensemble.of(resolve_upscaler(args.model, args.scale))
    for folder in args.folders:
        images = sorted(folder.glob("*.tif"))[::3]
        print(f"{folder.name}, {len(images)} images")
        report([measured(ensemble, read(path), args.scale) for path in images])


def read(path: Path) -> NDArray[np.float32]:
    with rasterio.open(path) as scene:
        return scene.read([1, 2, 3], window=Window(0, 0, SIDE, SIDE)).astype(np.float32) / 255


def measured(
    ensemble: Ensemble, hr: NDArray[np.float32], scale: int
) -> tuple[float, float, NDArray[np.float32], NDArray[np.float32]]:
    """PSNR of one result and of the mean, and the pixels' spread and error in DN, the scale cropped at the edges."""
    lr = np.round(imresize_down(hr, scale) * 255).astype(np.float32) / 255
    members = list(ensemble.members(lr[None]))
    mean, spread = mean_and_spread(members)
    arrays = (members[0][0], mean[0], spread[0], hr)
    one, mean, spread, truth = (crop_border(array, scale).clip(0, 1) for array in arrays)
    return psnr(one, truth), psnr(mean, truth), 255 * spread.ravel(), 255 * np.abs(mean - truth).ravel()


def report(rows: list[tuple[float, float, NDArray[np.float32], NDArray[np.float32]]]) -> None:
    ones, means, spreads, errors = zip(*rows, strict=True)
    print(f"PSNR of one, of the mean of eight: {np.mean(ones):.3f}, {np.mean(means):.3f} dB")
    spread, error = np.concatenate(spreads), np.concatenate(errors)
    print(f"rank correlation of spread and error: {spearmanr(spread, error).statistic:.2f}")
    tenths = np.array_split(np.argsort(spread, kind="stable"), 10)
    for name, tenth in PARTS.items():
        of = tenths[tenth]
        rms = np.sqrt(np.mean(error[of] ** 2))
        print(f"{name}: mean spread {spread[of].mean():.1f}, RMS error {rms:.1f} DN")
    print(f"error above twice the spread: {np.mean(error > 2 * spread):.0%}")


if __name__ == "__main__":
    main()
