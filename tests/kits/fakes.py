"""Models that are no models, and pixels for them."""

from dataclasses import dataclass

import numpy as np

from geosegsr.models.contract import FloatArray


@dataclass(frozen=True)
class Fake:
    """A model of three bands whose result depends on where a pixel lies in its tile: seams would show."""

    name: str = "fake"
    fingerprint: str = "fake"
    scale: int = 2
    bands: int | None = 3
    tile: int = 16
    overlap: int = 4
    halo: int = 0
    multiple_of: int = 1
    min_size: int = 1
    batch: int = 3
    linear: bool = False
    tilt: float = 0.0

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        assert lr.dtype == np.float32 and not np.isnan(lr).any()
        out = np.repeat(np.repeat(lr, self.scale, 2), self.scale, 3)
        if guide is not None:
            out = out + np.repeat(np.repeat(guide[:, :1], self.scale, 2), self.scale, 3)
        return out + self.tilt * np.linspace(0, 1, out.shape[3], dtype=np.float32)


class Flat:
    """An upscaler that paints everything grey: the worst there is."""

    name, fingerprint, scale, bands, tile, overlap, halo = "flat", "0", 2, 3, 64, 8, 2
    multiple_of, min_size, batch, linear = 1, 1, 1, False

    def __call__(self, lr, guide=None):
        n, c, h, w = lr.shape
        return np.full((n, c, 2 * h, 2 * w), 0.5, np.float32)


def texture(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) * 200 + 20).astype(dtype)
