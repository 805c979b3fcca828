"""How far two images of one place lie apart, to a fraction of a pixel."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.floating[Any]]


def phase_shift(reference: Image, moving: Image, upsampling: int = 50) -> tuple[float, float]:
    """By how much `moving` must be shifted to lie on `reference`.

    The peak of the cross-correlation of both images' phases, found to a whole pixel by FFT and then on a
    fine grid around it. A window fades the edges, which do not wrap around in real images.

    Args:
        reference: Shape (h, w).
        moving: Same shape.
        upsampling: Fine grid points per pixel.

    Returns:
        (rows, cols), in pixels.

    Source:
        Guizar-Sicairos, Thurman, Fienup, "Efficient subpixel image registration algorithms", 2008.
    """
    if reference.std() == 0 or moving.std() == 0:
        return 0.0, 0.0
    spectrum = np.fft.fft2(_faded(reference)) * np.conj(np.fft.fft2(_faded(moving)))
    magnitude = np.abs(spectrum)
    # Frequencies in which there is next to nothing would count as much as the others: they are noise.
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
    """Weights that fall to nothing at the highest frequencies, where images of different sensors differ."""
    rows, cols = np.fft.fftfreq(shape[0])[:, None], np.fft.fftfreq(shape[1])[None]
    return np.asarray(np.exp(-0.5 * (rows**2 + cols**2) / 0.2**2))


def _inverse_dft(spectrum: NDArray[Any], rows: Image, cols: Image) -> NDArray[Any]:
    """The inverse transform at chosen places only."""
    down = np.exp(2j * np.pi * np.outer(rows, np.fft.fftfreq(spectrum.shape[0])))
    across = np.exp(2j * np.pi * np.outer(np.fft.fftfreq(spectrum.shape[1]), cols))
    return np.asarray(down @ spectrum @ across)
