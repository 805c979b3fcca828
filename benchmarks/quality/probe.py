"""What a tower's features know of land cover: a linear probe, beside mean colours and chance, as a Markdown table.

    python benchmarks/quality/probe.py imagery                           # the tower of the bundled x4 model
    python benchmarks/quality/probe.py imagery --tower distilled.safetensors --tower mine.safetensors

`land_cover.tsv` lists images of the folder with the cover that was seen in the middle 256 x 256 pixels by eye: houses,
large buildings, roads and car parks, grass and crops, trees, bare ground and sand. Each is reduced four times by antialiased
bicubic, and the tower's features are averaged over it. A ridge regression on six indicators decides. It is fitted on all
places but one and tested on that one, for each place in turn, so that it cannot know a place or a camera. The figure is
the mean over covers of the share that is right.
"""

from __future__ import annotations

import argparse
import csv
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import numpy as np
import rasterio
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from geosegsr.models.checkpoint import load_checkpoint
from geosegsr.models.segsr.guidance import SemanticFeatures
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.sensor.degradation import imresize_down

SCALE, SIDE = 4, 256
RIDGE = 30.0
"""Weight of the penalty, for features of deviation one."""
LABELS = Path(__file__).with_name("land_cover.tsv")
BUNDLED = Path(str(files("geosegsr"))) / "weights" / "compact-x4.safetensors"

Table = NDArray[np.float64]


class Crop(NamedTuple):
    """A labelled image."""

    lr: NDArray[np.float32]
    """Red, green, blue, shape (3, 64, 64), in 0 to 1."""
    cover: str
    place: str


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="With the images that land_cover.tsv names.")
    parser.add_argument("--tower", type=Path, action="append", default=[], help="Tensors of a compact tower, or a checkpoint.")  # fmt: skip
    args = parser.parse_args()
    crops = read(args.folder)
    covers = sorted({crop.cover for crop in crops})
    print(f"{len(crops)} images, {len({crop.place for crop in crops})} places\n")
    print("| features | all | " + " | ".join(covers) + " |\n|---|---|" + "---|" * len(covers))
    print(f"| chance | {100 / len(covers):.0f} |" + " |" * len(covers))
    tables = {"mean colours": colours(crops), "mean and deviation of colours": colours(crops, deviation=True)}
    for path in [BUNDLED, *args.tower]:
        tables[path.stem] = pooled(tower(path), crops)
    for name, table in tables.items():
        right = recall(table, crops)
        shares = [f"{100 * right[cover]:.0f}" for cover in covers]
        print(f"| {name} | {100 * np.mean(list(right.values())):.0f} | {' | '.join(shares)} |", flush=True)


def read(folder: Path) -> list[Crop]:
    with LABELS.open() as lines:
        return [
            Crop(reduced(folder / row["image"]), row["cover"], row["place"])
            for row in csv.DictReader(lines, delimiter="\t")
        ]


def reduced(path: Path) -> NDArray[np.float32]:
    """The middle of an image, reduced and rounded to whole DN."""
    with rasterio.open(path) as scene:
        top, left = ((side - SIDE) // 2 for side in scene.shape)
        hr = scene.read([1, 2, 3], window=((top, top + SIDE), (left, left + SIDE)))
    lr = np.clip(np.rint(imresize_down(hr.astype(np.float32), SCALE)), 0, 255) / 255
    return lr.astype(np.float32)


def tower(path: Path) -> SemanticFeatures:
    """A checkpoint's tower, or the compact one with the tensors of a file."""
    with torch.no_grad():
        tensors = load_file(path)
        if any(name.startswith("features.") for name in tensors):
            return load_checkpoint(path)[0].merge_lora().features.eval()
        features = SeGSR(preset("compact", scale=SCALE)).features.eval()
        features.tower.vit.load_state_dict(tensors)
        return features


@torch.inference_mode()
def pooled(features: SemanticFeatures, crops: list[Crop]) -> Table:
    """Mean of a tower's features over each image, (images, D)."""
    local, _ = features(torch.from_numpy(np.stack([crop.lr for crop in crops])))
    return local.mean((1, 2)).double().numpy()


def colours(crops: list[Crop], *, deviation: bool = False) -> Table:
    lr = np.stack([crop.lr for crop in crops]).astype(np.float64)
    means = lr.mean((2, 3))
    return np.concatenate([means, lr.std((2, 3))], 1) if deviation else means


def recall(table: Table, crops: list[Crop]) -> dict[str, float]:
    """Share of each cover's images whose cover is found, in places that were not learnt from."""
    cover = np.array([crop.cover for crop in crops])
    place = np.array([crop.place for crop in crops])
    found = np.empty_like(cover)
    for held in np.unique(place):
        away = place == held
        found[away] = decided(table[~away], cover[~away], table[away])
    return {str(c): float((found[cover == c] == c).mean()) for c in np.unique(cover)}


def decided(known: Table, cover: NDArray[np.str_], asked: Table) -> NDArray[np.str_]:
    """Covers of what is asked, by a ridge regression on what is known."""
    kinds, weights = ridge(known, cover)
    best: NDArray[np.str_] = kinds[np.argmax((asked - known.mean(0)) @ weights, 1)]
    return best


def ridge(known: Table, cover: NDArray[np.str_]) -> tuple[NDArray[np.str_], Table]:
    """The covers in alphabetical order, and the direction in which each lies from the mean of all features, (D, covers)."""
    deviation = known.std(0) + 1e-9
    x = (known - known.mean(0)) / deviation
    kinds = np.unique(cover)
    belongs = (cover[:, None] == kinds).astype(np.float64)
    target = belongs / np.sqrt(belongs.mean(0))  # so that rare covers count as much
    weights = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (target - target.mean(0)))
    return kinds, weights / deviation[:, None]


if __name__ == "__main__":
    main()
