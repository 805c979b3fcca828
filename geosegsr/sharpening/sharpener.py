"""Coarse rasters sharpened a window at a time: what to read for it, the fit to parts of it, and its pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import BandError
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.contract import Raster
from geosegsr.raster.kinds import BandKind
from geosegsr.raster.nodata import avoid_nodata, nodata_marker
from geosegsr.raster.radiometry import to_dtype, working_dtype
from geosegsr.raster.window import Window
from geosegsr.sharpening.blur import Sample
from geosegsr.sharpening.fit import Fit, fit
from geosegsr.sharpening.nesting import Nesting
from geosegsr.sharpening.sharpen import Pixels, margin, sharpen, working_bytes

_SAMPLE_SIDE = 96
"""Coarse pixels along a side of a part that the fit looks at."""
_SAMPLE_FINE = 432
"""Fine pixels along a side of each of several such parts, at most: they may have to be sharpened first."""
_MOST_SAMPLES = 3
"""Such parts along each side of a scene."""


@dataclass(frozen=True, eq=False)
class Sharpener:
    """Everything that turns windows of a coarse raster and its guide into windows on the guide's grid."""

    nesting: Nesting
    fit: Fit
    height: int
    """Rows of the coarse raster."""
    width: int
    """Its columns."""
    dtype: np.dtype[Any]
    """Of the coarse raster and of the result."""
    nodata: float | None
    """Likewise."""
    images: tuple[int, ...]
    """Positions of the coarse bands that are sharpened. The pixels of the others, such as classes, are repeated."""

    @classmethod
    def fitted(
        cls, nesting: Nesting, coarse: Raster, guide: Raster, kinds: Sequence[BandKind] | None = None
    ) -> Sharpener:
        """Fit a guide to parts of a coarse raster.

        Args:
            nesting: Where the guide lies.
            coarse: The raster to sharpen.
            guide: The sharper raster; all its bands are images.
            kinds: What each band of `coarse` holds; images by default.

        Raises:
            BandError: None of the coarse bands is an image.
        """
        images = tuple(band for band in range(coarse.count) if kinds is None or kinds[band] == "image")
        if not images:
            raise BandError(
                f"Cannot sharpen '{coarse.path}': none of its bands is an image, and nothing else has detail. "
                "Leave --guide out and pass --model nearest to repeat its pixels."
            )
        samples = list(_samples(nesting, coarse, guide, images))
        fitted = fit(samples, nesting.ratio, guide.count, len(images), half=nesting.half)
        return cls(nesting, fitted, coarse.height, coarse.width, coarse.dtype, coarse.nodata, images)

    @property
    def key(self) -> str:
        """Changes with all that decides the pixels beside those of the two rasters."""
        numbers = (self.nesting, self.fit.mtf, self.fit.scaling, self.images)
        return hashlib.sha256(repr(numbers).encode() + self.fit.weights.tobytes()).hexdigest()[:16]

    def coarse_window(self, window: Window) -> Window:
        """The coarse pixels on which a window of the fine grid depends; the guide's are those over them."""
        own = window.reduced(self.nesting.ratio)
        return own.grown(margin(self.fit), self.height, self.width)

    def working_bytes(self, height: int, width: int) -> int:
        """Memory that a window of so many fine pixels takes."""
        return working_bytes(self.fit, height, width, working_dtype(self.dtype, linear=True).itemsize)

    def __call__(self, window: Window, coarse: Pixels, guide: Pixels) -> Pixels:
        """Sharpen a window of the fine grid; bands that are no images are repeated.

        Args:
            window: The window.
            coarse: Of `coarse_window(window)`.
            guide: Of the same ground, as far as the guide reaches.

        Returns:
            The raster's dtype, rounded, nowhere equal to nodata where valid. Valid is what lies in a valid coarse pixel; other
            pixels hold nodata, or else the value of their coarse pixel.
        """
        values, valid = coarse
        images = list(self.images)
        ratio, wide = self.nesting.ratio, self.coarse_window(window)
        core = window.reduced(ratio)
        sharp = sharpen(
            self.fit, (values[images], valid[images]), self.nesting.spread(wide.scaled(ratio), *guide), (wide.row, wide.col),
            working_dtype(self.dtype, linear=True), core.shifted(-wide.row, -wide.col),
        )  # fmt: skip
        own = (slice(None), *core.shifted(-wide.row, -wide.col).slices)
        part = (slice(None), *window.shifted(-core.row * ratio, -core.col * ratio).slices)
        repeated = repeat_pixels(values[own], ratio)[part]
        image = repeated.copy()
        image[images] = to_dtype(sharp[part], self.dtype)
        known = repeat_pixels(valid[own], ratio)[part]
        if self.nodata is not None:
            avoid_nodata(image, self.nodata)
            image[~known] = nodata_marker(self.nodata, self.dtype)
        elif not known.all():
            image = np.where(known, image, repeated)
        return image, known


def _samples(nesting: Nesting, coarse: Raster, sharp: Raster, images: tuple[int, ...]) -> Iterator[Sample]:
    """Parts spread over the scene, those without data left out."""
    ratio = nesting.ratio
    for window in _places(coarse.height, coarse.width, ratio):
        fine = window.scaled(ratio)
        part = nesting.read(fine)
        if part is None:
            continue
        values, valid = (pixels[list(images)] for pixels in coarse.read(window))
        guide, guide_valid = nesting.spread(fine, *sharp.read(part))
        seen = guide_valid.all(0).reshape(window.height, ratio, window.width, ratio).all((1, 3))
        usable = valid.all(0) & seen & ~_saturated(values)
        if usable.any():
            yield Sample(_clean(values, valid), _clean(guide, guide_valid), usable)


def _clean(values: NDArray[Any], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Without NaN and marks: invalid pixels are 0."""
    return np.where(valid, values, 0).astype(np.float32)


def _saturated(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Pixels with the largest value that the dtype holds, in any band; shape (h, w)."""
    if values.dtype.kind == "f":
        return np.zeros(values.shape[1:], dtype=bool)
    full: NDArray[np.bool_] = (values == np.iinfo(values.dtype).max).any(0)
    return full


def _places(height: int, width: int, ratio: int) -> Iterator[Window]:
    """Windows of coarse pixels spread evenly, their sides multiples of the ratio; none where a raster is too small.

    They do not overlap: what validates a fit must not be part of it.
    """
    several = min(height, width) >= 2 * _SAMPLE_SIDE
    most = min(_SAMPLE_SIDE, _SAMPLE_FINE // ratio) if several else _SAMPLE_SIDE
    rows, cols = (min(most, side) // ratio * ratio for side in (height, width))
    if min(rows, cols) < 2 * ratio:
        return
    down, across = (
        np.linspace(0, side - part, min(_MOST_SAMPLES, side // part)).astype(int).tolist()
        for side, part in ((height, rows), (width, cols))
    )
    for top in down:
        for left in across:
            yield Window(top, left, rows, cols)
