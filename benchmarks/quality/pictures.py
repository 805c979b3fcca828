"""Draw what a model makes of images that it never saw: lr, bicubic, the model, the truth, each pixel one pixel.

    python benchmarks/quality/pictures.py IMAGERY OUT [--model FILE] [--scale 4]

Writes OUT/<land cover>.png for four land covers of IMAGERY/val.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import geosegsr
from geosegsr.sensor.degradation import imresize_down

# Land cover: file, row and column of the crop in the truth.
PLACES = {
    "town": ("val/naip/{}", 40, 40),
    "woodland": ("val/neon/{}", 100, 100),
    "coast": ("val/usgs/{}", 200, 300),
    "park": ("val/drone/{}", 200, 400),
}
CHOSEN = {"town": 5, "woodland": 3, "coast": 1, "park": 1}
SIDE = 208
LABEL = 18
GAP = 4

Picture = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("imagery", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--scale", type=int, default=4)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for cover, (pattern, row, col) in PLACES.items():
        folder = args.imagery / Path(pattern).parent
        path = sorted(p for p in folder.iterdir() if p.suffix in (".tif", ".png"))[CHOSEN[cover]]
        sheet = draw(path, row, col, args.model, args.scale)
        sheet.save(args.out / f"{cover}.png", optimize=True)
        print(f"{cover}: {path.parent.name}/{path.name}")


def draw(path: Path, row: int, col: int, model: str, scale: int) -> Image.Image:
    """lr, bicubic, model and truth of one place, side by side."""
    with rasterio.open(path) as scene:
        hr = scene.read([1, 2, 3])
    height, width = (side // scale * scale for side in hr.shape[1:])
    hr = hr[:, :height, :width]
    lr = np.clip(np.rint(imresize_down(hr.astype(np.float32), scale)), 0, 255).astype(np.uint8)
    side = min(SIDE, height, width)
    top, left = (min(at, end - side) // scale * scale for at, end in ((row, height), (col, width)))
    views = {
        "input": np.repeat(np.repeat(lr, scale, axis=1), scale, axis=2),
        "bicubic": enlarged(lr, "bicubic", scale),
        "geosegsr": enlarged(lr, model, scale),
        "truth": hr,
    }
    sheet = Image.new("RGB", (4 * side + 3 * GAP, side + LABEL), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for number, (label, image) in enumerate(views.items()):
        x = number * (side + GAP)
        crop = image[:, top : top + side, left : left + side]
        sheet.paste(Image.fromarray(np.ascontiguousarray(crop.transpose(1, 2, 0))), (x, LABEL))
        pen.text((x + 2, 1), label, fill="black", font=font)
    return sheet


def enlarged(lr: Picture, model: str, scale: int) -> Picture:
    """Through files, as a user would."""
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "lr.tif", Path(folder) / "sr.tif"
        with rasterio.open(
            source, "w", driver="GTiff", width=lr.shape[2], height=lr.shape[1], count=3, dtype="uint8",
            crs="EPSG:32611", transform=rasterio.Affine(1, 0, 500_000, 0, -1, 4_000_000), photometric="RGB",
        ) as out:  # fmt: skip
            out.write(lr)
        geosegsr.upscale(source, target, scale, model)
        with rasterio.open(target) as found:
            image: Picture = found.read([1, 2, 3])
    return image


if __name__ == "__main__":
    main()
