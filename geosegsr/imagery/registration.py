"""The shift between two images of one place, to a fraction of a pixel."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Image: TypeAlias = NDArray[np.floating[Any]]


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
