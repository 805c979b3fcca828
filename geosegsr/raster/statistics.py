"""Statistics of a band, computed block by block as the blocks are made."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.raster.strips import strips


@dataclass(frozen=True)
class BandStatistics:
    """Of valid pixels, in DN."""

    count: int
    """Number of valid pixels; if 0, the other fields have no meaning."""
    minimum: float = 0.0
    maximum: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    """Sum of squared distances from the mean."""

    @classmethod
    def of(cls, band: NDArray[Any], valid: NDArray[np.bool_]) -> BandStatistics:
        """Of one block; both arrays of shape (h, w)."""
        pixels = band if valid.all() else band[valid]
        if not pixels.size:
            return cls(0)
        mean, squares = (_exact if band.dtype.kind in "iu" and band.dtype.itemsize <= 2 else _rounded)(pixels)
        return cls(pixels.size, float(pixels.min()), float(pixels.max()), mean, squares)

    @classmethod
    def of_all(cls, parts: Iterable[BandStatistics]) -> BandStatistics:
        """Of several blocks together.

        Source:
            Chan, Golub, LeVeque, Updating formulae and a pairwise algorithm for computing sample
            variances, 1979, equations 2.1.
        """
        total = cls(0)
        for part in parts:
            if not total.count or not part.count:
                total = part if part.count else total
                continue
            count = total.count + part.count
            distance = part.mean - total.mean
            total = cls(
                count,
                min(total.minimum, part.minimum),
                max(total.maximum, part.maximum),
                total.mean + distance * part.count / count,
                total.squares + part.squares + distance**2 * total.count * part.count / count,
            )
        return total

    def tags(self, pixels: int) -> dict[str, str]:
        """As GDAL names them, of a band of that many pixels; none where nothing is valid."""
        if not self.count:
            return {}
        numbers = {
            "MAXIMUM": self.maximum,
            "MEAN": self.mean,
            "MINIMUM": self.minimum,
            "STDDEV": math.sqrt(self.squares / self.count),
        }
        tags = {f"STATISTICS_{name}": f"{value:.15g}" for name, value in numbers.items()}
        return {**tags, "STATISTICS_VALID_PERCENT": f"{100 * self.count / pixels:.4g}"}


def _exact(pixels: NDArray[Any]) -> tuple[float, float]:
    """Mean and sum of squared distances from it, of whole numbers of up to 16 bits: their sums are exact in float64."""
    total = squares = 0
    for (part,) in strips(pixels):
        wide = part.astype(np.float64).ravel()
        total += int(wide.sum())
        squares += int(wide @ wide)
    return total / pixels.size, (squares * pixels.size - total**2) / pixels.size


def _rounded(pixels: NDArray[Any]) -> tuple[float, float]:
    """As `_exact`, of any numbers; the last digits are rounded."""
    wide = pixels.astype(np.float64)
    mean = float(wide.mean())
    wide -= mean
    return mean, float(np.square(wide, out=wide).sum())
