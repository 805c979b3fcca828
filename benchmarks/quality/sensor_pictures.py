"""Show what being told the sensor changes: bicubic, the network for clean scenes, and the default, side by side.

    python benchmarks/quality/sensor_pictures.py OUT.jpg SCENE [SCENE ...] [--scale 4] [--side 80]

One row a scene: the middle of it at 100 %, and the middle of that at 200 %. Values are stretched to the 1st and 99th
percentile of bicubic where they have more than 8 bits.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import geosegsr
from geosegsr.models.catalogue import bundled_checkpoint

GAP = 4
HEAD = 18


def windows_of(scene: Path, side: int, at: tuple[float, float]) -> tuple[int, int, int, int]:
    with rasterio.open(scene) as file:
        width, height = file.width, file.height
    side = min(side, width, height)
    return int((width - side) * at[0]), int((height - side) * at[1]), side, side


def enlarged(
    scene: Path, scale: int, window: tuple[int, int, int, int], model: str, **options: object
) -> NDArray[np.float64]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.tif"
        report = geosegsr.upscale(scene, out, scale, model, window=window, **options)
        print(scene.stem, model, report.sensor, flush=True)
        with rasterio.open(out) as file:
            return file.read([1, 2, 3] if file.count >= 3 else [1, 1, 1]).astype(np.float64)


def row_of(scene: Path, scale: int, side: int, at: tuple[float, float]) -> NDArray[np.uint8]:
    window = windows_of(scene, side, at)
    path = bundled_checkpoint(scale)
    clean = str(path.with_stem(f"{path.stem}-clean"))
    images = [
        enlarged(scene, scale, window, "bicubic"),
        enlarged(scene, scale, window, clean, sensor="bicubic", consistency=True),
        enlarged(scene, scale, window, "bundled"),
    ]
    low, high = np.percentile(images[0], [1, 99]) if images[0].max() > 255 else (0.0, 255.0)
    shown = [
        ((image - low) / (high - low) * 255).clip(0, 255).astype(np.uint8).transpose(1, 2, 0)
        for image in images
    ]
    edge = shown[0].shape[0] // 4
    close = [image[edge : 3 * edge, edge : 3 * edge].repeat(2, 0).repeat(2, 1) for image in shown]
    return np.hstack(
        [np.pad(image, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for image in (*shown, *close)]
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("scenes", type=Path, nargs="+")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--side", type=int, default=60, help="lr pixels shown of each scene.")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = [row_of(scene, args.scale, args.side, (0.5, 0.5)) for scene in args.scenes]
    body = np.vstack(rows)
    picture = Image.new("RGB", (body.shape[1], body.shape[0] + HEAD), "white")
    picture.paste(Image.fromarray(body), (0, HEAD))
    draw, cell = ImageDraw.Draw(picture), body.shape[1] // 6
    for number, text in enumerate(
        ("bicubic", "not told", "told", "bicubic, 200 %", "not told, 200 %", "told, 200 %")
    ):
        draw.text((number * cell + 4, 3), text, fill="black")
    picture.save(args.out, quality=88)


if __name__ == "__main__":
    main()
