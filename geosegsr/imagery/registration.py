"""The shift between two images of one place, to a fraction of a pixel."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, shift, zoom

Image: TypeAlias = NDArray[np.floating[Any]]
_LEAST_USABLE = 0.6  # share of a tile's pixels
_MOST_LOCAL = 2.0  # pixels that a tile may lie off, once the shift of the whole is corrected
_LEAST_ALIKE = 0.3  # correlation of the fine detail of two tiles
_MOST_UNLIKE = 0.5  # pixels between a tile's shift and that of its neighbours


@dataclass(frozen=True)
class ShiftField:
    """Shifts from place to place."""

    shifts: Image
    """Shape (2, h, w): rows and columns, in pixels."""
    good: float
    """Share of the tiles that could be registered, 0 to 1."""

    @classmethod
    def none(cls, shape: tuple[int, ...]) -> ShiftField:
        """No shift at any pixel of a grid."""
        return cls(np.zeros((2, *shape)), 0.0)

    @property
    def largest(self) -> float:
        """Length of the largest shift but for one per cent of the pixels, in pixels."""
        return float(np.percentile(np.hypot(*self.shifts), 99))


def phase_shift(reference: Image, moving: Image, upsampling: int = 50) -> tuple[float, float]:
    """The shift that moves `moving` onto `reference`.

    It is the peak of the phase correlation, found to a whole pixel by FFT and then on a fine grid around it. A Hann
    window fades the edges, because real images do not wrap around. A low-pass filter follows the whitening, because
    high frequencies are noise, or differ between sensors.

    Args:
        reference: Shape (h, w).
        moving: Same shape.
        upsampling: Fine grid points per pixel.

    Returns:
        (rows, cols), in pixels; zeros if an image is constant.

    Source:
        Guizar-Sicairos, Thurman, Fienup, "Efficient subpixel image registration algorithms", 2008.
    """
    if reference.std() == 0 or moving.std() == 0:
        return 0.0, 0.0
    spectrum = np.fft.fft2(_faded(reference)) * np.conj(np.fft.fft2(_faded(moving)))
    magnitude = np.abs(spectrum)
    # Whitening would give frequencies of almost no energy, which are noise, the weight of the others.
    spectrum = np.where(magnitude > 1e-9 * magnitude.max(), spectrum / np.maximum(magnitude, 1e-300), 0)
    spectrum = spectrum * _low_pass(spectrum.shape)
    correlation = np.abs(np.fft.ifft2(spectrum))
    peak = np.unravel_index(int(correlation.argmax()), correlation.shape)
    coarse = [int(p) - n if p > n // 2 else int(p) for p, n in zip(peak, correlation.shape, strict=True)]
    reach = np.arange(-1.0, 1.0 + 1 / upsampling, 1 / upsampling)
    rows, cols = coarse[0] + reach, coarse[1] + reach
    fine = np.abs(_inverse_dft(spectrum, rows, cols))
    row, col = np.unravel_index(int(fine.argmax()), fine.shape)
    return float(rows[row]), float(cols[col])


def _faded(image: Image) -> Image:
    window = np.outer(np.hanning(image.shape[0] + 2)[1:-1], np.hanning(image.shape[1] + 2)[1:-1])
    return np.asarray((image - image.mean()) * window)


def _low_pass(shape: tuple[int, ...]) -> Image:
    """Gaussian weights over frequencies, sigma 0.2 cycles per pixel; shape as given."""
    rows, cols = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    return np.asarray(np.exp(-0.5 * (rows**2 + cols**2) / 0.2**2))


def _inverse_dft(spectrum: NDArray[Any], rows: Image, cols: Image) -> NDArray[Any]:
    """The inverse transform at the given rows and columns only."""
    down = np.exp(2j * np.pi * np.outer(rows, np.fft.fftfreq(spectrum.shape[0])))
    across = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(spectrum.shape[1]), cols))
    return np.asarray(down @ spectrum @ across)


def shift_field(reference: Image, moving: Image, usable: NDArray[np.bool_], tile: int = 48) -> ShiftField:
    """How `moving` lies on `reference` from place to place, where one shift for all of it is not enough.

    Each tile is registered by itself. A tile is left out if both do not resemble each other there, or if its shift is not
    like that of its neighbours. Places without a good tile get the shift of the good tiles around them.

    Args:
        reference: Shape (h, w).
        moving: Same shape.
        usable: Pixels that show something in both; same shape.
        tile: Side of a tile in pixels; tiles begin every half of it.

    Returns:
        Shifts that move `moving` onto `reference`, smooth in space.
    """
    rows, cols = (_tile_starts(length, tile) for length in reference.shape)
    found = np.zeros((2, len(rows), len(cols)))
    good = np.zeros((len(rows), len(cols)), bool)
    for i, row in enumerate(rows):
        for j, col in enumerate(cols):
            place = (slice(row, row + tile), slice(col, col + tile))
            if usable[place].mean() < _LEAST_USABLE:
                continue
            filled = [
                np.where(usable[place], a[place], a[place][usable[place]].mean()) for a in (reference, moving)
            ]
            found[:, i, j] = phase_shift(filled[0], filled[1], upsampling=20)
            good[i, j] = _resembles(filled[0], filled[1], found[:, i, j])
    good &= _like_neighbours(found, good)
    if not good.any():
        return ShiftField.none(reference.shape)
    weights = gaussian_filter(good.astype(float), 1.0, mode="nearest") + 1e-9
    smooth = np.stack([gaussian_filter(np.where(good, a, 0), 1.0, mode="nearest") / weights for a in found])
    empty = weights < 1e-3  # far from any good tile
    smooth[:, empty] = np.median(found[:, good], axis=1)[:, None]
    middles = [np.asarray(starts) + tile / 2 for starts in (rows, cols)]
    at = np.meshgrid(
        *(
            np.interp(np.arange(n), m, np.arange(len(m)))
            for n, m in zip(reference.shape, middles, strict=True)
        ),
        indexing="ij",
    )
    return ShiftField(
        np.stack([map_coordinates(a, at, order=1, mode="nearest") for a in smooth]), float(good.mean())
    )


def _tile_starts(length: int, tile: int) -> list[int]:
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile // 2), length - tile]


def _resembles(reference: Image, moving: Image, found: Image) -> bool:
    """Whether two tiles are alike once one of them is moved, and lie close enough to be the same ground."""
    if np.hypot(*found) > _MOST_LOCAL:
        return False
    moved = shift(moving, found, order=1, mode="nearest")
    inner = (slice(3, -3), slice(3, -3))
    a, b = ((image - gaussian_filter(image, 4.0))[inner] for image in (reference, moved))
    spread = float(a.std() * b.std())
    return spread > 0 and float(((a - a.mean()) * (b - b.mean())).mean()) / spread > _LEAST_ALIKE


def _like_neighbours(found: Image, good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Tiles whose shift is that of the good tiles around them, to half a pixel."""
    known = np.where(good, found, np.nan)
    padded = np.pad(known, ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2)).reshape(*known.shape, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # places without any good tile
        middle = np.nanmedian(around, axis=-1)
    return np.asarray(np.hypot(*(known - middle)) < _MOST_UNLIKE)


def warped(image: NDArray[np.float32], field: ShiftField, scale: int) -> NDArray[np.float32]:
    """An image moved by the shifts of a field.

    Args:
        image: Shape (C, scale*h, scale*w).
        field: On a grid of (h, w), in its pixels.
        scale: Pixels of the image per pixel of the field.
    """
    shifts = zoom(field.shifts, (1, scale, scale), order=1, mode="nearest", grid_mode=True) * scale
    at = np.indices(image.shape[1:]) - shifts
    return np.stack([map_coordinates(band, at, order=3, mode="nearest") for band in image]).astype(np.float32)
