"""Whether a sharpened result shows the borders of its blocks, beside its input at the same places.

    python benchmarks/quality/multires_seams.py RESULT.tif --block 1024 [--bands B07,B8A] [--ratio 6]

Jumps between neighbouring pixels, as in `geosegsr.evaluation.seams`, are compared across the borders of blocks and across
all other lines that lie alike in coarse pixels of RATIO x RATIO: a border of a coarse pixel is not the same as its middle.
Printed for each band: the ratio, 1 without seams, and how far it varies where there are no borders, as the standard deviation
of the same mean over lines drawn by chance. Bands of the finest raster are the input itself: their ratio is that of the ground.
The last number is that of the coarse pixels' own borders, relative to the lines inside them.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.windows import Window

_STRIP = 600
_DRAWS = 500


def jumps(values: NDArray[Any], axis: int) -> NDArray[np.float64]:
    """Mean square jump before each line of an axis, NaN before the first two lines and the last; see `seam_ratio`."""
    moved = np.moveaxis(values.astype(np.float32), axis, 0)
    step = np.diff(moved, axis=0)
    jump = step[1:-1] - (step[:-2] + step[2:]) / 2
    found = np.full(len(moved), np.nan)
    found[2:-1] = np.square(jump).mean(1, dtype=np.float64)
    return found


def lines(source: rasterio.DatasetReader, band: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean square jumps before each row, and before each column."""
    down, across = np.full(source.height, np.nan), np.zeros(source.width)
    for top in range(0, source.height, _STRIP):
        first, last = max(top - 2, 0), min(top + _STRIP + 1, source.height)
        values = source.read(band, window=Window(0, first, source.width, last - first))
        found = jumps(values, 0)
        known = np.flatnonzero(~np.isnan(found))
        down[first + known] = found[known]
        own = values[top - first : top - first + _STRIP]
        across += jumps(own, 1) * len(own) / source.height
    return down, across


def ratio_at(found: NDArray[np.float64], borders: NDArray[np.int_], ratio: int) -> NDArray[np.float64]:
    """Jump before each border, relative to the mean before other lines of the same place in coarse pixels."""
    other = np.ones(len(found), dtype=bool)
    other[borders] = False
    phase = np.arange(len(found)) % ratio
    usual = np.array([np.nanmean(found[other & (phase == place)]) for place in range(ratio)])
    relative = found / usual[phase]
    return relative[borders]


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("result")
    parser.add_argument("--block", type=int, required=True, help="side of a block, in pixels of the result")
    parser.add_argument("--bands", help="by name (all)")
    parser.add_argument("--ratio", type=int, default=6, help="of the coarsest pixels (6)")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    with rasterio.open(options.result) as source:
        for name in options.bands.split(",") if options.bands else source.descriptions:
            at, chance, grid = [], [], []
            for found in lines(source, source.descriptions.index(name) + 1):
                borders = np.arange(options.block, len(found) - 1, options.block)
                at.append(ratio_at(found, borders, options.ratio))
                inside = np.arange(len(found)) % options.ratio != 0
                grid.append(np.nanmean(found[~inside]) / np.nanmean(found[inside]))
                drawn = rng.integers(3, len(found) - 1, (_DRAWS, len(borders)))
                chance.append(
                    np.nanmean(np.stack([ratio_at(found, draw, options.ratio) for draw in drawn]), axis=1)
                )
            print(
                f"{name}: {np.concatenate(at).mean():.3f}, by chance {np.mean(chance):.3f} +- {np.mean(chance, 0).std():.3f}, coarse pixels {np.mean(grid):.3f}"
            )


if __name__ == "__main__":
    main()
