"""Scenes whose coarse bands have a known truth on the grid of sharper ones."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from geosegsr.sensor.consistency import degraded
from geosegsr.sharpening.blur import sampling_of_mtf

NAMES = ("B11", "B12")


@dataclass(frozen=True)
class GuidedScene:
    """Fields, roads and roofs: what the guide sees explains the coarse bands, though not by a straight line alone."""

    guide: NDArray[np.float64]
    """Shape (3, ratio * h, ratio * w), DN."""
    truth: NDArray[np.float64]
    """The coarse bands on the guide's grid, shape (2, ratio * h, ratio * w)."""
    coarse: NDArray[np.float64]
    """What a sensor with the ratio's pixels sees of the truth, shape (2, h, w)."""
    ratio: int
    mtf: float

    @classmethod
    def make(
        cls, side: int = 96, ratio: int = 2, mtf: float = 0.3, seed: int = 0, half: bool = False
    ) -> "GuidedScene":
        """A square scene of `side` coarse pixels; `half` a fine pixel off, if that is asked for."""
        rng = np.random.default_rng(seed)
        fine = side * ratio
        fields = [gaussian_filter(rng.standard_normal((fine, fine)), s, mode="wrap") for s in (6, 3, 1.2)]
        cover = [np.tanh(8 * f / f.std()) for f in fields]
        texture = gaussian_filter(rng.standard_normal((fine, fine)), 0.7)
        guide = np.stack([
            1500 + 500 * cover[0] + 120 * cover[2] + 60 * texture,
            1200 + 300 * cover[0] - 250 * cover[1] + 40 * texture,
            2500 - 700 * cover[1] + 200 * cover[2],
        ])  # fmt: skip
        mixed = 0.6 * guide[0] - 0.3 * guide[1] + 0.5 * guide[2]
        truth = np.stack([mixed, 800 + guide[0] * guide[1] / 2000])
        sampling = sampling_of_mtf(ratio, mtf, half)
        coarse = np.stack([degraded(band, sampling) for band in truth])
        return cls(guide, truth, coarse, ratio, mtf)

    def write(self, folder: Path, nodata: float | None = None) -> tuple[Path, Path]:
        """As two files of uint16: the coarse bands, and the guide."""
        paths = folder / "coarse.tif", folder / "guide.tif"
        for path, bands, pixel, names in (
            (paths[0], self.coarse, 10.0 * self.ratio, NAMES),
            (paths[1], self.guide, 10.0, ("B04", "B03", "B08")),
        ):
            write(path, np.rint(bands).astype(np.uint16), pixel, names, nodata)
        return paths


def write(
    path: Path,
    bands: NDArray[np.uint16],
    pixel: float,
    names: tuple[str, ...] = (),
    nodata: float | None = None,
    corner: tuple[float, float] = (600000.0, 5900040.0),
) -> Path:
    """A raster of square pixels with its upper left corner at (x, y)."""
    transform = Affine(pixel, 0, corner[0], 0, -pixel, corner[1])
    with rasterio.open(
        path, "w", driver="GTiff", count=len(bands), height=bands.shape[1], width=bands.shape[2],
        dtype=bands.dtype, crs="EPSG:32633", transform=transform, nodata=nodata,
    ) as out:  # fmt: skip
        out.write(bands)
        for number, name in enumerate(names, 1):
            out.set_band_description(number, name)
    return path


def rmse(found: NDArray[np.generic], truth: NDArray[np.float64], edge: int = 8) -> NDArray[np.float64]:
    """Of each band, without the edge."""
    off = (found.astype(float) - truth)[:, edge:-edge, edge:-edge]
    error: NDArray[np.float64] = np.sqrt((off**2).mean((1, 2)))
    return error
