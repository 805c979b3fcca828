"""Models that are no models, and pixels for them."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from geosegsr.models.contract import Facts, FloatArray
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.window import Window
from geosegsr.tiling.grid import TileGrid, Tiling

FAKE = Facts("fake", "fake", scale=2, bands=3, tile=16, overlap=4, halo=0, batch=3)


@dataclass(frozen=True)
class Fake:
    """A model of three bands whose result depends on where a pixel lies in its tile: seams would show."""

    facts: Facts = FAKE
    tilt: float = 0.0

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        assert lr.dtype == np.float32 and not np.isnan(lr).any()
        out = repeat_pixels(lr, self.facts.scale)
        if guide is not None:
            out = out + repeat_pixels(guide[:, :1], self.facts.scale)
        return out + self.tilt * np.linspace(0, 1, out.shape[3], dtype=np.float32)


class Flat:
    """An upscaler that paints everything grey: the worst there is."""

    facts = Facts("flat", "0", scale=2, bands=3, tile=64, overlap=8, halo=2)

    def __call__(self, lr, guide=None):
        n, c, h, w = lr.shape
        return np.full((n, c, 2 * h, 2 * w), 0.5, np.float32)


def texture(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random(shape) * 200 + 20).astype(dtype)


def grid_of(
    height: int, width: int, *, block: int, wanted: Window | None = None, margin: int = 0, **tiling: Any
) -> TileGrid:
    """A grid by the fields of its `Tiling`."""
    return TileGrid.plan(height, width, Tiling(**tiling), block=block, wanted=wanted, margin=margin)
