"""Patches for training and tiles for validation, cut from scenes or pairs.

Patch n of a run is a pure function of the seed and n: its place, its orientation and its degradation. A resumed run
therefore sees the same patches as an uninterrupted one, and several processes divide the patches of one.

With augmentation, patches begin at any hr pixel. The same ground then gives as many different lr images as an lr pixel
has hr pixels. For few images this is worth more than rotations and mirrors.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from geosegsr.errors import ConfigError, SceneError
from geosegsr.imagery.config import DataConfig
from geosegsr.imagery.ground import Part
from geosegsr.imagery.sources import Floats, Patch, SceneSource, Source
from geosegsr.notices import warn
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation
from geosegsr.training.config import ToldError
from geosegsr.training.told import with_error

_MOST_CELLS = 4096  # per image; drawn at random from larger images


@dataclass(frozen=True)
class Cells:
    """Places that patches are drawn around, with their probabilities."""

    part: NDArray[np.int64]
    """Index of the part that contains each cell."""
    row: NDArray[np.int64]
    """First row, in hr pixels."""
    col: NDArray[np.int64]
    """First column, in hr pixels."""
    chance: NDArray[np.float64]
    """Cumulative probability; the last is 1."""


class Patches:
    """The patches of a run, by number."""

    def __init__(
        self,
        sources: Sequence[Source],
        parts: Sequence[Part],
        data: DataConfig,
        degradation: Degradation,
        scale: int,
        seed: int,
        told_error: ToldError | None = None,
    ) -> None:
        self.sources, self.parts, self.told_error = sources, parts, told_error
        self.data, self.degradation = data, degradation
        self.scale, self.seed = scale, seed
        self.side = data.patch * scale
        self.left_out: list[str] = []
        self.cells = self._find_cells()

    @property
    def places(self) -> int:
        """Number of places that patches are drawn around."""
        return len(self.cells.part)

    @property
    def images(self) -> int:
        """Number of images that give patches."""
        return len({self.parts[p].image for p in np.unique(self.cells.part)})

    def __getitem__(self, number: int) -> Patch:
        rng = np.random.default_rng([self.seed, number])
        for _ in range(8):
            try:
                patch = self._draw(rng)
                break
            except SceneError as error:  # damaged in the middle: say so, and draw from another place
                warn(f"left out a patch: {str(error).rstrip('.')}")
        else:
            raise SceneError("Cannot read training patches: eight images in a row failed. Check the disk.")
        patch = self._turned(patch, rng)
        if self.told_error is None:
            return patch
        return replace(patch, sensor=with_error(patch.sensor, self.told_error, rng))

    def batch(self, first: int, count: int) -> list[Patch]:
        """Patches `first` to `first + count - 1`."""
        return [self[number] for number in range(first, first + count)]

    def _draw(self, rng: np.random.Generator) -> Patch:
        """A patch near a random cell, shifted by up to half its side; the cell itself if no shifted patch is all valid."""
        cells = self.cells
        cell = min(int(np.searchsorted(cells.chance, rng.random(), side="right")), len(cells.part) - 1)
        part = self.parts[cells.part[cell]]
        source, area = self.sources[part.image], part.window
        step = source.step if self.data.augment else self.scale
        for attempt in range(4):
            top, left = int(cells.row[cell]), int(cells.col[cell])
            if attempt < 3:
                top = self._near(top, area.row, area.row_stop, step, rng)
                left = self._near(left, area.col, area.col_stop, step, rng)
            patch: Patch = source.cut(Window(top, left, self.side, self.side), self.degradation, rng)
            if patch.valid.mean() >= source.least_valid:
                break
        return patch

    def _near(self, cell: int, start: int, stop: int, step: int, rng: np.random.Generator) -> int:
        """A first row or column within start..stop, at most half a patch from the cell, uniformly distributed."""
        reach = self.side // (2 * step) * step
        first, last = max(start, cell - reach), min(stop - self.side, cell + reach)
        return first + int(rng.integers((last - first) // step + 1)) * step

    def _turned(self, patch: Patch, rng: np.random.Generator) -> Patch:
        lr, hr, valid, sensor = patch.lr, patch.hr, patch.valid, patch.sensor
        turn, flip = (int(rng.integers(4)), bool(rng.integers(2))) if self.data.augment else (0, False)
        lr, hr = (np.rot90(image, turn, axes=(1, 2)) for image in (lr, hr))
        valid = np.rot90(valid, turn)
        if flip:
            lr, hr, valid = lr[:, :, ::-1], hr[:, :, ::-1], valid[:, ::-1]
        if self.data.grey and rng.random() < self.data.grey:
            weights = _grey_weights(len(lr), rng)
            lr, hr = (np.repeat(np.tensordot(weights, i, axes=1)[None], len(i), axis=0) for i in (lr, hr))
            sensor = replace(sensor, noise=sensor.noise * float(np.linalg.norm(weights)))
        if self.data.shuffle_bands and rng.random() < self.data.shuffle_bands:
            order = rng.permutation(len(lr))
            lr, hr = lr[order], hr[order]
        return replace(
            patch,
            lr=np.ascontiguousarray(lr),
            hr=np.ascontiguousarray(hr),
            valid=np.ascontiguousarray(valid),
            sensor=sensor,
        )

    def _find_cells(self) -> Cells:
        found: list[tuple[int, int, int, float]] = []
        small, empty = 0, 0
        for index, part in enumerate(self.parts):
            if min(part.window.height, part.window.width) < self.side:
                small += 1
                continue
            try:
                here = [(index, *cell) for cell in self._cells_of(part)]
            except SceneError as error:
                self.left_out.append(str(error))
                continue
            empty += not here
            found.extend(here)
        if not found:
            raise self._nothing_found(small, empty)
        if small:
            self.left_out.append(f"{small} are smaller than a patch of {self.side} hr pixels.")
        if empty:
            self.left_out.append(f"{empty} have no place of {self.side} hr pixels without nodata.")
        owner, row, col, texture = (np.array(column) for column in zip(*found, strict=True))
        return Cells(owner, row, col, self._chances(texture))

    def _cells_of(self, part: Part) -> list[tuple[int, int, float]]:
        """Row, column and texture of the cells of a part without invalid pixels."""
        area, source, side = part.window, self.sources[part.image], self.side
        places = [
            (r, c) for r in _starts(area.row, area.height, side) for c in _starts(area.col, area.width, side)
        ]
        if len(places) > _MOST_CELLS:
            chosen = np.random.default_rng([self.seed, part.image]).choice(
                len(places), _MOST_CELLS, replace=False
            )
            places = [places[i] for i in np.sort(chosen)]
        cells = []
        for row, col in places:
            valid, values = source.validity(Window(row, col, side, side))
            if valid.mean() >= source.least_valid:
                cells.append((row, col, _texture(values)))
        return cells

    def _chances(self, texture: NDArray[np.float64]) -> NDArray[np.float64]:
        mean = texture.mean()
        weight = np.ones_like(texture) if mean == 0 else texture / mean
        weight = (1 - self.data.texture) + self.data.texture * weight
        running: NDArray[np.float64] = np.cumsum(weight / weight.sum())
        return running

    def _nothing_found(self, small: int, empty: int) -> Exception:
        if small:
            largest = max((min(part.window.height, part.window.width) for part in self.parts), default=0)
            fits = largest // self.scale
            return ConfigError(
                f"Cannot cut patches of {self.side} hr pixels ({self.data.patch} lr pixels): "
                f"the shorter side of the largest image (or of its part for training) has {largest}. "
                f"Pass --patch {fits}."
                if fits >= 8
                else f"Cannot cut patches from these images: the largest has {largest} pixels along its "
                f"shorter side, and the smallest patch needs {8 * self.scale}. Pass larger images."
            )
        if empty:
            return SceneError(
                f"Cannot find a place of {self.side} hr pixels without nodata in any of {empty} images. Pass "
                "a smaller --patch, or --nodata if their nodata value is wrong."
            )
        return SceneError(f"Cannot train: no image can be read. The first: {self.left_out[0]}")


def keep_in_memory(sources: Sequence[SceneSource], limit_gb: float) -> tuple[int, list[str]]:
    """Decode images into memory, in order, up to `limit_gb` gigabytes.

    Returns:
        Number of images held, and a message for each image that cannot be read.
    """
    left, kept, failures = limit_gb * 1e9, 0, []
    for source in sources:
        if source.bytes > left:
            continue
        try:
            source.keep()
        except SceneError as error:
            failures.append(str(error))
            continue
        left, kept = left - source.bytes, kept + 1
    return kept, failures


def validation_tiles(
    sources: Sequence[Source],
    parts: Sequence[Part],
    degradation: Degradation,
    scale: int,
    *,
    tile: int,
    most: int,
) -> tuple[list[Patch], list[str]]:
    """Validation tiles, spread over the parts; the same tiles each time.

    Args:
        sources: Images or pairs.
        parts: Areas to cut tiles from.
        degradation: Its ranges are fixed by at_rest; its noise is seeded by the number of the tile.
        scale: hr pixels per lr pixel.
        tile: Side in hr pixels; smaller in smaller parts.
        most: Largest number of tiles.

    Returns:
        Tiles of which at least half is valid, and a message for each tile that cannot be read.
    """
    side = max(tile // scale, 1) * scale
    windows = [(part, window) for part in parts for window in _tile_windows(part.window, side, scale)]
    if len(windows) > most:
        windows = [windows[i] for i in np.linspace(0, len(windows) - 1, most).round().astype(int)]
    steady, tiles, failures = degradation.at_rest(), [], []
    for number, (part, window) in enumerate(windows):
        try:
            cut = sources[part.image].cut(window, steady, np.random.default_rng(number))
        except SceneError as error:
            failures.append(str(error))
            continue
        if cut.valid.mean() >= 0.5:
            tiles.append(cut)
    return tiles, failures


def _grey_weights(bands: int, rng: np.random.Generator) -> Floats:
    """Weights of the bands in a grey image: a single band with probability 1/2, otherwise a random mixture."""
    if rng.random() < 0.5:
        only = np.zeros(bands, np.float32)
        only[rng.integers(bands)] = 1
        return only
    return rng.dirichlet(np.ones(bands)).astype(np.float32)


def _tile_windows(area: Window, side: int, scale: int) -> list[Window]:
    height, width = min(side, area.height), min(side, area.width)
    if min(height, width) < 4 * scale:
        return []
    rows, cols = (
        range(area.row, area.row_stop - height + 1, height),
        range(area.col, area.col_stop - width + 1, width),
    )
    return [Window(row, col, height, width) for row in rows for col in cols]


def _starts(first: int, length: int, side: int) -> list[int]:
    """First rows or columns of cells: adjacent, except that the last ends at the far edge."""
    regular = list(range(first, first + length - side + 1, side))
    last = first + length - side
    return regular if regular[-1] == last else [*regular, last]


def _texture(values: Floats) -> float:
    """Mean absolute difference between neighbouring pixels, over all bands."""
    return float(np.abs(np.diff(values, axis=1)).mean() + np.abs(np.diff(values, axis=2)).mean())
