"""What a sensor and its files do to sampled pixels: noise and JPEG."""

from __future__ import annotations

import io
import math
from typing import TypeAlias

import numpy as np
import scipy
from numpy.typing import NDArray

from geosegsr.errors import ConfigError

Array: TypeAlias = NDArray[np.float32]
SUBSAMPLINGS = ("4:2:0", "4:4:4")
MCU = 16
"""Pixels along a side within which JPEG with halved colour codes together; also a multiple of its blocks of 8."""


def noisy(lr: Array, read: float, shot: float, soft: bool, rng: np.random.Generator) -> Array:
    """Pixels with Gaussian noise.

    Args:
        lr: float32, shape (C, h, w), in the model's range.
        read: Standard deviation of the part that does not depend on the signal.
        shot: Variance per unit of signal.
        soft: Whether neighbours are correlated, as demosaicking and resampling leave them.
        rng: Where the noise comes from.

    Returns:
        Shape (C, h, w).
    """
    noise = rng.standard_normal(lr.shape, dtype=np.float32)
    if soft:
        mean = scipy.ndimage.uniform_filter(noise, (1, 3, 3), mode="wrap")
        noise = (noise + 2 * mean) / np.float32(math.sqrt(1 + 8 / 9))  # of variance 1 again
    strength = np.sqrt(read**2 + shot * np.clip(lr, 0, None))
    return np.asarray(lr + strength * noise)


def noise_of(lr: Array, read: float, shot: float) -> float:
    """Standard deviation of that noise, root mean square over the pixels before it."""
    return math.sqrt(read**2 + (shot * float(np.clip(lr, 0, None).mean()) if shot else 0.0))


def around(lr: Array, part: tuple[slice, slice], before: tuple[int, int]) -> Array:
    """A part of an image from the corner of a JPEG's units on, and to the end of its last ones.

    Args:
        lr: Shape (C, h, w).
        part: Rows and columns.
        before: Rows and columns from the corner to the part, 0 to 15.

    Returns:
        Shape (C, H, W), sides multiples of 16; beyond the ends of the image it is mirrored.
    """
    taken = lr
    for axis, (place, more) in enumerate(zip(part, before, strict=True), 1):
        size = lr.shape[axis]
        start, stop, _ = place.indices(size)
        first = start - more
        at = np.arange(first, first + math.ceil((stop - first) / MCU) * MCU) % (2 * size)
        taken = np.take(taken, np.where(at < size, at, 2 * size - 1 - at), axis)
    return taken


def compressed(lr: Array, quality: int, subsampling: str) -> Array:
    """Through JPEG and back.

    Args:
        lr: Shape (1, h, w) or (3, h, w), in the model's range; its first pixel begins a block.
        quality: 1 to 100, as libjpeg counts.
        subsampling: One of `SUBSAMPLINGS`, for three bands.

    Returns:
        float32, same shape, 0 to 1.

    Raises:
        ConfigError: Another number of bands.
    """
    from PIL import Image

    if lr.shape[0] not in (1, 3):
        raise ConfigError(
            f"Cannot compress {lr.shape[0]} bands as JPEG: it takes 1 or 3. Leave jpeg_quality out."
        )
    dn = np.rint(np.clip(lr, 0, 1) * 255).astype(np.uint8)
    picture = Image.fromarray(dn[0] if len(dn) == 1 else dn.transpose(1, 2, 0))
    packed = io.BytesIO()
    picture.save(packed, "JPEG", quality=quality, subsampling=subsampling)
    back: Array = np.asarray(Image.open(packed), np.float32) / np.float32(255)
    return back[None] if back.ndim == 2 else back.transpose(2, 0, 1)
