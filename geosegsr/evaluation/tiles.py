"""Images cut into the tiles that are measured one by one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from geosegsr.errors import SceneError
from geosegsr.imagery.sources import PairSource, Patch, SceneSource, Source
from geosegsr.raster.window import Window
from geosegsr.sensor.degradation import Degradation

LONGEST = 1024
"""Longest side of what is measured at once, in hr pixels."""
_LEAST_VALID = 0.5
"""Share of valid pixels below which a tile is left out."""


def cut_tiles(source: Source, side: int, scale: int, degradation: Degradation) -> Iterator[Patch]:
    """Tiles without overlap that cover an image and are at least half valid.

    Args:
        source: The image or pair.
        side: Their longest side, in hr pixels.
        scale: hr pixels per lr pixel.
        degradation: Makes the input of an image.

    Raises:
        SceneError: The image is too small, cannot be read, or has no such tile.
    """
    if isinstance(source, SceneSource):
        height, width = source.scene.height // scale * scale, source.scene.width // scale * scale
    else:
        assert isinstance(source, PairSource)
        height, width = source.pair.hr.shape[1:]
    if min(height, width) < 4 * scale:
        raise SceneError(
            f"Cannot evaluate on '{source.name}': it has {width} x {height} pixels, and at least {4 * scale} along each "
            "side are needed. Leave it out."
        )
    found = False
    for number, window in enumerate(windows(height, width, side, scale)):
        patch = source.cut(window, degradation, np.random.default_rng(number))
        if is_measured(patch):
            found = True
            yield patch
    if not found:
        raise SceneError(
            f"Cannot evaluate on '{source.name}': it has no tile that is at least half valid. Leave it out."
        )


def is_measured(patch: Patch) -> bool:
    """Whether enough of a tile is valid."""
    return bool(patch.valid.mean() >= _LEAST_VALID)


def windows(height: int, width: int, side: int, scale: int) -> list[Window]:
    """Windows without overlap, of about one size and at most `side`, on the lr grid; all in hr pixels."""
    most = max(side // scale, 1)
    rows, cols = (_cuts(length // scale, most) for length in (height, width))
    return [Window(a, c, b - a, d - c).scaled(scale) for a, b in rows for c, d in cols]


def _cuts(length: int, most: int) -> list[tuple[int, int]]:
    pieces = max(1, -(-length // most))
    return [(k * length // pieces, (k + 1) * length // pieces) for k in range(pieces)]
