"""Pictures of coarse bands before and after they were sharpened, side by side.

    python benchmarks/quality/multires_pictures.py OUT.jpg COARSE.tif SHARPENED.tif --bands B12,B11,B8A [--crop COL ROW SIDE] [--zoom 2]

COARSE is drawn with its own pixels. CROP counts pixels of SHARPENED. Both have the same stretch: from the percentile 1 to 99 of
COARSE, band by band.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image


def bands_of(path: Path, names: list[str]) -> NDArray[np.float64]:
    """The named bands, shape (3, h, w)."""
    with rasterio.open(path) as source:
        numbers = [source.descriptions.index(name) + 1 for name in names]
        values: NDArray[np.float64] = source.read(numbers).astype(np.float64)
    return values


def main() -> None:
    """Read the command line and write the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("coarse", type=Path)
    parser.add_argument("sharpened", type=Path)
    parser.add_argument("--bands", required=True, help="red, green and blue; one band for grey")
    parser.add_argument("--crop", type=int, nargs=3, metavar=("COL", "ROW", "SIDE"), default=(0, 0, 300))
    parser.add_argument("--zoom", type=int, default=2)
    options = parser.parse_args()
    names = options.bands.split(",") * (3 if "," not in options.bands else 1)
    coarse, sharpened = bands_of(options.coarse, names), bands_of(options.sharpened, names)
    low, high = np.percentile(coarse, [1, 99], axis=(1, 2))[:, :, None, None]
    ratio = sharpened.shape[1] // coarse.shape[1]
    col, row, side = options.crop
    halves = []
    for image in (coarse.repeat(ratio, 1).repeat(ratio, 2), sharpened):
        part = image[:, row : row + side, col : col + side]
        shown = ((part - low) / (high - low)).clip(0, 1) * 255
        halves.append(shown.astype(np.uint8).repeat(options.zoom, 1).repeat(options.zoom, 2))
    gap = np.full((3, halves[0].shape[1], 8), 255, np.uint8)
    picture = np.concatenate([halves[0], gap, halves[1]], axis=2).transpose(1, 2, 0)
    Image.fromarray(picture).save(options.out, quality=88)


if __name__ == "__main__":
    main()
