"""What a result made of ground on which the input shows next to nothing: noise must not become strokes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from geosegsr.appraisal.pair import Part

_CELL = 8
"""Input pixels along a side of a cell."""
_FLATTEST = 0.1
"""Share of the cells of a part that count: those with the least variance in the input."""
_LEAST_CELLS = 7
"""Such cells, as many as 64 x 64 pixels have: the median of fewer says where they lie, not what the result does."""

Array = NDArray[np.float64]


@dataclass
class FlatGround:
    """Numbers of the flattest cells of all parts; standard deviations are shares of the span."""

    cells: list[tuple[float, float, float, float, float]] = field(default_factory=list)
    """Deviation of the input, of the detail of the result and of bicubic; coherence of both."""

    def add(self, part: Part, shown: tuple[int, ...]) -> None:
        """The flattest cells of a part, over the mean of the bands that are shown."""
        bands, scale = list(shown), part.scale
        inner = part.inner
        height, width = (length // _CELL * _CELL for length in (inner.height, inner.width))
        if not height or not width:
            return
        lr = part.lr[bands].mean(0)
        planes = [part.hr[bands].mean(0), part.bicubic[bands].mean(0)]
        rough = _cells(_without_slope(lr, 2.0)[inner.slices], _CELL, np.std)
        whole = _cells(part.lr_valid[inner.slices].astype(np.float64), _CELL, np.min) > 0
        if not whole.any():
            return
        chosen = whole & (rough <= np.quantile(rough[whole], _FLATTEST))
        fine = inner.scaled(scale).slices
        numbers = [
            _cells(_without_slope(plane, scale)[fine], _CELL * scale, np.std)[chosen] for plane in planes
        ]
        lines = [_coherence(plane, scale, fine)[chosen] for plane in planes]
        self.cells.extend(zip(rough[chosen], *numbers, *lines, strict=True))

    @property
    def measured(self) -> bool:
        """Whether there are enough cells to judge."""
        return len(self.cells) >= _LEAST_CELLS

    @property
    def numbers(self) -> tuple[float, float, float, float, float]:
        """Medians over the cells, as in `cells`; zeros where there are none."""
        if not self.cells:
            return 0.0, 0.0, 0.0, 0.0, 0.0
        flat, result, bicubic, lines, plain = np.median(np.asarray(self.cells), axis=0).tolist()
        return flat, result, bicubic, lines, plain


def _without_slope(plane: NDArray[np.float32], sigma: float) -> Array:
    """Detail finer than about twice `sigma` pixels."""
    wide = plane.astype(np.float64)
    detail: Array = wide - ndimage.gaussian_filter(wide, sigma, mode="nearest")
    return detail


def _cells(plane: Array, side: int, measure: object) -> Array:
    height, width = (length // side * side for length in plane.shape)
    blocks = plane[:height, :width].reshape(height // side, side, width // side, side)
    cells: Array = measure(blocks, axis=(1, 3))  # type: ignore[operator]
    return cells


def _coherence(plane: NDArray[np.float32], scale: int, inside: tuple[slice, slice]) -> Array:
    """How far gradients within a cell point one way: 0 not at all, 1 all along one line.

    Source:
        J. Bigun and G. Granlund, "Optimal orientation detection of linear symmetry", ICCV 1987.
    """
    rows, cols = np.gradient(_without_slope(plane, scale))
    sums = [
        ndimage.gaussian_filter(part, scale, mode="nearest")[inside]
        for part in (rows * rows, cols * cols, rows * cols)
    ]
    down, across, both = sums
    energy = down + across
    coherence = np.sqrt((down - across) ** 2 + 4 * both**2) / np.maximum(energy, 1e-20)
    return _cells(coherence, _CELL * scale, np.mean)
