"""Requests and bytes of a remote COG, in shares of the file, with several settings of GDAL.

    python benchmarks/speed/remote.py --workdir FOLDER
    python benchmarks/speed/remote.py --workdir FOLDER --threads 2 --set VSI_CACHE=TRUE --set CPL_VSIL_CURL_CACHE_SIZE=67108864

A local server has a COG of 3000 x 3000 pixels, three bands, uint16. Each command is a process of its own: one that plans
only (--dry-run), and one that makes the result at x2 with blocks of 1024 pixels. Memory is that of the process at its
highest.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import rasterio.shutil
from memory import GEOSEGSR, ROOT, commit, machine, own_peak, write_scene

sys.path.insert(0, str(ROOT / "tests" / "kits"))
from command_line import environment
from faulty_server import Server, serving

SIDE = 3000


def measure(
    server: Server, size: int, target: Path, threads: int, settings: dict[str, str], *more: str
) -> str:
    """What a command asked for."""
    server.requests.clear()
    server.sent = 0
    target.unlink(missing_ok=True)
    how = ["--model", "bicubic", "--sensor", "bicubic", "--scale", "2", "--block", "1024", "--quiet"]
    command = [
        *GEOSEGSR,
        "upscale",
        server.url("in.tif"),
        "-o",
        str(target),
        *how,
        *more,
    ]
    began = time.perf_counter()
    process = subprocess.Popen(
        ["taskset", "-c", f"0-{threads - 1}", *command],  # a thread for each core that it may use
        env={**environment(), **settings},
        stdout=subprocess.DEVNULL,
    )
    peak = own_peak(process.pid)
    if process.wait():
        raise SystemExit("the command failed")
    return (
        f"{len(server.requests)} requests, {server.sent / size:.2f} of the file, "
        f"{time.perf_counter() - began:.1f} s, peak {peak / 1e6:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="of GDAL; all together"
    )
    asked = parser.parse_args()
    served = asked.workdir / "served"
    served.mkdir(parents=True, exist_ok=True)
    plain, cog = asked.workdir / "plain.tif", served / "in.tif"
    if not cog.exists():
        write_scene(plain, SIDE)
        rasterio.shutil.copy(plain, cog, driver="COG", compress="DEFLATE", predictor="YES")
    settings = dict(setting.split("=", 1) for setting in asked.set)
    size = cog.stat().st_size
    print(f"{date.today()}, {commit()}, {machine()}; {size / 1e6:.1f} MB; {settings or 'as it comes'}")
    with serving(served) as server:
        target = asked.workdir / "out.tif"
        print(f"  planning: {measure(server, size, target, 1, settings, '--dry-run')}", flush=True)
        for threads in asked.threads:
            print(f"  all, threads {threads}: {measure(server, size, target, threads, settings)}", flush=True)


if __name__ == "__main__":
    main()
