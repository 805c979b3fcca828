"""Whether a result, seen by the sensor again, gives its input: level, contrast, detail and place of each band."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.pair import Floats, Mask, Part
from geosegsr.imagery.registration import phase_shift
from geosegsr.sensor.consistency import Sampling, degraded, footprint

COARSE = 8
"""Input pixels along a side of a cell over which a local level is taken: no detail of a model reaches so far."""
_MOST_SHIFTS = 25
"""Parts whose shift is measured; the median of so many is exact enough."""
_LEAST_SPREAD = 1e-4
"""Variance of the cells of an input whose contrast can be told."""
_LEAST_CONTRAST = 0.02
"""Standard deviation, as a share of the span, of a part whose place can be told."""


@dataclass(frozen=True)
class Seen:
    """A result as the sensor would see it, beside the input; all of shape (bands, h, w) on the input's grid."""

    result: Floats
    bicubic: Floats
    """The same of bicubic interpolation."""
    known: Mask
    """Pixels of the core all of whose footprint is valid, shape (h, w)."""


def see(part: Part, samplings: Sequence[Sampling]) -> Seen:
    """Reduce a part of the result, and bicubic interpolation, as the sensor does: in one step, or in several."""
    known = part.lr_valid
    for sampling in samplings:
        known = footprint(known, sampling)
    core = np.zeros_like(known)
    core[part.inner.slices] = True
    return Seen(
        np.stack([_seen(band, samplings) for band in part.hr]),
        np.stack([_seen(band, samplings) for band in part.bicubic]),
        known & core,
    )


def _seen(band: Floats, samplings: Sequence[Sampling]) -> Floats:
    for sampling in samplings:
        band = degraded(band, sampling)
    return band


@dataclass
class BandSums:
    """Sums over input pixels, and over cells, of one band; values are shares of the span."""

    count: int = 0
    total: float = 0.0
    """Of the differences, result less input."""
    squares: float = 0.0
    bicubic_squares: float = 0.0
    """Of the same differences of bicubic interpolation."""
    lr: float = 0.0
    lr_squares: float = 0.0
    cells: list[NDArray[np.float64]] = field(default_factory=list)
    """Means of input and difference over cells, shape (2, cells) for each part."""

    def add(self, lr: Floats, seen: Floats, bicubic: Floats, known: Mask) -> None:
        """One part of the band; arrays of shape (h, w)."""
        mine = lr[known].astype(np.float64)
        off, simple = seen[known] - mine, bicubic[known] - mine
        self.count += off.size
        self.total += float(off.sum())
        self.squares += float(off @ off)
        self.bicubic_squares += float(simple @ simple)
        self.lr += float(mine.sum())
        self.lr_squares += float(mine @ mine)
        self.cells.append(cell_means(np.stack([lr, seen - lr]), known))

    @property
    def level(self) -> float:
        """Mean difference."""
        return self.total / max(self.count, 1)

    @property
    def rms(self) -> float:
        """RMS difference, the level left out."""
        return math.sqrt(max(self.squares / max(self.count, 1) - self.level**2, 0.0))

    @property
    def bicubic_rms(self) -> float:
        """RMS difference of bicubic interpolation."""
        return math.sqrt(self.bicubic_squares / max(self.count, 1))

    @property
    def variance(self) -> float:
        """Of the input."""
        count = max(self.count, 1)
        return max(self.lr_squares / count - (self.lr / count) ** 2, 0.0)

    @property
    def _cells(self) -> NDArray[np.float64]:
        return np.concatenate([np.zeros((2, 0)), *self.cells], axis=1)

    def local(self, noise: float = 0.0) -> float:
        """Deviation of the level of cells from that of the whole, less what noise of the input explains."""
        off = self._cells[1]
        return math.sqrt(max(float(off.var()) - (noise / COARSE) ** 2, 0.0)) if off.size else 0.0

    @property
    def contrast(self) -> float:
        """Slope of the result over the input, from cell to cell, less 1; 0 where the input is even."""
        lr, off = self._cells
        spread = float(lr.var()) if lr.size > 1 else 0.0
        return (
            float(np.mean((lr - lr.mean()) * (off - off.mean()))) / spread if spread > _LEAST_SPREAD else 0.0
        )


def cell_means(planes: NDArray[np.floating[Any]], known: Mask) -> NDArray[np.float64]:
    """Means over whole cells, all of whose pixels are known; shape (planes, h, w) -> (planes, cells)."""
    rows, cols = np.flatnonzero(known.any(1)), np.flatnonzero(known.any(0))
    if not rows.size:
        return np.zeros((len(planes), 0))
    inside = (slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1))
    planes, known = planes[:, *inside].astype(np.float64), known[inside]
    height, width = (length // COARSE * COARSE for length in known.shape)
    blocks = (height // COARSE, COARSE, width // COARSE, COARSE)
    whole = known[:height, :width].reshape(blocks).all((1, 3))
    means: NDArray[np.float64] = planes[:, :height, :width].reshape(-1, *blocks).mean((2, 4))[:, whole]
    return means


@dataclass
class Agreement:
    """Of all parts."""

    bands: list[BandSums]
    shifts: list[tuple[float, float]] = field(default_factory=list)

    @classmethod
    def of(cls, count: int) -> Agreement:
        """Nothing measured yet, for so many bands."""
        return cls([BandSums() for _ in range(count)])

    def add(self, part: Part, seen: Seen) -> None:
        """One part, and the result there as the sensor would see it."""
        if not seen.known.any():
            return
        for sums, lr, result, bicubic in zip(self.bands, part.lr, seen.result, seen.bicubic, strict=True):
            sums.add(lr, result, bicubic, seen.known)
        whole = bool(part.lr_valid[part.inner.slices].all())
        if whole and len(self.shifts) < _MOST_SHIFTS and min(part.inner.height, part.inner.width) >= 32:
            one, other = (
                plane[(slice(None), *part.inner.slices)].mean(0) for plane in (part.lr, seen.result)
            )
            if min(one.std(), other.std()) > _LEAST_CONTRAST:
                self.shifts.append(phase_shift(one, other))

    @property
    def shift(self) -> tuple[float, float] | None:
        """By how many input pixels the result lies off its input, down and to the right; None where nothing shows it."""
        if not self.shifts:
            return None
        rows, cols = np.median(np.asarray(self.shifts), axis=0)
        return -float(rows), -float(cols)
