"""The seam measure: roughness across the borders of tiles, relative to roughness elsewhere."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any, TypeGuard

import numpy as np

from geosegsr.evaluation.enlarge import Enlarger
from geosegsr.evaluation.metrics import Image
from geosegsr.imagery.sources import SceneSource
from geosegsr.raster.nodata import fill_invalid
from geosegsr.raster.radiometry import Radiometry
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation
from geosegsr.tiling.grid import Axis

_SEAM_SIDE = 4096  # side of the measured part, in hr pixels


def seam_ratio(image: Image, rows: Sequence[int], cols: Sequence[int]) -> float:
    """Roughness of an image across the borders of its tiles, relative to roughness elsewhere.

    Roughness is the mean square of the jump between two neighbouring pixels, less the slope on either side: a
    third-order difference, which ignores level, slope and curvature.

    Args:
        image: Shape (C, H, W).
        rows: First rows below a border; borders too close to an edge are left out.
        cols: First columns right of a border.

    Returns:
        About 1 without visible seams, more with them; NaN without borders.
    """
    at: list[Any] = []
    inside: list[Any] = []
    for axis, borders in ((-2, rows), (-1, cols)):
        jumps = _jumps(image, axis)
        wanted = sorted({border - 2 for border in borders if 2 <= border <= image.shape[axis] - 2})
        elsewhere = np.setdiff1d(np.arange(len(jumps)), [w + near for w in wanted for near in (-1, 0, 1)])
        if wanted and len(elsewhere):
            at.extend(jumps[wanted])
            inside.append(jumps[elsewhere].mean())
    if not at:
        return math.nan
    return float(np.mean(at) / max(float(np.mean(inside)), 1e-20))


def _jumps(image: Image, axis: int) -> Image:
    """Mean square jump between pixels i + 1 and i + 2 of an axis, for every i."""
    moved = np.moveaxis(image.astype(np.float64), axis, 0)
    step = np.diff(moved, axis=0)
    jump = step[1:-1] - (step[:-2] + step[2:]) / 2
    return np.asarray((jump**2).reshape(len(jump), -1).mean(axis=1))


def file_seam(
    result: Scene, radiometry: Radiometry, scale: int, tile: int | None, overlap: int | None
) -> float | None:
    """The seam measure of a file; None if its tiles are not known or have no border.

    Args:
        result: The file.
        radiometry: From DN to the model's range.
        scale: Output pixels per input pixel.
        tile: Side of its tiles, in lr pixels; by default as its tags say.
        overlap: Pixels that they share, in lr pixels; by default as its tags say.
    """
    options = tagged_options(result)
    sides = options.get("tile") if tile is None else [tile, tile]
    overlap = options.get("overlap", 0) if overlap is None else overlap
    if not _are_counts(sides, 2, 1) or not _are_counts([overlap], 1, 0):
        return None
    lengths = (result.height // scale, result.width // scale)
    axes = [
        Axis(length, side, min(overlap, side - 1), 0, 0, length)
        for length, side in zip(lengths, reversed(sides), strict=True)
    ]
    area = Window(0, 0, min(result.height, _SEAM_SIDE), min(result.width, _SEAM_SIDE))
    values, valid = result.read(area)
    if not valid.all():
        values = fill_invalid(values, valid)
    return _at_borders(radiometry.to_model(values), axes, scale)


def model_seam(enlarger: Enlarger, sources: Sequence[SceneSource], degradation: Degradation) -> float | None:
    """The seam measure of a model on the largest image that takes several of its tiles.

    Returns:
        As of `seam_ratio`; None where no image is that large.
    """
    facts = enlarger.upscaler.facts
    sides = {source: (source.scene.height, source.scene.width) for source in sources}
    large = [source for source in sources if max(sides[source]) // facts.scale > facts.tile]
    if not large:
        return None
    source = max(large, key=lambda candidate: math.prod(sides[candidate]))
    height, width = (min(side, _SEAM_SIDE) // facts.scale * facts.scale for side in sides[source])
    patch = source.cut(Window(0, 0, height, width), degradation, np.random.default_rng(0))
    sr, grid = enlarger.render(source, patch.lr)
    return _at_borders(sr, (grid.rows, grid.cols), facts.scale)


def _at_borders(image: Image, axes: Sequence[Axis], scale: int) -> float | None:
    """The seam measure at the first pixels of tiles and behind their last ones; None where there is no border."""
    borders = []
    for axis in axes:
        starts, ends = axis.origins[1:], (origin + axis.tile for origin in axis.origins[:-1])
        borders.append(sorted({place * scale for place in (*starts, *ends)}))
    found = seam_ratio(image, borders[0], borders[1])
    return None if math.isnan(found) else found


def _are_counts(values: Any, number: int, least: int) -> TypeGuard[list[int]]:
    return (
        isinstance(values, list)
        and len(values) == number
        and all(isinstance(value, int) and value >= least for value in values)
    )


def tagged_scale(result: Scene) -> int | None:
    """The scale of a result, as its tags say; None where they do not."""
    tagged = result.metadata.tags.get("GEOSEGSR_SCALE", "")
    return int(tagged) if tagged.isdigit() else None


def tagged_options(result: Scene) -> dict[str, Any]:
    """How a result was made, by its tags; empty where they are silent."""
    try:
        options = json.loads(result.metadata.tags.get("GEOSEGSR_OPTIONS", "{}"))
    except ValueError:
        return {}
    return options if isinstance(options, dict) else {}
