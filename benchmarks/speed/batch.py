"""What many small scenes in one call take, against the model alone on the same pixels.

    python benchmarks/speed/batch.py
    OMP_NUM_THREADS=1 taskset -c 1 python benchmarks/speed/batch.py           # one core for all
    python benchmarks/speed/batch.py --preset segsr-rcan --scenes 10          # a larger network, with random weights

Scenes of 256 x 256 pixels, painted, three bands of 8 bits, go through geosegsr.batch.upscale_batch to verified COGs. Model
alone means: the model's call on the same pixels as float32 in memory, one scene after another. Loading the model and
importing what is needed are done before the clock starts. The two take turns, some scenes at a time, so that whatever else
the machine does meets both; the shares are of sums over all turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from scipy import ndimage

from geosegsr.models.catalogue import shared_upscaler
from geosegsr.models.contract import BUNDLED, Upscaler
from geosegsr.pipeline.batch import upscale_batch

STAGES = ("plan", "blocks", "blocks_read", "blocks_model", "blocks_blend", "blocks_write", "cog", "verify")


@dataclass
class Clock:
    """Seconds of one of the two."""

    wall: float = 0.0
    cpu: float = 0.0

    def time(self, work: Callable[[], None]) -> None:
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        self.wall += time.perf_counter() - wall
        self.cpu += time.process_time() - cpu


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--preset", help="a network with random weights instead")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--scenes", type=int, default=200)
    parser.add_argument("--side", type=int, default=256, help="of a scene, in pixels")
    parser.add_argument("--turns", type=int, default=5, help="the scenes are divided among so many")
    parser.add_argument("--workdir", type=Path, help="write the scenes and results into this folder")
    return parser.parse_args()


def main() -> int:
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory(dir=arguments.workdir) as folder:
        return compare(arguments, Path(folder))


def compare(arguments: argparse.Namespace, folder: Path) -> int:
    model = arguments.model
    if arguments.preset:
        model = str(random_checkpoint(folder / "random.safetensors", arguments.preset, arguments.scale))
    upscaler = shared_upscaler(model, arguments.scale)
    images = [painted(arguments.side, seed) for seed in range(arguments.scenes + 4)]
    sources = [write_scene(folder / f"{n:04d}.tif", image) for n, image in enumerate(images)]
    stages: Counter[str] = Counter()
    alone, batch = Clock(), Clock()

    def one_by_one(part: slice) -> None:
        for image in images[part]:
            upscaler(image[None].astype(np.float32) / 255)

    def as_batch(part: slice) -> None:
        for outcome in upscale_batch(
            [(str(source), source.with_suffix(".sr.tif")) for source in sources[part]], arguments.scale, model
        ):
            if outcome.report is None:
                raise SystemExit(f"{outcome.source}: {outcome.status} {outcome.error}")
            stages.update(outcome.report.seconds)

    warm = slice(arguments.scenes, None)
    one_by_one(warm)
    as_batch(warm)
    stages.clear()
    for part in np.array_split(np.arange(arguments.scenes), arguments.turns):
        turn = slice(int(part[0]), int(part[-1]) + 1)
        alone.time(lambda turn=turn: one_by_one(turn))
        batch.time(lambda turn=turn: as_batch(turn))
    return show(arguments, upscaler, alone, batch, stages)


def show(
    arguments: argparse.Namespace, upscaler: Upscaler, alone: Clock, batch: Clock, stages: Counter[str]
) -> int:
    import torch

    number, side = arguments.scenes, arguments.side
    print(
        f"{number} scenes of {side} x {side}, x{arguments.scale}, model {upscaler.facts.name}; "
        f"{len(os.sched_getaffinity(0))} cores, {torch.get_num_threads()} threads of torch\n"
    )
    print("| | scenes/s | s/scene | CPU s/scene |")
    print("|---|---|---|---|")
    for name, clock in (("model alone", alone), ("batch", batch)):
        print(
            f"| {name} | {number / clock.wall:.2f} | {clock.wall / number:.4f} | {clock.cpu / number:.4f} |"
        )
    print(
        f"\nthroughput of the batch: {alone.wall / batch.wall:.1%} of the model alone "
        f"(by CPU time {alone.cpu / batch.cpu:.1%})"
    )
    shown = ", ".join(f"{stage} {1000 * stages[stage] / number:.1f}" for stage in STAGES)
    print(f"ms a scene, waiting for each other included: {shown}")
    return 0


def random_checkpoint(path: Path, name: str, scale: int) -> Path:
    import torch

    from geosegsr.models.card import ModelCard
    from geosegsr.models.checkpoint import save_checkpoint
    from geosegsr.models.segsr.network import SeGSR, preset

    torch.manual_seed(0)
    network = SeGSR(preset(name, scale=scale))
    save_checkpoint(path, network, ModelCard.of(network.config, f"{name}, random"))
    return path


def painted(side: int, seed: int) -> NDArray[np.uint8]:
    """Hills, edges and grain; shape (3, side, side)."""
    rng = np.random.default_rng(seed)
    hills = ndimage.gaussian_filter(rng.standard_normal((3, side, side)), (0, 8, 8)) * 8
    fields = ndimage.zoom(rng.standard_normal((3, 8, 8)), (1, side / 8, side / 8), order=0)
    values = 120 + 25 * (hills + fields) + 4 * rng.standard_normal((3, side, side))
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def write_scene(path: Path, image: NDArray[np.uint8]) -> Path:
    bands, height, width = image.shape
    with rasterio.open(
        path, "w", driver="GTiff", count=bands, height=height, width=width, dtype=image.dtype, crs="EPSG:32633",
        transform=rasterio.Affine(10, 0, 463_200, 0, -10, 5_426_400), photometric="rgb", compress="deflate",
    ) as target:  # fmt: skip
        target.write(image)
    return path


if __name__ == "__main__":
    sys.exit(main())
