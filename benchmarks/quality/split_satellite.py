"""Cut satellite scenes into ground to train on and ground to validate on.

    python benchmarks/quality/split_satellite.py IMAGERY/train/satellite OUT

Writes OUT/train and OUT/val. Of each scene the lower or right third is for validation; what is too small to be cut
is for validation as a whole. The two dates of one place are cut along the same line.
"""

from __future__ import annotations

import sys
from pathlib import Path

import rasterio
from rasterio.windows import Window
from rasterio.windows import transform as transform_of

SMALLEST = 256  # pixels; a shorter side leaves no room for patches
SHARE = 2 / 3


def main(source: Path, out: Path) -> None:
    for path in sorted(source.glob("*.tif")):
        with rasterio.open(path) as scene:
            width, height = scene.width, scene.height
        if min(width, height) < SMALLEST:
            parts = {"val": Window(0, 0, width, height)}
        elif height >= width and height != width:
            cut = int(height * SHARE) // 24 * 24
            parts = {"train": Window(0, 0, width, cut), "val": Window(0, cut, width, height - cut)}
        else:
            cut = int(width * SHARE) // 24 * 24
            parts = {"train": Window(0, 0, cut, height), "val": Window(cut, 0, width - cut, height)}
        for name, window in parts.items():
            write(path, out / name / path.name, window)
            print(f"{name}/{path.name}: {window.width} x {window.height}")


def write(source: Path, target: Path, window: Window) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(source) as scene:
        profile = {
            **scene.profile,
            "driver": "GTiff",
            "width": window.width,
            "height": window.height,
            "transform": transform_of(window, scene.transform),
            "compress": "deflate",
        }
        for key in ("tiled", "blockxsize", "blockysize", "interleave"):
            profile.pop(key, None)
        with rasterio.open(target, "w", **profile) as cut:
            cut.write(scene.read(window=window))
            cut.descriptions = scene.descriptions


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
