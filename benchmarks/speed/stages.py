"""What each stage of a block takes on one core, and where that ends on a machine of many.

    OMP_NUM_THREADS=1 python benchmarks/speed/stages.py
    OMP_NUM_THREADS=1 python benchmarks/speed/stages.py --model bicubic

A painted scene of three bands of 8 bits is planned as `upscale` would. Its first block then goes through each stage alone,
several times. The least CPU time of the thread counts, so other work on the machine matters little. Megapixels are of
output, all bands together. The ceiling is what 16 cores could make if they did nothing else: with the network on the CPU,
and with a network on a device that takes no time at all. The COG that is made of the blocks is not included.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from batch import painted, write_scene

from geosegsr.cpu import single_threaded_blas
from geosegsr.models.contract import BUNDLED, Facts, FloatArray
from geosegsr.pipeline.plan import Plan, plan
from geosegsr.raster.cog_block import TiledFormat, block_bytes, tiled_block_bytes
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.radiometry import to_dtype, working_dtype
from geosegsr.raster.statistics import BandStatistics
from geosegsr.sensor.consistency import degraded, project, quantum_of
from geosegsr.tiling.group import RenderCounts, group_call
from geosegsr.tiling.mosaic import BlockInput, GroupCache, Mosaic

CORES = 16


@dataclass(frozen=True)
class Canned:
    """An Upscaler whose results lie ready: what is left is the work around a network."""

    facts: Facts
    result: FloatArray

    def __call__(self, lr: FloatArray, guide: FloatArray | None = None) -> FloatArray:
        height, width = (side * self.facts.scale for side in lr.shape[2:])
        return self.result[: len(lr), :, :height, :width]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--side", type=int, default=1000, help="of the scene, in pixels")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, single_threaded_blas():
        source = write_scene(Path(folder) / "scene.tif", painted(arguments.side, 1))
        planned = plan(source, 4, arguments.model, device="cpu")
        planned = replace(planned, rendering=replace(planned.rendering, samplings=samplings_of(planned)))
        stages, pixels = stages_of(planned)
        took = {name: least(work, arguments.repeats) for name, work in stages.items()}
    took["network"] *= planned.grid.tiles / len(planned.grid.blocks)  # each tile is computed once
    show(planned, took, pixels / 1e6)


def samplings_of(planned: Plan) -> tuple[Any, ...]:
    """The plan's samplings; for an interpolation, which has none, that of antialiased bicubic reduction."""
    from geosegsr.sensor.degradation import samplings_of

    return planned.rendering.samplings or samplings_of(planned.rendering.upscaler)[-1:] * planned.scene.count


def least(work: Callable[[], Any], repeats: int) -> float:
    """CPU seconds of the fastest of several calls, after one that does not count."""
    work()
    took = []
    for _ in range(repeats):
        began = time.thread_time()
        work()
        took.append(time.thread_time() - began)
    return min(took)


def stages_of(planned: Plan) -> tuple[dict[str, Callable[[], Any]], int]:
    """The stages of the first block and group of bands, each ready to be called repeatedly; and their number of output pixels."""
    rendering = planned.rendering
    grid, radiometry, sampling = rendering.grid, rendering.radiometry, rendering.samplings[0]
    block = grid.blocks[0]
    window = grid.source_window(block)
    whole = grid.computed_window(block)
    bands = list(rendering.groups[0].bands)
    values, valid = planned.scene.read(window)
    upscaler = rendering.upscaler_of(0)
    lr = values[bands, : grid.rows.tile, : grid.cols.tile].astype(np.float32)[None] / 255
    tile = upscaler(lr)

    def mosaic() -> Mosaic:
        call = group_call(rendering.groups[0], Canned(upscaler.facts, tile), radiometry)
        dtype = working_dtype(rendering.dtype, upscaler.facts.linear)
        cache = GroupCache(None, 0, grid, planned.scale)
        return Mosaic(call, grid, block, BlockInput(values, valid, valid), dtype, cache, RenderCounts())

    planes, _ = mosaic().blended()
    dn = planes.copy()
    if radiometry is not None:
        radiometry.from_model(planes, out=dn)
    seen = values[(bands, *whole.shifted(-window.row, -window.col).slices)]
    known = np.ones(seen.shape[1:], bool)
    rounded = to_dtype(dn, rendering.dtype)
    fine = np.ones(rounded.shape, bool)
    inner = rounded[(slice(None), *block.window.shifted(-whole.row, -whole.col).scaled(planned.scale).slices)]
    metadata = replace(planned.metadata, bands=tuple(planned.metadata.bands[band] for band in bands))
    form = TiledFormat.of(
        metadata, rendering.dtype, creation_options({}), planned.block_windows, has_mask=planned.has_mask
    )

    def file() -> bytes:
        """With tiles and overviews of the COG, read back and compared, where the block meets its tiles."""
        if form is None or form.cells:
            return block_bytes(inner, None, packed=False)
        return tiled_block_bytes(inner, None, form)

    data = file()

    def agree() -> None:
        for band, lr_band in zip(dn, seen, strict=True):
            project(band, lr_band, known, sampling, (0, 0), quantum_of(rendering.dtype))

    stages: dict[str, Callable[[], Any]] = {
        "read": lambda: planned.scene.read(window),
        "network": lambda: upscaler(lr),
        "blend": lambda: mosaic().blended(),
        "value range": lambda: radiometry and radiometry.from_model(planes, out=dn),
        "consistency": agree,
        "difference": lambda: [degraded(band, sampling, dtype=dn.dtype) for band in rounded],
        "rounding": lambda: to_dtype(dn, rendering.dtype),
        "statistics": lambda: [BandStatistics.of(*pair) for pair in zip(rounded, fine, strict=True)],
        "checksum": lambda: hashlib.sha256(data).digest(),
        "block file": file,
    }
    return stages, rounded.size


def show(planned: Plan, took: dict[str, float], megapixels: float) -> None:
    print(
        f"{planned.rendering.upscaler.facts.name}, tile {planned.grid.rows.tile}, {planned.rendering.dtype}; "
        f"{megapixels:.1f} megapixels; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n"
    )
    print("| stage | ms a megapixel | megapixels/s |\n|---|---|---|")
    for name, seconds in took.items():
        print(f"| {name} | {1000 * seconds / megapixels:.2f} | {megapixels / max(seconds, 1e-9):.0f} |")
    whole = sum(took.values())
    beside = whole - took["network"]
    print(f"| all | {1000 * whole / megapixels:.2f} | {megapixels / whole:.0f} |")
    print(f"| all but the network | {1000 * beside / megapixels:.2f} | {megapixels / beside:.0f} |")
    print(
        f"\nceiling on {CORES} cores: {CORES * megapixels / whole:.0f} megapixels/s, "
        f"with a network that takes no time {CORES * megapixels / beside:.0f}"
    )


if __name__ == "__main__":
    main()
