"""What it takes to sharpen a whole granule: the fits, and the pixels.

    python benchmarks/speed/sharpening.py 10m.tif 20m.tif 60m.tif [--side 10980] [--folder FOLDER] [--upscale SCALE]

The rasters, of one ground and from the finest to the coarsest, are mirrored into a granule of SIDE pixels, in tiled
GeoTIFFs in FOLDER. Printed are the processor's seconds, and the peak of this process so far.

With --upscale, the granule is a folder of single bands, and `geosegsr upscale` runs over all of it, with --model. Printed are
the time by stage, that of the processor, and the peak of its memory.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import rasterio
from memory import own_peak

from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sharpening.scene import SharpenedScene
from geosegsr.sharpening.stack import StackedScene

_STRIP = 512


def mirrored(source: Path, target: Path, side: int, only: int | None = None) -> Path:
    """A square raster of `side` pixels made of a small one, or of one of its bands, mirrored again and again."""
    numbers = [only] if only else None
    with rasterio.open(source) as small:
        profile, names, bands = small.profile, small.descriptions, small.read(numbers)
    names = names[only - 1 : only] if only else names
    bands = np.concatenate([bands, bands[:, ::-1]], 1)
    bands = np.concatenate([bands, bands[:, :, ::-1]], 2)
    profile.update(
        count=len(bands),
        height=side,
        width=side,
        tiled=True,
        blockxsize=_STRIP,
        blockysize=_STRIP,
        compress="deflate",
        zlevel=1,
    )
    cols = np.arange(side) % bands.shape[2]
    with rasterio.open(target, "w", **profile) as out:
        for row in range(0, side, _STRIP):
            rows = np.arange(row, min(row + _STRIP, side)) % bands.shape[1]
            out.write(bands[:, rows][:, :, cols], window=rasterio.windows.Window(0, row, side, len(rows)))
        out.descriptions = names
    return target


def upscaled(rasters: Sequence[Path], folder: Path, sides: Sequence[int], scale: int, model: str) -> None:
    """Run the whole of it in a process of its own, over a folder of single bands."""
    granule = folder / "granule"
    granule.mkdir(exist_ok=True)
    for path, side in zip(rasters, sides, strict=True):
        with rasterio.open(path) as raster:
            names = raster.descriptions
        for number, name in enumerate(names, 1):
            target = granule / f"granule_{name}.tif"
            if not target.exists():
                mirrored(path, target, side, number)
    code = (
        "import json, sys, geosegsr; report = geosegsr.upscale(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]);"
        "print(json.dumps({**report.seconds, 'bytes': report.bytes, 'blocks': report.blocks}))"
    )
    target = folder / f"x{scale}.tif"
    how = [sys.executable, "-W", "ignore", "-c", code, str(granule), str(target), str(scale)]
    command = [*how, "nearest" if scale == 1 else model]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        peak = own_peak(process.pid)
        said = process.communicate()[0].strip()
    if process.returncode:
        raise SystemExit("upscale failed")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(f"upscale --scale {scale}: {used.ru_utime + used.ru_stime:.0f} s of CPU, peak {peak / 1e9:.2f} GB")
    print(said)


@contextmanager
def measured(what: str) -> Iterator[None]:
    """Print what the block took."""
    before = resource.getrusage(resource.RUSAGE_SELF)
    yield
    after = resource.getrusage(resource.RUSAGE_SELF)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(f"{what}: {seconds:.1f} s of CPU, peak {after.ru_maxrss / 1e3:.0f} MB")


def main() -> None:
    """Read the command line, make the granule and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rasters", nargs="+", type=Path)
    parser.add_argument(
        "--side", type=int, default=10980, help="of the granule, in pixels of the finest raster"
    )
    parser.add_argument("--folder", type=Path, help="keeps the granule; by default it is removed")
    parser.add_argument("--upscale", type=int, metavar="SCALE", help="run all of it at this scale")
    parser.add_argument("--model", default="bundled", help="for scales above 1 (bundled)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.folder or Path(scratch)
        with rasterio.open(options.rasters[0]) as finest:
            width = finest.width
        if options.upscale:
            sides = []
            for path in options.rasters:
                with rasterio.open(path) as raster:
                    sides.append(options.side * raster.width // width)
            upscaled(options.rasters, folder, sides, options.upscale, options.model)
            return
        made = []
        for number, path in enumerate(options.rasters):
            with rasterio.open(path) as raster:
                side = options.side * raster.width // width
            target = folder / f"{number}.tif"
            made.append(target if target.exists() else mirrored(path, target, side))
        scene = Scene.open(made[0])
        for path in made[1:]:
            coarse = Scene.open(path)
            with measured(f"fit of {path.name}"):
                sharpened = SharpenedScene.of(coarse, scene)
            with measured(f"1024 x 1024 pixels of {path.name}"):
                sharpened.read(Window(_STRIP, _STRIP, 1024, 1024))
            scene = StackedScene.of(str(path), scene, sharpened)


if __name__ == "__main__":
    main()
