"""PSNR by distance from a scene's border, and what other pixels beyond it would change.

    python benchmarks/quality/border.py FOLDER [--scale 4] [--model bundled] [--images 20]

Small scenes are cut from the images of FOLDER after their reduction, so that what lies beyond their borders is known. Each
is enlarged on its own ("as it is"), with copies of itself beyond its border ("symmetric", "reflect", "edge"), and with the
pixels that really are there ("truth"), which no scene has: the most that anything at the border could gain.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from geosegsr.models.catalogue import resolve_upscaler
from geosegsr.models.contract import Upscaler, for_sensor
from geosegsr.models.segsr.config import BICUBIC
from geosegsr.sensor.degradation import imresize_down

SIDE, MARGIN = 32, 16
"""Of a scene, and of what lies around it, in lr pixels."""
DISTANCES = (0, 1, 2, 4, 8, SIDE // 2)
"""Where the bands of the table begin and end, in lr pixels."""
BEYOND = ("as it is", "symmetric", "reflect", "edge", "truth")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--images", type=int, default=20, help="at most so many of the folder")
    args = parser.parse_args()
    bicubic = resolve_upscaler("bicubic", args.scale)
    model = for_sensor(resolve_upscaler(args.model, args.scale, device="cpu"), BICUBIC)
    ways = {"bicubic": (bicubic, "as it is"), **{beyond: (model, beyond) for beyond in BEYOND}}
    squares = {name: np.zeros(len(DISTANCES) - 1) for name in ways}
    rings = _rings(args.scale)
    scenes = 0
    for wide, hr in _scenes(sorted(args.folder.glob("*.tif"))[: args.images], args.scale):
        scenes += 1
        for name, (upscaler, beyond) in ways.items():
            error = np.square(_enlarged(upscaler, wide, beyond) - hr).mean(axis=0)
            squares[name] += [error[ring].mean() for ring in rings]
    print(
        f"{scenes} scenes of {SIDE} x {SIDE} lr pixels, x{args.scale}, {args.model}; PSNR in dB by distance in lr pixels"
    )
    spans = [f"{first}-{last}" for first, last in pairwise(DISTANCES)]
    print(f"{'beyond the border':18}", *(f"{span:>7}" for span in spans))
    for name, sums in squares.items():
        print(f"{name:18}", *(f"{-10 * math.log10(total / scenes):7.3f}" for total in sums))


def _scenes(paths: list[Path], scale: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Scenes with what lies around them, and their truth: (C, SIDE + 2 * MARGIN, same) and (C, scale * SIDE, same), 0 to 1."""
    step = SIDE + MARGIN
    for path in paths:
        with rasterio.open(path) as source:
            image = source.read([1, 2, 3])
        rows, cols = (side // scale * scale for side in image.shape[1:])
        hr = image[:, :rows, :cols].astype(np.float32) / np.iinfo(image.dtype).max
        lr = np.rint(np.clip(imresize_down(hr, scale), 0, 1) * 255).astype(np.float32) / 255
        for row in range(MARGIN, lr.shape[1] - SIDE - MARGIN + 1, step):
            for col in range(MARGIN, lr.shape[2] - SIDE - MARGIN + 1, step):
                wide = lr[:, row - MARGIN : row + SIDE + MARGIN, col - MARGIN : col + SIDE + MARGIN]
                fine = (slice(row * scale, (row + SIDE) * scale), slice(col * scale, (col + SIDE) * scale))
                yield wide, hr[(slice(None), *fine)]


def _enlarged(upscaler: Upscaler, wide: NDArray[np.float32], beyond: str) -> NDArray[np.float32]:
    """A scene as its file would hold it, (C, scale * SIDE, same)."""
    core = slice(MARGIN, -MARGIN)
    lr, margin = wide, MARGIN
    if beyond == "as it is":
        lr, margin = wide[:, core, core], 0
    elif beyond != "truth":
        mode: Any = beyond
        lr = np.pad(wide[:, core, core], ((0, 0), (MARGIN, MARGIN), (MARGIN, MARGIN)), mode=mode)
    sr = upscaler(np.ascontiguousarray(lr)[None])[0]
    cut = margin * upscaler.facts.scale
    inner = sr[:, cut : sr.shape[1] - cut, cut : sr.shape[2] - cut]
    kept: NDArray[np.float32] = (np.rint(np.clip(inner, 0, 1) * 255) / 255).astype(np.float32)
    return kept


def _rings(scale: int) -> list[NDArray[np.bool_]]:
    """Where each band of distances lies, in hr pixels of a scene."""
    along = np.minimum(np.arange(SIDE * scale), np.arange(SIDE * scale)[::-1]) // scale
    distance = np.minimum(along[:, None], along)
    return [(distance >= first) & (distance < last) for first, last in pairwise(DISTANCES)]


if __name__ == "__main__":
    main()
