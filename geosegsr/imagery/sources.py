"""Patches cut from a scene whose lr side is made by degradation, or from a real pair.

    window in the scene, grown by the margin that its lr pixels depend on
    +-----------------+
    |  +-----------+  |    read -> fill -> model's range -> degradation -> crop
    |  |   patch   |  |
    |  +-----------+  |
    +-----------------+

The lr grid begins with the patch, so a patch equals the scene degraded from there on and then cut.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from geosegsr.imagery.pairs import AlignedPair
from geosegsr.models.interpolation import repeat_pixels
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry, resolve_radiometry, to_dtype
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation, margin_of
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Patch:
    """An input of the network with its truth."""

    lr: Floats
    """Shape (C, h, w), in the model's range."""
    hr: Floats
    """Shape (C, scale*h, scale*w), in the model's range."""
    valid: NDArray[np.bool_]
    """Shape (scale*h, scale*w): pixels that count. In training all of them do, but for ground of a pair that has changed."""
    origin: str
    """Path of the image, and the place in it."""
    sensor: SensorDescriptor = BICUBIC
    """How lr was made; `BICUBIC` where nothing is known of it."""


class Source(Protocol):
    """An image, or a pair, that patches are cut from."""

    @property
    def name(self) -> str:
        """For messages."""

    @property
    def step(self) -> int:
        """Patches begin at multiples of this, in hr pixels."""

    @property
    def least_valid(self) -> float:
        """Share of the pixels of a training patch that must be valid."""

    def validity(self, window: Window) -> tuple[NDArray[np.bool_], Floats]:
        """Valid pixels (h, w) and values (C, h, w) of a window in hr pixels, to choose places for patches."""

    def cut(self, window: Window, degradation: Degradation, rng: np.random.Generator) -> Patch:
        """A patch at a window in hr pixels, whose sides are whole lr pixels."""


class SceneSource:
    """A scene whose lr side is made by degradation."""

    step = 1
    least_valid = 1.0

    def __init__(
        self,
        scene: Scene,
        policy: dict[str, Any],
        scale: int,
        blur: tuple[float, float] = (0.0, 0.0),
        zoom: tuple[float, float] = (1.0, 1.0),
    ) -> None:
        self.scene = scene
        self.scale = scale
        self.blur, self.zoom = blur, zoom
        self.radiometry: Radiometry = resolve_radiometry(scene, policy)
        self._kept: tuple[NDArray[Any], NDArray[np.bool_]] | None = None

    @property
    def name(self) -> str:
        return self.scene.path

    @property
    def bytes(self) -> int:
        """Memory that `keep` takes."""
        return self.scene.height * self.scene.width * self.scene.count * (self.scene.dtype.itemsize + 1)

    def keep(self) -> None:
        """Hold the decoded scene in memory."""
        self._kept = self.scene.read(self.scene.window)

    def validity(self, window: Window) -> tuple[NDArray[np.bool_], Floats]:
        values, valid = self._read(window)
        return np.asarray(valid.all(axis=0)), self.radiometry.to_model(values).astype(np.float32)

    def cut(self, window: Window, degradation: Degradation, rng: np.random.Generator) -> Patch:
        scale = self.scale
        hr, valid, inner = self._zoomed(window, rng) or self._with_margin(window, degradation)
        if self.blur[1]:
            hr = gaussian_filter(hr, (0, *(rng.uniform(*self.blur),) * 2), mode="nearest", truncate=3)
        rows, cols = inner.slices
        on_lr = Window(inner.row // scale, inner.col // scale, inner.height // scale, inner.width // scale)
        lr, imaging = degradation.image(hr, scale, rng, on_lr.slices)
        if degradation.quantise and self.scene.dtype.kind != "f":
            lr = self.radiometry.to_model(to_dtype(self.radiometry.from_model(lr), self.scene.dtype))
        return Patch(
            lr.astype(np.float32),
            hr[:, rows, cols],
            valid[rows, cols],
            _where(self.name, window),
            SensorDescriptor.of_imaging(imaging),
        )

    def _with_margin(
        self, window: Window, degradation: Degradation
    ) -> tuple[Floats, NDArray[np.bool_], Window]:
        """Values with the margin that lr pixels depend on, their validity, and the window within them."""
        margin = margin_of(self.scale, degradation)
        around = window.grown(margin, self.scene.height, self.scene.width)
        grown = _by_whole_lr_pixels(window, around, self.scale)
        values, valid = self._read(grown)
        if valid.any():
            values = fill_invalid(values, valid)
        hr = self.radiometry.to_model(values).astype(np.float32)
        return hr, np.asarray(valid.all(axis=0)), window.shifted(-grown.row, -grown.col)

    def _zoomed(
        self, window: Window, rng: np.random.Generator
    ) -> tuple[Floats, NDArray[np.bool_], Window] | None:
        """More ground around the window, downsampled to the size of the window; None without zoom or if some is nodata.

        It has no margin: lr at its ends is made as at the ends of a scene.
        """
        if self.zoom[1] == 1:
            return None
        taken = _stretched(window, rng.uniform(*self.zoom, 2), self.scene.height, self.scene.width)
        values, valid = self._read(taken)
        if not valid.all():
            return None
        hr = self.radiometry.to_model(values).astype(np.float32)
        size = (window.height, window.width)
        small = F.interpolate(torch.from_numpy(hr)[None], size, mode="bicubic", antialias=True)[0].numpy()
        return small.clip(hr.min(), hr.max()), np.ones(size, bool), Window(0, 0, *size)

    def _read(self, window: Window) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        if self._kept is None:
            return self.scene.read(window)
        rows, cols = window.slices
        return self._kept[0][:, rows, cols], self._kept[1][:, rows, cols]


class PairSource:
    """A real pair on one grid."""

    least_valid = 0.5

    def __init__(self, pair: AlignedPair, scale: int) -> None:
        self.pair = pair
        self.scale = self.step = scale
        self._valid = repeat_pixels(pair.same, scale)

    @property
    def name(self) -> str:
        return self.pair.name

    def validity(self, window: Window) -> tuple[NDArray[np.bool_], Floats]:
        rows, cols = window.slices
        return self._valid[rows, cols], self.pair.hr[:, rows, cols]

    def cut(self, window: Window, degradation: Degradation, rng: np.random.Generator) -> Patch:
        rows, cols = window.slices
        s = self.scale
        lr = self.pair.lr[:, window.row // s : window.row_stop // s, window.col // s : window.col_stop // s]
        return Patch(lr, self.pair.hr[:, rows, cols], self._valid[rows, cols], _where(self.name, window))


def _by_whole_lr_pixels(window: Window, grown: Window, scale: int) -> Window:
    """A window grown towards another one, on each side by whole lr pixels."""
    top, left = (window.row - grown.row) // scale * scale, (window.col - grown.col) // scale * scale
    bottom = (grown.row_stop - window.row_stop) // scale * scale
    right = (grown.col_stop - window.col_stop) // scale * scale
    return Window(
        window.row - top, window.col - left, top + window.height + bottom, left + window.width + right
    )


def _stretched(window: Window, factors: NDArray[np.float64], height: int, width: int) -> Window:
    """A window grown by one factor per axis, as far as the scene reaches."""
    rows = min(round(window.height * factors[0]), height)
    cols = min(round(window.width * factors[1]), width)
    row = min(max(window.row - (rows - window.height) // 2, 0), height - rows)
    col = min(max(window.col - (cols - window.width) // 2, 0), width - cols)
    return Window(row, col, rows, cols)


def _where(name: str, window: Window) -> str:
    return f"'{name}' at rows {window.row}-{window.row_stop}, columns {window.col}-{window.col_stop}"
