"""Draw where a tower finds land covers in five images that no tower was trained on: one map for each tower and cover.

    python -m benchmarks.quality.tower_pictures imagery docs/pictures/tower.jpg --tower runs/tower/tower.safetensors

A map is what a prompt gives as guidance: how well the feature of each 16 x 16 pixels fits a vector. The vectors are those
that tell a cover from all others in a ridge regression on the labelled images of `probe.py`. Each map is black at its lowest
value over the five images, and white at its highest. The images are reduced twice; smaller ones show less ground.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from benchmarks.quality.probe import BUNDLED, Crop, pooled, read, ridge, tower
from geosegsr.models.segsr.guidance import SemanticFeatures
from geosegsr.sensor.degradation import imresize_down

SCENES = {"naip": 7, "aerial_eugene_or": 7, "drone": 0, "usgs": 2, "drone_copr_dunes_ca": 4}
"""Folder of val/, and which of its images in alphabetical order."""
COVERS = ("trees", "houses", "bare ground and sand")
SIDE, REDUCED, LABEL, GAP = 256, 2, 18, 4


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tower", type=Path, required=True, help="Tensors of a compact tower.")
    args = parser.parse_args()
    labelled = read(args.folder)
    scenes = [picture(args.folder / "val" / name, which) for name, which in SCENES.items()]
    columns = {"image": scenes}
    for name, path in {"bundled": BUNDLED, "distilled": args.tower}.items():
        for cover, maps in found(tower(path), labelled, scenes).items():
            columns[f"{name}: {cover.split(' and ')[0]}"] = maps
    sheet(columns).save(args.out, quality=80, optimize=True)


def picture(folder: Path, which: int) -> NDArray[np.uint8]:
    """The middle of an image, reduced: (3, SIDE / REDUCED, SIDE / REDUCED)."""
    path = sorted(p for p in folder.iterdir() if p.suffix in (".tif", ".webp"))[which]
    with rasterio.open(path) as scene:
        top, left = ((side - SIDE) // 2 for side in scene.shape)
        hr = scene.read([1, 2, 3], window=((top, top + SIDE), (left, left + SIDE)))
    return np.clip(np.rint(imresize_down(hr.astype(np.float32), REDUCED)), 0, 255).astype(np.uint8)


@torch.inference_mode()
def found(
    features: SemanticFeatures, labelled: list[Crop], scenes: list[NDArray[np.uint8]]
) -> dict[str, list[NDArray[np.uint8]]]:
    """The maps of each cover, (3, R, Q), one for each scene."""
    kinds, weights = ridge(pooled(features, labelled), np.array([crop.cover for crop in labelled]))
    local, _ = features(torch.from_numpy(np.stack(scenes)).float() / 255)  # (scenes, R, Q, D)
    maps = local.double().numpy() @ weights
    low, high = maps.min((0, 1, 2)), maps.max((0, 1, 2))
    grey = (255 * (maps - low) / (high - low)).astype(np.uint8)
    return {
        cover: [np.repeat(m[None, ..., list(kinds).index(cover)], 3, 0) for m in grey] for cover in COVERS
    }


def sheet(columns: dict[str, list[NDArray[np.uint8]]]) -> Image.Image:
    side = SIDE // REDUCED
    rows = len(SCENES)
    whole = Image.new("RGB", (len(columns) * (side + GAP) - GAP, LABEL + rows * (side + GAP) - GAP), "white")
    pen, font = ImageDraw.Draw(whole), ImageFont.load_default(12)
    for number, (label, images) in enumerate(columns.items()):
        pen.text((number * (side + GAP) + 2, 1), label, fill="black", font=font)
        for row, image in enumerate(images):
            small = Image.fromarray(np.ascontiguousarray(image.transpose(1, 2, 0)))
            whole.paste(small.resize((side, side), Image.Resampling.BICUBIC), (number * (side + GAP), LABEL + row * (side + GAP)))  # fmt: skip
    return whole


if __name__ == "__main__":
    main()
