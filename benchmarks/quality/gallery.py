"""Cut the pairs of docs/gallery.md: out of the pictures of other pages, and out of the sample scenes.

    python benchmarks/quality/gallery.py [docs]

Writes docs/gallery/NAME_before.jpg and NAME_after.jpg. The other pages' scripts come first: pictures.py,
sensor_pictures.py, multires_pictures.py.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from PIL import Image

import geosegsr

ROOT = Path(__file__).resolve().parents[2]
ZOOM = 2
"""Of pictures that show a pixel as a pixel, so that a browser need not smooth them."""
# Name: picture, left edges of before and after, top edge, side.
CUTS = {
    "town": ("town.png", 212, 424, 18, 208),
    "woodland": ("woodland.png", 212, 424, 18, 208),
    "coast": ("coast.png", 212, 424, 18, 208),
    "park": ("park.png", 212, 424, 18, 208),
    "jpeg": ("sensors.jpg", 0, 488, 18, 240),
    "ortho": ("sensors.jpg", 0, 488, 262, 240),
    "drone": ("sensors.jpg", 0, 488, 506, 240),
    "farmland": ("sensors.jpg", 0, 488, 750, 240),
    "landsat": ("sensors.jpg", 0, 488, 994, 240),
    "swir": ("sharpened_swir.jpg", 0, 528, 0, 520),
    "water_vapour": ("sharpened_b09.jpg", 0, 528, 0, 520),
}
# Name: sample scene and window of it.
SAMPLES = {"road": ("naip.tif", (40, 60, 110, 110)), "village": ("scene.tif", (130, 150, 110, 110))}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("docs", type=Path, nargs="?", default=ROOT / "docs")
    docs = parser.parse_args().docs
    (docs / "gallery").mkdir(exist_ok=True)
    for name, (picture, before, after, top, side) in CUTS.items():
        sheet = Image.open(docs / "pictures" / picture).convert("RGB")
        zoom = 1 if side > 300 else ZOOM
        for word, left in (("before", before), ("after", after)):
            part = sheet.crop((left, top, left + side, top + side))
            save(part.resize((side * zoom, side * zoom), Image.Resampling.NEAREST), docs, name, word)
    for name, (scene, window) in SAMPLES.items():
        for word, model in (("before", "bicubic"), ("after", "bundled")):
            save(enlarged(ROOT / "sample_data" / scene, model, window), docs, name, word)


def save(image: Image.Image, docs: Path, name: str, word: str) -> None:
    image.save(docs / "gallery" / f"{name}_{word}.jpg", quality=90, subsampling=0, optimize=True)


def enlarged(scene: Path, model: str, window: tuple[int, int, int, int]) -> Image.Image:
    """Part of a scene at four times its resolution."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "sr.tif"
        geosegsr.upscale(scene, target, 4, model, window=window)
        with rasterio.open(target) as found:
            return Image.fromarray(np.ascontiguousarray(found.read([1, 2, 3]).transpose(1, 2, 0)))


if __name__ == "__main__":
    main()
