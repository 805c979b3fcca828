"""Classical interpolation as a model: linear, each band on its own."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.cpu import single_threaded_blas
from geosegsr.errors import ConfigError
from geosegsr.models.contract import Facts, FloatArray, Upscaler
from geosegsr.models.kernels import keys, lanczos3, triangle

_CHUNK = (
    32  # lr pixels one product with the kernel matrix covers: the matrix is mostly zeros, so keep it small
)


KERNELS: dict[str, tuple[int, Callable[[NDArray[np.float64]], NDArray[np.float64]] | None]] = {
    "nearest": (0, None),
    "bilinear": (1, triangle),
    "bicubic": (2, keys),
    "lanczos": (3, lanczos3),
}
"""Name -> (reach in lr pixels, kernel)."""


@dataclass(frozen=True)
class Interpolator:
    """One of the classical kernels, as an Upscaler.

    Pixels are areas: the first output pixel's centre lies at (0.5 / scale - 0.5) lr pixels from the first
    lr pixel's centre. Beyond the array the outermost pixel is repeated.
    """

    name: str
    """"nearest", "bilinear", "bicubic" or "lanczos"."""
    scale: int
    """Output pixels per input pixel."""

    def __post_init__(self) -> None:
        if self.name not in KERNELS:
            raise ConfigError(f"Cannot interpolate by '{self.name}': it must be one of {', '.join(KERNELS)}.")

    @cached_property
    def facts(self) -> Facts:
        """The halo is the kernel's reach, and the overlap two halos: neighbouring tiles are equal there."""
        reach = KERNELS[self.name][0]
        return Facts(
            name=self.name,
            fingerprint=hashlib.sha256(f"interpolation 1 {self.name} x{self.scale}".encode()).hexdigest(),
            scale=self.scale,
            bands=None,
            tile=256 + 2 * reach,
            overlap=2 * reach,
            halo=reach,
            linear=True,
        )

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        """Enlarge a batch; see Upscaler. float32 or float64, shape (N, C, h, w) -> (N, C, s*h, s*w)."""
        if self.name == "nearest":
            return repeat_pixels(lr, self.scale)
        n, c, h, w = lr.shape
        enlarged = np.empty((n, c, h * self.scale, w * self.scale), dtype=lr.dtype)
        with single_threaded_blas():
            for place in np.ndindex(n, c):
                _enlarge(lr[place], self.name, self.scale, enlarged[place])
        return enlarged


def is_repetition(upscaler: Upscaler) -> bool:
    """Whether a model only repeats pixels, and so takes bands of any kind, and whole numbers as they are."""
    return isinstance(upscaler, Interpolator) and upscaler.name == "nearest"


def repeat_pixels(array: NDArray[Any], scale: int) -> NDArray[Any]:
    """Each pixel as scale x scale pixels of the same value; any dtype, (..., h, w) -> (..., scale*h, scale*w)."""
    return np.repeat(np.repeat(array, scale, axis=-1), scale, axis=-2)


def _enlarge(plane: FloatArray, name: str, scale: int, out: FloatArray) -> None:
    """One band, (h, w) -> (scale*h, scale*w): down the rows, then along the columns."""
    halo = KERNELS[name][0]
    matrix = _kernel_matrix(name, scale, plane.dtype.str)
    h, w = plane.shape
    padded = np.pad(plane, ((halo, halo + -h % _CHUNK), (0, 0)), mode="edge")
    tall = np.empty((h * scale, w), dtype=plane.dtype)
    for start in range(0, h, _CHUNK):
        rows = min(_CHUNK, h - start) * scale
        taps = padded[start : start + _CHUNK + 2 * halo]
        np.matmul(matrix[:rows], taps, out=tall[start * scale : start * scale + rows])
    padded = np.pad(tall, ((0, 0), (halo, halo + -w % _CHUNK)), mode="edge")
    for start in range(0, w, _CHUNK):
        cols = min(_CHUNK, w - start) * scale
        taps = padded[:, start : start + _CHUNK + 2 * halo]
        np.matmul(taps, matrix[:cols].T, out=out[:, start * scale : start * scale + cols])


@lru_cache(maxsize=32)
def _kernel_matrix(name: str, scale: int, dtype: str) -> FloatArray:
    """Weights that turn _CHUNK pixels and their halos into scale * _CHUNK pixels.

    Returns:
        Shape (scale * _CHUNK, _CHUNK + 2 * halo); each row sums to 1.
    """
    halo, kernel = KERNELS[name]
    assert kernel is not None
    # Phases are computed once and repeated, so that equal phases have bit-equal weights.
    phase = (np.arange(scale) + 0.5) / scale - 0.5  # centre of each output pixel, in lr pixels
    taps = np.arange(-halo, halo + 1)
    weights = kernel(phase[:, None] - taps)  # (scale, 2 * halo + 1)
    weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((_CHUNK, scale, _CHUNK + 2 * halo))
    for pixel in range(_CHUNK):
        matrix[pixel, :, pixel : pixel + 2 * halo + 1] = weights
    return matrix.reshape(_CHUNK * scale, -1).astype(dtype)
