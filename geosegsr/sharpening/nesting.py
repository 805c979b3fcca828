"""How the pixels of a guide divide those of a coarse raster.

coarse   +-------+-------+        ratio 2; the guide begins one fine row and three fine columns in
         |   |   |   | g |
         |---+---|---+---|        row 1, col 3
         |   |   |   | g |
         +-------+-------+
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from affine import Affine
from numpy.typing import NDArray

from geosegsr.errors import SceneError
from geosegsr.raster.window import Window

MOST_RATIO = 12
"""Of the sides of a coarse pixel and of the guide's."""
_OFF_GRID = 0.02
"""Fine pixels that two grids may be apart: the rounding of their coordinates."""


@dataclass(frozen=True)
class Grid:
    """Where the pixels of a raster lie."""

    path: str
    """A name for messages."""
    height: int
    width: int
    transform: Affine | None
    """(col, row) of pixel corners to coordinates; None if there is none."""
    crs: Any


@dataclass(frozen=True)
class Nesting:
    """A guide's place on the fine grid: that of the coarse raster, each pixel divided."""

    ratio: int
    """Fine pixels per coarse pixel, along each side."""
    row: int
    """Row of the guide's first pixel, on the fine grid."""
    col: int
    """Its column."""
    height: int
    """Rows of the guide."""
    width: int
    """Columns of the guide."""
    half: bool = False
    """Whether the coarse raster lies half a fine pixel up and to the left of the fine grid, as in Landsat."""

    @classmethod
    def of(cls, coarse: Grid, guide: Grid, least: int = 2) -> Nesting:
        """Find the place from two grids.

        Args:
            coarse: Of the coarse raster.
            guide: Of the guide.
            least: The smallest ratio: 2 to sharpen, 1 to lay pixels over others.

        Raises:
            SceneError: The grids do not nest.
        """
        if coarse.transform is None and guide.transform is None:
            step = Affine.scale(guide.width / coarse.width, guide.height / coarse.height)
        elif coarse.transform is None or guide.transform is None or coarse.crs != guide.crs:
            raise _not_nested(
                coarse, guide, "they have different coordinate reference systems, or one has none"
            )
        else:
            step = ~guide.transform @ coarse.transform
        ratio = round(step.a)
        # How far the last pixels of the coarse raster are from where they would be on the divided grid.
        side = max(coarse.height, coarse.width)
        off = max(abs(step.a - ratio), abs(step.e - ratio), abs(step.b), abs(step.d)) * side
        if not least <= ratio <= MOST_RATIO or off > 0.5:
            raise _not_nested(
                coarse, guide, f"a pixel of the first covers {step.a:.6g} x {step.e:.6g} of the second"
            )
        col, row = -step.c, -step.f
        half = ratio % 2 == 0 and all(abs(side % 1 - 0.5) < _OFF_GRID for side in (row, col))
        if half:
            col, row = col - 0.5, row - 0.5
        if max(abs(row - round(row)), abs(col - round(col))) > _OFF_GRID:
            raise _not_nested(
                coarse,
                guide,
                f"their corners are {abs(row):.3g} rows and {abs(col):.3g} columns of the second apart",
            )
        nesting = cls(ratio, round(row), round(col), guide.height, guide.width, half)
        if nesting.read(Window(0, 0, coarse.height * ratio, coarse.width * ratio)) is None:
            raise _not_nested(coarse, guide, "they share no ground")
        return nesting

    def read(self, window: Window) -> Window | None:
        """The guide's own pixels in a window of the fine grid; None if there are none."""
        own = window.shifted(-self.row, -self.col)
        shared = own.intersection(Window(0, 0, self.height, self.width))
        return shared if shared.height > 0 and shared.width > 0 else None

    def spread(
        self, window: Window, values: NDArray[Any], valid: NDArray[np.bool_]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """What `read` named, on all of the window: invalid where the guide does not reach. Shapes (bands, h, w)."""
        part = self.read(window)
        shape = (len(values), window.height, window.width)
        if values.shape == shape:
            return values, valid
        all_values, all_valid = np.zeros(shape, values.dtype), np.zeros(shape, dtype=bool)
        if part is None:
            return all_values, all_valid
        place = (slice(None), *part.shifted(self.row - window.row, self.col - window.col).slices)
        all_values[place], all_valid[place] = values, valid
        return all_values, all_valid


def _not_nested(coarse: Grid, guide: Grid, found: str) -> SceneError:
    return SceneError(
        f"Cannot sharpen '{coarse.path}' by '{guide.path}': {found}. Needed are rasters of one coordinate reference "
        f"system, with 2 x 2 to {MOST_RATIO} x {MOST_RATIO} pixels of the guide in each coarse one. Bring the guide to such a "
        "grid first: gdalwarp -t_srs CRS -te XMIN YMIN XMAX YMAX -tr XRES YRES IN OUT."
    )
