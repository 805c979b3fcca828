"""A whole Sentinel-2 granule through `geosegsr upscale`: time by stage, peak memory, disk.

    python benchmarks/speed/granule.py imagery/scenes/sentinel2_l1c_dubai_13band.tif --bands 4 3 2 --workdir FOLDER

The granule is the scene's bands laid side by side, each copy mirrored against its neighbours, until it has 10980 x 10980
pixels. At scale 4 the result has 43920 x 43920: leave 30 GB free. The result is validated by rio-cogeo and deleted.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import numpy as np
import rasterio
from memory import GEOSEGSR, LAYOUT, peak_memory
from rasterio.windows import Window
from rio_cogeo.cogeo import cog_validate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scene", type=Path)
    parser.add_argument("--bands", type=int, nargs="+", default=[4, 3, 2])
    parser.add_argument("--side", type=int, default=10980)
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--model", default="bicubic")
    parser.add_argument("--workdir", type=Path, required=True)
    args = parser.parse_args()
    granule, result = args.workdir / "granule.tif", args.workdir / "granule_sr.tif"
    write_granule(args.scene, args.bands, args.side, granule)
    options = ["-o", str(result), "--scale", str(args.scale), "--model", args.model, "--json", "--overwrite"]
    began = time.perf_counter()
    with subprocess.Popen(
        [*GEOSEGSR, "upscale", str(granule), *options], stdout=subprocess.PIPE, text=True
    ) as process:
        peak = peak_memory(process)
        assert process.stdout is not None
        said = process.stdout.read()
    wall = time.perf_counter() - began
    report = json.loads(said)
    valid, errors, remarks = cog_validate(str(result), strict=True, quiet=True)
    print(
        f"{report['width']} x {report['height']} pixels, {report['bands']} bands {report['dtype']}, {report['model']}"
    )
    print(
        f"{wall:.0f} s, peak {peak / 1e6:.0f} MB, result {report['bytes'] / 1e9:.2f} GB, valid COG: {valid} {errors}{remarks}"
    )
    print(f"{report['blocks']} blocks, {report['tiles_computed']} tiles computed of {report['tiles']}")
    print(" | ".join(f"{stage} {seconds:.1f}" for stage, seconds in report["seconds"].items()))
    granule.unlink()
    result.unlink()


def write_granule(source: Path, bands: list[int], side: int, target: Path) -> None:
    with rasterio.open(source) as scene:
        pixels = scene.read(bands)
        profile = {
            "crs": scene.crs,
            "transform": scene.transform,
            "nodata": scene.nodata,
            "dtype": scene.dtypes[0],
        }
    rows, cols = pixels.shape[1:]
    with rasterio.open(
        target, "w", driver="GTiff", count=len(bands), height=side, width=side, **profile, **LAYOUT
    ) as file:
        for i, top in enumerate(range(0, side, rows)):
            for j, left in enumerate(range(0, side, cols)):
                part = pixels[:, :: -1 if i % 2 else 1, :: -1 if j % 2 else 1]
                part = np.ascontiguousarray(part[:, : side - top, : side - left])
                file.write(part, window=Window(left, top, part.shape[2], part.shape[1]))


if __name__ == "__main__":
    main()
