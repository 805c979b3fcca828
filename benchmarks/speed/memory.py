"""Peak memory and wall time of `geosegsr upscale` against GDAL's own cubic, over growing scenes.

Each side gets a synthetic scene (uint16, three bands, tiles of sample_data/scene.tif); each tool runs in a
process of its own, whose tree is sampled every 50 ms; the numbers are the sum of the resident memory of
all its processes, at its highest, and the time from start to end.

    python benchmarks/speed/memory.py --workdir /path/with/space                     4000 and 8000, scale 4
    python benchmarks/speed/memory.py --workdir /path/with/space --sides 500 1000

At 8000 x 8000 and scale 4 a result has 32000 x 32000 pixels: leave 20 GB free.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import psutil
import rasterio
import rasterio.shutil
from rasterio.transform import Affine
from rasterio.windows import Window

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "sample_data" / "scene.tif"
GEOSEGSR = [sys.executable, "-c", "from geosegsr_cli.main import main; main()"]
CREATION = {
    "COMPRESS": "DEFLATE",
    "PREDICTOR": "YES",
    "LEVEL": "1",
    "BIGTIFF": "IF_SAFER",
    "NUM_THREADS": "ALL_CPUS",
}
LAYOUT = {
    "tiled": True,
    "blockxsize": 512,
    "blockysize": 512,
    "compress": "deflate",
    "zlevel": 1,
    "predictor": 2,
}
"""Of the scenes."""
INTERVAL = 0.05
"""Seconds between two samples of the memory."""


@dataclass(frozen=True)
class Measurement:
    """One run of one tool.

    Attributes:
        peak: Resident memory of the whole process tree at its highest, in bytes.
        wall: Seconds from start to end.
        size: Bytes of the result.
    """

    peak: int
    wall: float
    size: int


def write_scene(path: Path, side: int) -> None:
    """Tile the sample over side x side pixels of uint16, brightened a little differently in every tile.

    Written in windows, so that the scene never lies in memory. Nodata stays 0.
    """
    with rasterio.open(SAMPLE) as sample:
        pixels = sample.read().astype(np.uint16)
        profile = {"crs": sample.crs, "transform": sample.transform, "nodata": 0, "count": sample.count}
    rng = np.random.default_rng(side)
    rows, cols = pixels.shape[1:]
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        dtype="uint16",
        height=side,
        width=side,
        bigtiff="if_safer",
        **profile,
        **LAYOUT,
    ) as target:
        for top in range(0, side, rows):
            for left in range(0, side, cols):
                height, width = min(rows, side - top), min(cols, side - left)
                gain = rng.uniform(30, 45)
                part = np.rint(pixels[:, :height, :width] * gain).astype(np.uint16)
                target.write(part, window=Window(left, top, width, height))


def tree_memory(process: psutil.Process) -> int:
    """Resident bytes of a process and all its descendants; those that have just ended count nothing."""
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for member in family:
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return total


def peak_memory(process: subprocess.Popen[Any]) -> int:
    """Wait for a process to end; resident bytes of it and its descendants at their highest."""
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        peak = max(peak, tree_memory(watched))
        time.sleep(INTERVAL)
    return peak


def high_water(process: int | str = "self") -> int:
    """A process's own resident bytes at their highest so far; 0 if it has ended.

    ru_maxrss is at least what the parent of the process held when it started it.
    """
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except FileNotFoundError:
        return 0
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0  # without it, nobody has asked for the exit status yet


def own_peak(pid: int) -> int:
    """Wait for a process to end; its own resident bytes at their highest."""
    peak = 0
    while found := high_water(pid):
        peak = found
        time.sleep(INTERVAL)
    return peak


def measure(command: Sequence[str], result: Path) -> Measurement:
    """Run a command to its end and watch its memory; its result is measured and deleted.

    Raises:
        RuntimeError: The command failed.
    """
    paths = [str(ROOT), str(ROOT / "cli"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    log = result.with_suffix(".log")
    started = time.perf_counter()
    with log.open("w") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        peak = peak_memory(process)
    wall = time.perf_counter() - started
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
    size = result.stat().st_size
    result.unlink()
    log.unlink()
    return Measurement(peak, wall, size)


def geosegsr_command(source: Path, result: Path, scale: int, extra: Sequence[str]) -> list[str]:
    """The command under test, with the same compression as GDAL's."""
    creation = [word for key in ("COMPRESS", "LEVEL") for word in ("--co", f"{key}={CREATION[key]}")]
    options = ["--scale", str(scale), "--model", "bicubic", "--overwrite", "-q"]
    return [*GEOSEGSR, "upscale", str(source), "-o", str(result), *options, *creation, *extra]


def gdal_command(source: Path, result: Path, scale: int) -> list[str]:
    """GDAL's own way: gdal_translate where it is installed, else the same through rasterio's GDAL."""
    if program := shutil.which("gdal_translate"):
        creation = [word for key, value in CREATION.items() for word in ("-co", f"{key}={value}")]
        percent = f"{100 * scale}%"
        size = ["-r", "cubic", "-outsize", percent, percent]
        return [program, "-q", *size, "-of", "COG", *creation, str(source), str(result)]
    return [
        sys.executable,
        str(Path(__file__)),
        "--gdal-worker",
        str(source),
        str(result),
        "--scale",
        str(scale),
    ]


def gdal_name() -> str:
    """What the GDAL column shows."""
    if program := shutil.which("gdal_translate"):
        version = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return f"gdal_translate ({version.split(',')[0].strip()})"
    version = rasterio.__gdal_version__
    return f"a cubic VRT copied to COG through rasterio (GDAL {version}; gdal_translate is not installed)"


def translate(source: Path, result: Path, scale: int) -> None:
    """What gdal_translate -r cubic -outsize does, through rasterio: a resampling VRT, copied to a COG."""
    vrt = result.with_suffix(".vrt")
    vrt.write_text(cubic_vrt(source, scale))
    try:
        rasterio.shutil.copy(vrt, result, driver="COG", **CREATION)
    finally:
        vrt.unlink()


def cubic_vrt(source: Path, scale: int) -> str:
    """The XML of a VRT that shows a scene `scale` times finer, by cubic interpolation."""
    name = escape(str(source.resolve()))
    with rasterio.open(source) as scene:
        height, width = scene.shape
        transform = ", ".join(map(repr, (scene.transform * Affine.scale(1 / scale)).to_gdal()))
        bands = "".join(
            f'<VRTRasterBand dataType="UInt16" band="{band}"><NoDataValue>{scene.nodata:g}</NoDataValue>'
            f'<ComplexSource resampling="cubic"><SourceFilename>{name}</SourceFilename>'
            f'<SourceBand>{band}</SourceBand><SrcRect xOff="0" yOff="0" xSize="{width}" ySize="{height}"/>'
            f'<DstRect xOff="0" yOff="0" xSize="{width * scale}" ySize="{height * scale}"/>'
            f"<NODATA>{scene.nodata:g}</NODATA></ComplexSource></VRTRasterBand>"
            for band in scene.indexes
        )
        place = f"<SRS>{scene.crs.to_string()}</SRS><GeoTransform>{transform}</GeoTransform>"
    size = f'rasterXSize="{width * scale}" rasterYSize="{height * scale}"'
    return f"<VRTDataset {size}>{place}{bands}</VRTDataset>"


def commit() -> str:
    """The commit that ran, with a + if files differ from it; "unknown" outside a repository."""
    described = subprocess.run(
        ["git", "-C", str(ROOT), "describe", "--always", "--dirty=+"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or "unknown"


def machine() -> str:
    """Processor kind, cores and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = psutil.virtual_memory().total / 2**30
    system = f"{platform.system()} {platform.machine()}"
    return f"{system}, {cores} cores, {memory:.0f} GiB, Python {platform.python_version()}"


def row(side: int, ours: Measurement, theirs: Measurement) -> str:
    """One line of the table."""
    cells = [
        f"{side} x {side}",
        *(f"{one.peak / 1e6:.0f}" for one in (ours, theirs)),
        f"{ours.peak / theirs.peak:.2f}",
        *(f"{one.wall:.1f}" for one in (ours, theirs)),
        f"{ours.wall / theirs.wall:.2f}",
        *(f"{one.size / 1e6:.0f}" for one in (ours, theirs)),
    ]
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| scene | geosegsr, peak MB | GDAL, peak MB | ratio | geosegsr, s | GDAL, s | ratio "
    "| geosegsr, MB on disk | GDAL, MB on disk |\n|---|---|---|---|---|---|---|---|---|"
)


def growth(sides: Sequence[int], measured: Sequence[Measurement]) -> str:
    """How the peak of the largest scene stands to that of the smallest."""
    return f"{measured[-1].peak / measured[0].peak:.2f} times from {sides[0]} to {sides[-1]}"


def benchmark(arguments: argparse.Namespace) -> None:
    """Make, run, measure and print, side by side."""
    sides = sorted(arguments.sides)
    print(
        f"Scale {arguments.scale}, bicubic, uint16, 3 bands. {machine()}. {date.today()}, commit {commit()}."
    )
    print(f"GDAL is {gdal_name()}.\n\n{HEAD}")
    ours, theirs = [], []
    for side in sides:
        source, result = arguments.workdir / f"scene_{side}.tif", arguments.workdir / f"result_{side}.tif"
        write_scene(source, side)
        ours.append(measure(geosegsr_command(source, result, arguments.scale, arguments.extra), result))
        theirs.append(measure(gdal_command(source, result, arguments.scale), result))
        print(row(side, ours[-1], theirs[-1]), flush=True)
        source.unlink()
    if len(sides) > 1:
        print(f"\nPeak memory grows {growth(sides, ours)} (geosegsr), {growth(sides, theirs)} (GDAL).")


def parse_arguments() -> argparse.Namespace:
    """The command line; what follows `--` goes to geosegsr as it is."""
    parser = argparse.ArgumentParser(description="Peak memory and wall time against GDAL's own cubic.")
    parser.add_argument("--workdir", type=Path, help="an existing folder with space")
    parser.add_argument("--sides", type=int, nargs="+", default=[4000, 8000], help="scene sides in pixels")
    parser.add_argument("--scale", type=int, default=4)
    parser.add_argument("--gdal-worker", type=Path, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("extra", nargs="*", help="more options of geosegsr upscale, after --")
    arguments = parser.parse_args()
    if not arguments.gdal_worker and not (arguments.workdir and arguments.workdir.is_dir()):
        parser.error("pass --workdir FOLDER, an existing folder with space")
    return arguments


def main() -> None:
    """Run the benchmark, or one GDAL translation as its own process."""
    arguments = parse_arguments()
    if arguments.gdal_worker:
        source, result = arguments.gdal_worker
        translate(source, result, arguments.scale)
    else:
        benchmark(arguments)


if __name__ == "__main__":
    main()
