"""Sentinel-2 at x2 where the truth is known: B8A (20 m) against B08 (10 m), and 20 m bands reduced to 40 m.

    python benchmarks/quality/native.py imagery/pairs/dsen2_t33uub [--model FILE ...] [--mtf 0.25 --mtf 0.4]

FOLDER has s2_10m.tif and s2_20m.tif of the same ground, with band names. B08 sees nearly the same light as B8A: one
affine match of levels makes them comparable. The 20 m bands are blurred by a Gaussian of the MTF at Nyquist and reduced
to 40 m. The sensor is estimated by the package. PSNR in dB, mean over bands; a peak is the range of a band, from
percentile 0.1 to 99.9.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import rasterio
import xarray as xr
from numpy.typing import NDArray

import geosegsr
from geosegsr.sensor.degradation import Degradation

Floats = NDArray[np.float64]
SCALE = 2
BORDER = 4  # pixels left out at each edge


def bands_of(file: Path) -> dict[str, Floats]:
    with rasterio.open(file) as scene:
        return dict(zip(scene.descriptions, scene.read().astype(np.float64), strict=True))


def enlarged(bands: Floats, model: str) -> Floats:
    """x2, each band alone; (C, H, W) in DN of uint16."""
    dn = bands.round().clip(0, 65535).astype(np.uint16)
    array = xr.DataArray(
        dn, dims=("band", "y", "x"), coords={"y": -np.arange(dn.shape[1]), "x": np.arange(dn.shape[2])}
    )
    return np.asarray(geosegsr.super_resolve(array, SCALE, model).values, np.float64)


def psnr(sr: Floats, hr: Floats) -> float:
    low, high = np.percentile(hr, (0.1, 99.9))
    off = (sr - hr)[BORDER:-BORDER, BORDER:-BORDER]
    return 10 * math.log10((high - low) ** 2 / float((off**2).mean()))


def matched(sr: Floats, hr: Floats) -> Floats:
    """Gain and offset that bring sr nearest to hr."""
    gain, offset = np.polyfit(sr.ravel(), hr.ravel(), 1)
    return gain * sr + offset


def table(title: str, models: list[str], measured: Callable[[str], float]) -> None:
    print(f"| {title} | {' | '.join(f'{measured(model):.2f}' for model in models)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", action="append", help="Default: bundled.")
    parser.add_argument("--mtf", type=float, action="append", help="At Nyquist. Default: 0.25 and 0.4.")
    args = parser.parse_args()
    models = ["bicubic", *(args.model or ["bundled"])]
    fine, coarse = bands_of(args.folder / "s2_10m.tif"), bands_of(args.folder / "s2_20m.tif")
    print(f"| | {' | '.join(Path(model).stem for model in models)} |\n|---|{'---|' * len(models)}")
    table(
        "B8A to B08", models,
        lambda model: psnr(matched(enlarged(coarse["B8A"][None], model)[0], fine["B08"]), fine["B08"]),
    )  # fmt: skip
    hr = np.stack(list(coarse.values()))
    for mtf in args.mtf or (0.25, 0.4):
        blur = Degradation(kernel="mtf", mtf=(mtf, mtf))
        lr = blur.sample(hr.astype(np.float32), SCALE, np.random.default_rng(0)).astype(np.float64)

        def mean_of_bands(model: str, lr: Floats = lr) -> float:
            sr = enlarged(lr, model)
            return float(np.mean([psnr(*pair) for pair in zip(sr, hr, strict=True)]))

        table(f"20 m from 40 m, MTF {mtf:g}", models, mean_of_bands)


if __name__ == "__main__":
    main()
