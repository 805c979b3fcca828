"""How a scene was imaged: estimated once from its full-resolution pixels, or told by the user.

Every block of a run uses the same descriptor, so it makes no seams.
It depends on the whole scene, not on the area that is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from geosegsr.context import begin
from geosegsr.models.contract import Facts
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.contract import Raster
from geosegsr.raster.radiometry import Radiometry
from geosegsr.raster.window import Window
from geosegsr.sensor.descriptor import BICUBIC, SensorDescriptor

AUTO = "auto"
ESTIMATED, GIVEN, ASSUMED = "estimated", "given", "assumed"
Floats: TypeAlias = NDArray[np.float32]

_SIDE = 128
"""Pixels along a side of a patch."""
_LEAST_SIDE = 48
"""Where a scene or its valid part is smaller than this, nothing is estimated."""
_LATTICE = 8
"""Patches begin at multiples of it, where the blocks of a JPEG begin."""
_CANDIDATES = 6
"""Patches looked at along each side of the scene."""
_MOST = 16
"""Patches that the estimate is made of: those with the most contrast."""
_ABSURD = 100.0
"""Values this far beyond the model's range are undeclared marks of missing data."""


@dataclass(frozen=True)
class Sensing:
    """What is taken for the sensor of each group of bands."""

    sensors: tuple[SensorDescriptor, ...]
    """One for each group."""
    origin: str
    """"estimated", "given" or "assumed"."""

    def describe(self) -> str:
        """One line for the log, the tags and the report."""
        texts = list(dict.fromkeys(str(sensor) for sensor in self.sensors))
        return f"{'; '.join(texts[:3])}{'; ...' if len(texts) > 3 else ''} ({self.origin})"


def wants_sensing(facts: Facts) -> bool:
    """Whether a sensor matters to a model: it can be told of it, or its card says what it was trained on."""
    return facts.takes_sensor or (facts.card is not None and facts.card.degradation is not None)


def sense(
    raster: Raster,
    facts: Facts,
    groups: tuple[BandGroup, ...],
    radiometry: Radiometry | None,
    asked: str | Path | SensorDescriptor = AUTO,
) -> Sensing:
    """Find out how each group of bands was imaged.

    Args:
        raster: The input.
        facts: Of the model.
        groups: Bands that go through the model together.
        radiometry: The model's range, for all image bands; None for an interpolation.
        asked: "auto" to estimate it, "bicubic", a TOML file with a descriptor or a degradation, or a descriptor.

    Raises:
        ConfigError: The file cannot be read, or describes no sensor.
    """
    if isinstance(asked, SensorDescriptor):
        return Sensing((asked,) * len(groups), GIVEN)
    if str(asked) != AUTO:
        return Sensing((SensorDescriptor.load(asked, facts.scale),) * len(groups), GIVEN)
    if radiometry is None or not wants_sensing(facts):
        return Sensing((BICUBIC,) * len(groups), ASSUMED)
    return _estimated(raster, facts.scale, groups, radiometry)


def _estimated(raster: Raster, scale: int, groups: tuple[BandGroup, ...], radiometry: Radiometry) -> Sensing:
    from geosegsr.sensor.estimate import estimate  # loads torch

    begin("estimating the sensor")

    # Bands beyond the model's have mostly been resampled from a coarser grid, which looks like blur. Restoring that blur
    # would invent detail: beside bands that the model was trained on they are taken for sharp and clean.
    estimated = {"model"} if any(group.through == "model" for group in groups) else {"grey"}
    patches = list(_patches(raster))
    sensors, known = [], False
    for group in groups:
        chosen = _for_group(patches, group, radiometry) if group.through in estimated else []
        if not chosen:
            sensors.append(BICUBIC)
            continue
        known = True
        lo, hi = radiometry.lo[group.bands[0]], radiometry.hi[group.bands[0]]
        span = hi - lo if raster.dtype == np.uint8 else 0.0
        sensors.append(estimate(np.stack(chosen), scale, dn_span=span).sensor)
    return Sensing(tuple(sensors), ESTIMATED if known else ASSUMED)


def _for_group(
    patches: list[tuple[NDArray[Any], NDArray[np.bool_]]], group: BandGroup, radiometry: Radiometry
) -> list[Floats]:
    """The valid patches of a group's bands with the most contrast, in the model's range; shape (bands, h, w) each."""
    bands, own = list(group.bands), radiometry.select(group.bands)
    valid = [own.to_model(values[bands]) for values, mask in patches if mask[bands].all()]
    valid = [patch for patch in valid if np.abs(patch).max() < _ABSURD]
    if not valid:
        return []
    side = max((min(patch.shape[1:]) for patch in valid), default=0)
    whole = [patch[:, :side, :side] for patch in valid if min(patch.shape[1:]) >= side]
    contrast = np.array([np.abs(np.diff(patch, axis=2)).mean() for patch in whole])
    return [whole[i] for i in sorted(np.argsort(-contrast, kind="stable")[:_MOST])]


def _patches(raster: Raster) -> Iterator[tuple[NDArray[Any], NDArray[np.bool_]]]:
    """Values and validity at places spread over a raster; where nodata lies in one, its valid quarters."""
    for window in _windows(raster.height, raster.width):
        values, valid = raster.read(window)
        if valid.all() or min(window.height, window.width) < 2 * _LEAST_SIDE:
            yield values, valid
            continue
        half = (window.height // 2 // _LATTICE * _LATTICE, window.width // 2 // _LATTICE * _LATTICE)
        for row in (0, half[0]):
            for col in (0, half[1]):
                part = (slice(None), slice(row, row + half[0]), slice(col, col + half[1]))
                if valid[part].all():
                    yield values[part], valid[part]


def _windows(height: int, width: int) -> Iterator[Window]:
    """Places spread evenly over a raster; none where it is too small."""
    rows, cols = min(_SIDE, height), min(_SIDE, width)
    if min(rows, cols) < _LEAST_SIDE:
        return
    for row in _starts(height - rows):
        for col in _starts(width - cols):
            yield Window(row, col, rows, cols)


def _starts(last: int) -> list[int]:
    places = np.linspace(0, last, min(_CANDIDATES, last // _SIDE + 1)).astype(int) // _LATTICE * _LATTICE
    return sorted({int(place) for place in places})
