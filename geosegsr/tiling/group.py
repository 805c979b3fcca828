"""One group of bands through its model, a batch of tiles at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geosegsr.context import check_stop
from geosegsr.models.contract import FloatArray, Upscaler, fitted
from geosegsr.models.ensemble import Ensemble, mean_and_spread
from geosegsr.models.interpolation import Interpolator
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry


@dataclass
class RenderCounts:
    """Tiles and time that a block took."""

    tiles: int = 0
    """Tiles computed, in each band group."""
    empty: int = 0
    """Tiles skipped because nothing in them is wanted."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Time in the model ("model") and in comparing with the input ("consistency")."""

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Add the time spent inside to a stage."""
        began = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began


def output_bands(groups: tuple[BandGroup, ...]) -> tuple[int, ...]:
    """Positions, among the scene's image bands, of those that come out."""
    return tuple(sorted(band for group in groups for band in group.bands))


@dataclass(frozen=True)
class GroupCall:
    """How one group's tiles go through its model."""

    upscaler: Upscaler
    bands: tuple[int, ...]
    channels: int
    """Inputs of the model: as many as bands, or one band repeated."""
    guide: tuple[int, ...] | None
    radiometry: Radiometry | None
    """Of the group's bands."""
    full_radiometry: Radiometry | None
    """Of all image bands."""
    uncertainty: bool
    """Whether the standard deviation over the ensemble follows the bands in results."""

    @property
    def linear(self) -> bool:
        return self.upscaler.facts.linear

    @property
    def planes(self) -> int:
        """Planes of a result."""
        return len(self.bands) * (2 if self.uncertainty else 1)

    def __call__(self, lr: FloatArray, guide: FloatArray | None) -> FloatArray:
        """A batch through the model: (N, bands, h, w) -> (N, planes, scale * h, scale * w)."""
        grey = self.channels != lr.shape[1]
        if grey:
            lr = np.repeat(lr, self.channels, axis=1)

        def own(sr: FloatArray) -> FloatArray:
            return sr.mean(axis=1, keepdims=True) if grey else sr

        if not self.uncertainty:
            return own(self.upscaler(lr, guide))
        assert isinstance(self.upscaler, Ensemble)
        members = (own(member) for member in self.upscaler.members(lr, guide))
        return np.concatenate(mean_and_spread(members), axis=1)

    @property
    def read(self) -> list[int]:
        """Positions of all bands that a call needs."""
        return sorted({*self.bands, *(self.guide or ())})


def group_call(
    group: BandGroup, upscaler: Upscaler, radiometry: Radiometry | None, *, uncertainty: bool = False
) -> GroupCall:
    """How a group of bands goes through a model, or past it."""
    if group.through in ("bicubic", "nearest"):
        upscaler, radiometry, uncertainty = Interpolator(group.through, upscaler.facts.scale), None, False
    channels = (upscaler.facts.bands or 1) if group.through == "grey" else len(group.bands)
    own = None if radiometry is None else radiometry.select(group.bands)
    return GroupCall(upscaler, group.bands, channels, group.guide, own, radiometry, uncertainty)


def model_input(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    call: GroupCall,
    dtype: np.dtype[np.floating[Any]],
) -> FloatArray:
    """A tile as the model takes it: filled, in its range, and mirrored beyond a scene that is too small."""
    if not valid.any():  # wanted pixels are valid, so such a tile is skipped
        raise AssertionError("a tile without one valid pixel was not skipped")
    filled = fill_invalid(values, valid)
    if call.full_radiometry is None:
        tile = filled.astype(dtype)
    else:
        tile = call.full_radiometry.select(tuple(call.read)).to_model(filled)
    facts = call.upscaler.facts
    rows, cols = (fitted(side, facts.multiple_of, facts.min_size) for side in tile.shape[1:])
    if (rows, cols) != tile.shape[1:]:
        tile = np.pad(tile, ((0, 0), (0, rows - tile.shape[1]), (0, cols - tile.shape[2])), mode="symmetric")
    return tile


def batched(
    call: GroupCall,
    prepare: Callable[[tuple[int, int]], FloatArray],
    tiles: list[tuple[int, int]],
    counts: RenderCounts,
) -> Iterator[FloatArray]:
    """The model's result for each tile, in order, computed a batch at a time."""
    size = max(1, call.upscaler.facts.batch)
    own = [call.read.index(band) for band in call.bands]
    for start in range(0, len(tiles), size):
        check_stop()
        stack = np.stack([prepare(tile) for tile in tiles[start : start + size]])
        lr = stack[:, own]
        guide = None if call.guide is None else stack[:, [call.read.index(band) for band in call.guide]]
        with counts.timed("model"):
            sr = call(lr, guide)
        yield from sr
