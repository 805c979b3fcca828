"""An input and the result that was made of it, on one grid, read part by part."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geosegsr.models.interpolation import Interpolator, repeat_pixels
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.preview import shown_bands
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import Sampling

Floats: TypeAlias = NDArray[np.float32]
Wide: TypeAlias = NDArray[np.float64]
Mask: TypeAlias = NDArray[np.bool_]

_PIXELS = 4_000_000
"""Result pixels of all bands in one part, about: some 100 MB while it is measured."""
_LONGEST = 1024
"""Result pixels along a side of a part."""
MARGIN = 8
"""Input pixels around a part that are read, too: bicubic interpolation and a sensor's blur look beyond an edge."""
_SPAN = (1.0, 99.0)
"""Percentiles of the input that count as 0 and 1: what a picture of it shows."""


@dataclass(frozen=True)
class Part:
    """A part of both rasters, with a margin. Values are shares of the input's span; invalid pixels are filled."""

    core: Window
    """Input pixels that count here, counted from the first that the result covers."""
    inner: Window
    """The same, counted within the arrays."""
    lr: Floats
    """The input, shape (bands, h, w)."""
    lr_valid: Mask
    """Shape (h, w): valid in all bands, in the input and in all result pixels over it."""
    hr: Floats
    """The result, shape (bands, scale * h, scale * w)."""
    bicubic: Floats
    """The input by bicubic interpolation, same shape."""
    clipped: tuple[float, float]
    """Shares of the core's values at an end of the data type: of the input and of the result."""

    @property
    def scale(self) -> int:
        return int(self.hr.shape[1] // self.lr.shape[1])

    def fine(self, lr: NDArray[Any]) -> NDArray[Any]:
        """An array of the input's grid, (..., h, w), on that of the result."""
        return repeat_pixels(lr, self.scale)


@dataclass(frozen=True)
class Pair:
    """An input and its result, or those of its bands that were made of this input."""

    source: Scene
    """Its image bands are those of the result, in the same order."""
    result: Scene
    window: Window
    """The part of the source that the result covers."""
    scale: int
    """Result pixels per input pixel, along each side."""
    corner: tuple[int, int] = (0, 0)
    """Row and column of the first result pixel over the window."""
    sharpened: Sampling | None = None
    """How an input pixel sees the grid of the guide that sharpened it; None without a guide."""
    name: str = ""
    """Of the input among several, such as "20m"."""

    @property
    def zoom(self) -> int:
        """What of the scale is the model's: the rest is the guide's."""
        return self.scale if self.sharpened is None else self.scale // self.sharpened.scale

    def over(self, window: Window) -> Window:
        """The result's pixels over a window of the input, counted from the first that the result covers."""
        return window.scaled(self.scale).shifted(*self.corner)

    @property
    def height(self) -> int:
        """Rows of the part, in input pixels."""
        return self.window.height

    @property
    def width(self) -> int:
        return self.window.width

    @cached_property
    def span(self) -> tuple[Wide, Wide]:
        """DN of each band that count as 0 and 1, shape (bands, 1, 1) each."""
        values, valid = self.source.sample()
        ends = [_ends(band[mask]) for band, mask in zip(values, valid, strict=True)]
        low, high = np.asarray(ends, np.float64).T[:, :, None, None]
        return low, high

    @cached_property
    def shown(self) -> tuple[int, ...]:
        """Positions of the bands that pictures show, and over whose mean spectra and seams are measured."""
        return shown_bands(self.source)

    @property
    def quantum(self) -> Wide:
        """One DN as a share of each band's span; 0 for floats."""
        low, high = self.span
        steps: Wide = (1 / (high - low)).ravel()
        return steps if self.source.dtype.kind in "iu" else np.zeros_like(steps)

    def parts(self) -> list[Window]:
        """The whole result cut into parts, in input pixels."""
        side = min(_LONGEST, int((_PIXELS / self.source.count) ** 0.5)) // self.scale
        rows, cols = (_cuts(length, max(side, 32)) for length in (self.height, self.width))
        return [Window(a, c, b - a, d - c) for a, b in rows for c, d in cols]

    def read(self, core: Window) -> Part | None:
        """Both rasters over a part and its margin; None where they have no valid pixel in common."""
        outer = core.grown(MARGIN, self.height, self.width)
        raw, raw_valid = self.source.read(outer.shifted(self.window.row, self.window.col))
        made, made_valid = self.result.read(self.over(outer))
        inner = core.shifted(-outer.row, -outer.col)
        whole = made_valid.all(0).reshape(outer.height, self.scale, outer.width, self.scale).all((1, 3))
        valid = np.asarray(raw_valid.all(0) & whole, bool)
        if not valid[inner.slices].any():
            return None
        lr = self._share(fill_invalid(raw, raw_valid))
        hr = self._share(fill_invalid(made, made_valid))
        counted = np.broadcast_to(valid, raw.shape)
        clipped = (
            _at_ends(raw[counted]),
            _at_ends(made[np.broadcast_to(repeat_pixels(valid, self.scale), made.shape)]),
        )
        return Part(core, inner, lr, valid, hr, Interpolator("bicubic", self.scale)(lr[None])[0], clipped)

    def each(self) -> Iterator[Part]:
        """All parts that hold valid pixels."""
        for core in self.parts():
            if (part := self.read(core)) is not None:
                yield part

    def _share(self, values: NDArray[Any]) -> Floats:
        low, high = self.span
        shares: Floats = ((values - low) / (high - low)).astype(np.float32)
        return shares


def _ends(values: NDArray[Any]) -> tuple[float, float]:
    if not values.size:
        return 0.0, 1.0
    low, high = (float(end) for end in np.percentile(values.astype(np.float64), _SPAN))
    return low, high if high > low else low + 1.0


def _at_ends(values: NDArray[Any]) -> float:
    if values.dtype.kind == "f" or not values.size:
        return 0.0
    limits = np.iinfo(values.dtype)
    return float(np.mean((values == limits.min) | (values == limits.max)))


def _cuts(length: int, most: int) -> list[tuple[int, int]]:
    pieces = max(1, -(-length // most))
    return [(k * length // pieces, (k + 1) * length // pieces) for k in range(pieces)]
