"""Places worth a look: where a result changed most, is least certain, steps, borders on nodata, or is as it is mostly."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geosegsr.appraisal.pair import Pair, Part
from geosegsr.appraisal.steps import Step
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

_SIDES = 192, 512
"""Result pixels along a side of a place, at least and at most."""
_ACROSS = 6
"""Places that fit along the side of a small scene."""
MOST = 12
"""Places of a report."""
TYPICAL = "Most typical"
_TEXTURE = 2
"""Input pixels between which a difference counts as texture."""


@dataclass(frozen=True)
class Cell:
    """A place, and what is known of it; values are shares of the span."""

    window: Window
    """Input pixels, counted from the first that the result covers."""
    valid: float
    """Share of valid pixels."""
    change: float
    """RMS difference of the result from bicubic interpolation."""
    texture: float
    """RMS difference of neighbouring input pixels."""
    light: float
    """Mean of the bands that are shown."""
    green: float | None
    """NDVI; None without red and near infrared."""
    uncertainty: float = 0.0
    """Mean standard deviation over the ensemble, in DN."""


@dataclass(frozen=True)
class Place:
    """A place that was chosen."""

    title: str
    """Why, in a few words."""
    window: Window


def cells_of(part: Part, pair: Pair, uncertainty: Scene | None) -> list[Cell]:
    """The places of a part."""
    side = _side(pair)
    found = []
    for row in range(part.core.row, part.core.row_stop, side):
        for col in range(part.core.col, part.core.col_stop, side):
            height, width = min(side, part.core.row_stop - row), min(side, part.core.col_stop - col)
            if min(height, width) >= min(side // 2, pair.height, pair.width):
                found.append(_cell(part, pair, Window(row, col, height, width), uncertainty))
    return [cell for cell in found if cell.valid > 0]


def _side(pair: Pair) -> int:
    """Input pixels along a side of a place."""
    least, most = (side // pair.scale for side in _SIDES)
    return max(least, min(most, math.isqrt(pair.height * pair.width) // _ACROSS))


def _cell(part: Part, pair: Pair, window: Window, uncertainty: Scene | None) -> Cell:
    shown = list(pair.shown)
    inside = window.shifted(part.inner.row - part.core.row, part.inner.col - part.core.col)
    lr = part.lr[shown][:, *inside.slices]
    fine = (slice(None), *inside.scaled(part.scale).slices)
    valid = part.lr_valid[inside.slices]
    change = float(np.sqrt(np.mean(np.square(part.hr[shown][fine] - part.bicubic[shown][fine]))))
    steps = lr[:, _TEXTURE:, :] - lr[:, :-_TEXTURE, :]
    doubt = 0.0
    if uncertainty is not None:
        values, known = uncertainty.read(pair.over(window))
        doubt = float(values[known].mean()) if known.any() else 0.0
    return Cell(
        window, float(valid.mean()), change, float(np.sqrt(np.mean(np.square(steps)))) if steps.size else 0.0,
        float(lr[:, valid].mean()) if valid.any() else 0.0, _ndvi(part, pair, inside), doubt,
    )  # fmt: skip


def _ndvi(part: Part, pair: Pair, inside: Window) -> float | None:
    colours = pair.source.colours
    if not {"red", "nir"} <= set(colours):
        return None
    low, high = pair.span
    red, nir = (
        float((part.lr[band][inside.slices].mean() * (high - low)[band] + low[band]).item())
        for band in (colours.index("red"), colours.index("nir"))
    )
    return (nir - red) / (nir + red) if nir + red > 0 else None


def choose(cells: list[Cell], steps: list[Step], pair: Pair) -> list[Place]:
    """About ten places, no two of one ground, the most telling first."""
    whole = [cell for cell in cells if cell.valid == 1] or cells
    wanted: list[tuple[str, Window]] = [("Seam", _around(step, pair)) for step in steps[:2]]
    wanted += _ranked("Most changed", whole, [cell.change for cell in whole], 2)
    if any(cell.uncertainty for cell in whole):
        wanted += _ranked("Most uncertain", whole, [cell.uncertainty for cell in whole], 2)
    wanted += _ranked(TYPICAL, whole, _typical(whole), 2)
    edges = [cell for cell in cells if 0.1 < cell.valid < 0.95]
    wanted += _ranked("Edge of nodata", edges, [-abs(cell.valid - 0.5) for cell in edges], 2)
    wanted += _by_cover(whole)
    wanted += _ranked("Richest texture", whole, [cell.texture for cell in whole], 1)
    wanted += _ranked("Smoothest ground", whole, [-cell.texture for cell in whole], 1)
    wanted += _ranked("Brightest ground", whole, [cell.light for cell in whole], 1)
    wanted += _ranked("Darkest ground", whole, [-cell.light for cell in whole], 1)
    chosen: list[Place] = []
    for title, window in wanted:
        if len(chosen) < MOST and not any(_share_ground(window, other.window) for other in chosen):
            chosen.append(Place(title, window))
    return chosen


def _by_cover(cells: list[Cell]) -> list[tuple[str, Window]]:
    """Vegetation and water, where near infrared tells them."""
    known = [(cell, cell.green) for cell in cells if cell.green is not None]
    found = []
    # NDVI: vegetation from about 0.4, water below 0.
    if known and (most := max(known, key=lambda pair: pair[1]))[1] > 0.4:
        found.append(("Vegetation", most[0].window))
    if known and (least := min(known, key=lambda pair: pair[1]))[1] < 0:
        found.append(("Water", least[0].window))
    return found


def _ranked(title: str, cells: list[Cell], scores: list[float], count: int) -> list[tuple[str, Window]]:
    order = sorted(range(len(cells)), key=lambda n: -scores[n])[:count]
    return [(title, cells[n].window) for n in order]


def _typical(cells: list[Cell]) -> list[float]:
    """Nearness of each place to the median of all, in units of what is usual."""
    numbers: NDArray[np.float64] = np.array([(cell.change, cell.texture, cell.light) for cell in cells])
    if not len(numbers):
        return []
    middle = np.median(numbers, axis=0)
    usual = np.median(np.abs(numbers - middle), axis=0) + 1e-9
    return [-float(off) for off in np.abs((numbers - middle) / usual).sum(1)]


def _around(step: Step, pair: Pair) -> Window:
    side = _side(pair)
    height, width = min(side, pair.height), min(side, pair.width)
    row = step.row - (height // 2 if step.down else 0)
    col = step.col - (0 if step.down else width // 2)
    return Window(min(max(row, 0), pair.height - height), min(max(col, 0), pair.width - width), height, width)


def _share_ground(one: Window, other: Window) -> bool:
    rows = min(one.row_stop, other.row_stop) - max(one.row, other.row)
    cols = min(one.col_stop, other.col_stop) - max(one.col, other.col)
    return rows > 0 and cols > 0 and rows * cols > 0.25 * one.height * one.width
