"""Networks of other projects, with random weights, through the whole tool: one row of a table for each and scale.

    python benchmarks/quality/foreign.py --workdir FOLDER [--scales 2 4] [--only SwinIR]

Each is saved as its project saves it and given by its file. A float32 scene is upscaled in tiles and as a whole; a uint16
scene of odd sides with nodata is upscaled without a stop, and again with a stop after two blocks, and resumed.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "kits"))

from comparison import file_differences  # noqa: E402
from foreign_networks import NETWORKS, saved_foreign  # noqa: E402
from scene_factory import write_nodata, write_plain  # noqa: E402

import geosegsr  # noqa: E402
from geosegsr.models.catalogue import load_foreign  # noqa: E402
from geosegsr.pipeline.report import Progress  # noqa: E402

HEAD = (
    "| network | scale | halo, px | depends on the whole tile | tiled from untiled, of the largest value | blocks "
    "| mask of a scene with odd sides | blocks resumed | resumed alike | s |\n"
    "|---|---|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Trial:
    """One network at one scale, in a folder of its own."""

    kind: str
    scale: int
    folder: Path

    def row(self) -> str:
        """What it showed, as a row of the table."""
        began = time.process_time()
        model = saved_foreign(self.kind, self.folder, self.scale)
        found = load_foreign(model, device="cpu")
        halo, tile = found.facts.halo, 96
        difference, tiles = self.seam(model, tile)
        masked, resumed, alike = self.resume(model)
        return (
            f"| {self.kind} | {self.scale} | {halo} | {found.findings.unsettled:.0e} | {difference:.1e} | {tiles} | "
            f"{'right' if masked else 'WRONG'} | {resumed} | {'yes' if alike else 'NO'} | "
            f"{time.process_time() - began:.0f} |"
        )

    def seam(self, model: Path, tile: int) -> tuple[float, int]:
        """Largest difference between tiled and untiled, as a share of the largest value, and the number of tiles."""
        how = {"value_range": (0, 1), "sensor": "bicubic", "consistency": False}
        scene = write_plain(self.folder / "scene.tif", count=3, dtype="float32", size=(192, 160))
        tiled, whole = self.folder / "tiled.tif", self.folder / "whole.tif"
        report = geosegsr.upscale(
            scene, tiled, self.scale, model, tile=tile, block=128, overwrite=True, **how
        )
        geosegsr.upscale(scene, whole, self.scale, model, tile=192, overwrite=True, **how)
        a, b = pixels(tiled), pixels(whole)
        return float(np.abs(a - b).max() / max(1, np.abs(b).max())), report.blocks

    def resume(self, model: Path) -> tuple[bool, int, bool]:
        """Whether the mask is right, how many blocks a stopped run kept, and whether it became the undisturbed one."""
        scene = write_nodata(self.folder / "odd.tif", dtype="uint16", count=3, size=(157, 131), nodata=0)
        whole, again = self.folder / "odd_whole.tif", self.folder / "odd_again.tif"
        small = {"tile": 96, "block": 128, "overwrite": True}
        geosegsr.upscale(scene, whole, self.scale, model, **small)
        with rasterio.open(scene) as source, rasterio.open(whole) as result:
            before = source.read_masks(1).repeat(self.scale, 0).repeat(self.scale, 1)
            right = np.array_equal(result.read_masks(1), before) and result.nodata == 0

        def stop(event: Progress) -> None:
            if event.done >= 2:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            geosegsr.upscale(scene, again, self.scale, model, **small, progress=stop)
        report = geosegsr.upscale(scene, again, self.scale, model, **small)
        return right, report.blocks_resumed, not file_differences(again, whole)


def pixels(path: Path) -> NDArray[np.float32]:
    """All of a raster."""
    with rasterio.open(path) as file:
        return file.read()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--scales", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--only", default="", help="part of a name")
    args = parser.parse_args()
    print(HEAD)
    for kind in (kind for kind in NETWORKS if args.only in kind):
        for scale in args.scales:
            folder = args.workdir / f"{kind.replace(' ', '_')}-x{scale}"
            folder.mkdir(parents=True, exist_ok=True)
            print(Trial(kind, scale, folder).row(), flush=True)


if __name__ == "__main__":
    main()
