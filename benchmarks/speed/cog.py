"""CPU, wall time and peak memory of a result that is all writing, against GDAL's own cubic, in pairs.

    python benchmarks/speed/cog.py --workdir FOLDER                      2000 x 2000 pixels, x4, three pairs
    python benchmarks/speed/cog.py --workdir FOLDER --side 4000 --pairs 2

Both read one synthetic scene (uint8, three bands) and write a COG with the same creation options, each in a process of its
own, by turns. CPU is user and system time of the process and its children, the start of Python included.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import rasterio
import rasterio.shutil
from memory import GEOSEGSR, LAYOUT, ROOT, SAMPLE, commit, machine, own_peak
from rasterio.transform import Affine
from rasterio.windows import Window

from geosegsr.raster.cog_options import DEFAULT_OPTIONS

SCALE = 4


@dataclass(frozen=True)
class Spent:
    """What one run took."""

    cpu: float
    """Seconds, user and system."""
    wall: float
    """Seconds."""
    peak: float
    """Resident memory of the largest process, in MB."""


def write_scene(path: Path, side: int) -> None:
    """The sample side by side, brightened a little differently in each copy."""
    with rasterio.open(SAMPLE) as sample:
        pixels = sample.read().astype(np.float32)
        profile = {"crs": sample.crs, "transform": sample.transform, "count": sample.count}
    pixels *= 220 / pixels.max()
    rng = np.random.default_rng(side)
    rows, cols = pixels.shape[1:]
    with rasterio.open(
        path, "w", driver="GTiff", dtype="uint8", height=side, width=side, photometric="RGB", **profile, **LAYOUT
    ) as target:  # fmt: skip
        for top in range(0, side, rows):
            for left in range(0, side, cols):
                part = pixels[:, : side - top, : side - left] * rng.uniform(0.9, 1.1)
                window = Window(left, top, part.shape[2], part.shape[1])
                target.write(np.rint(part).astype(np.uint8), window=window)


def translate(source: Path, target: Path) -> None:
    """A VRT that resamples by cubic, copied to a COG: what gdal_translate -r cubic -outsize 400% 400% -of COG does."""
    with rasterio.open(source) as scene:
        size = f'xOff="0" yOff="0" xSize="{scene.width}" ySize="{scene.height}"'
        width, height = scene.width * SCALE, scene.height * SCALE
        transform = ", ".join(map(repr, (scene.transform * Affine.scale(1 / SCALE)).to_gdal()))
        bands = "".join(
            f'<VRTRasterBand dataType="Byte" band="{band}"><ColorInterp>{colour.name}</ColorInterp>'
            f'<SimpleSource resampling="cubic"><SourceFilename>{source.resolve()}</SourceFilename>'
            f'<SourceBand>{band}</SourceBand><SrcRect {size}/><DstRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            "</SimpleSource></VRTRasterBand>"
            for band, colour in zip(scene.indexes, scene.colorinterp, strict=True)
        )
        place = f"<SRS>{scene.crs.to_string()}</SRS><GeoTransform>{transform}</GeoTransform>"
    vrt = target.with_suffix(".vrt")
    vrt.write_text(f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">{place}{bands}</VRTDataset>')
    rasterio.shutil.copy(vrt, target, driver="COG", **DEFAULT_OPTIONS)
    vrt.unlink()


def spent(command: list[str], target: Path) -> Spent:
    """Run a command in a process of its own, and delete what it made."""
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        peak = own_peak(process.pid)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    target.unlink()
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(cpu, wall, peak / 1e6)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--gdal", type=Path, nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.gdal:
        translate(*args.gdal)
        return
    source, target = args.workdir / "cog_scene.tif", args.workdir / "cog_result.tif"
    write_scene(source, args.side)
    ours = [
        *GEOSEGSR,
        "upscale",
        str(source),
        "-o",
        str(target),
        "--scale",
        str(SCALE),
        "--model",
        "bicubic",
        "-q",
    ]
    theirs = [sys.executable, __file__, "--workdir", str(args.workdir), "--gdal", str(source), str(target)]
    print(
        f"{args.side * SCALE} x {args.side * SCALE}, uint8, 3 bands. {machine()}. {date.today()}, commit {commit()}."
    )
    print("| tool | CPU s | wall s | peak MB |\n|---|---|---|---|")
    found: dict[str, list[Spent]] = {"geosegsr": [], "GDAL": []}
    for _ in range(args.pairs):
        for name, command in (("geosegsr", ours), ("GDAL", theirs)):
            one = spent(command, target)
            found[name].append(one)
            print(f"| {name} | {one.cpu:.2f} | {one.wall:.1f} | {one.peak:.0f} |", flush=True)
    ratios = [
        statistics.median(
            a / b
            for a, b in zip(*([getattr(one, what) for one in runs] for runs in found.values()), strict=True)
        )
        for what in ("cpu", "wall", "peak")
    ]
    print("| median of the ratios | " + " | ".join(f"{ratio:.2f}" for ratio in ratios) + " |")
    source.unlink()


if __name__ == "__main__":
    main()
