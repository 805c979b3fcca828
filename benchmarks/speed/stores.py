"""Requests, bytes, time and memory of a result in an object store, beside a local run.

    python benchmarks/speed/stores.py --workdir FOLDER                      500 and 1000 pixels a side, x4
    python benchmarks/speed/stores.py --workdir FOLDER --sides 500 1000 2000
    python benchmarks/speed/stores.py --workdir FOLDER --kills 20

The store is moto's server on this machine, in the process of the benchmark; the client is a process of its own, whose
memory is what is printed. Bytes count the requests of the client and of GDAL in it. With --kills the client is killed at
random moments, every second time while it sends parts; then the object is compared with a local file.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from datetime import date
from pathlib import Path

from cog import SCALE, Spent, write_scene
from memory import GEOSEGSR, ROOT, commit, machine

sys.path.insert(0, str(ROOT / "tests" / "kits"))
from s3_server import BUCKET, S3Server, s3_server

KEY = "out.tif"
TARGET = f"s3://{BUCKET}/{KEY}"


def client(source: Path, target: str, *more: str) -> subprocess.Popen[bytes]:
    command = [*GEOSEGSR, "upscale", str(source), "-o", target]
    command += ["--model", "bicubic", "--sensor", "bicubic", "--scale", str(SCALE), "--quiet", *more]
    return subprocess.Popen(command, env=os.environ)


def spent(process: subprocess.Popen[bytes], began: float) -> Spent:
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the client failed")
    return Spent(used.ru_utime + used.ru_stime, time.perf_counter() - began, used.ru_maxrss / 1024)


def one(server: S3Server, folder: Path, side: int) -> None:
    source, local, scratch = folder / f"in{side}.tif", folder / "local.tif", folder / "scratch"
    write_scene(source, side)
    local.unlink(missing_ok=True)
    began = time.perf_counter()
    at_home = spent(client(source, str(local)), began)
    server.client().delete_object(Bucket=BUCKET, Key=KEY)
    server.asked.clear()
    server.answered = 0
    began = time.perf_counter()
    there = spent(client(source, TARGET, "--scratch", str(scratch)), began)
    size = local.stat().st_size / 1e6
    same = server.read(KEY) == local.read_bytes()
    sent = sum(asked.sent for asked in server.asked) / 1e6
    by_gdal = sum("GDAL" in asked.headers.get("HTTP_USER_AGENT", "") for asked in server.asked)
    print(f"{side * SCALE} x {side * SCALE} pixels, {size:.1f} MB, {'same bytes' if same else 'OTHER BYTES'}")
    print(f"  local {at_home.wall:.1f} s, {at_home.cpu:.1f} s CPU, peak {at_home.peak:.0f} MB")
    print(f"  store {there.wall:.1f} s, {there.cpu:.1f} s CPU, peak {there.peak:.0f} MB")
    print(
        f"  {len(server.asked)} requests, {by_gdal} of them by GDAL; {len(server.asked) / size:.2f} per MB of result"
    )
    print(f"  sent {sent / size:.3f} MB, received {server.answered / 1e6 / size:.3f} MB per MB of result")
    print(f"  {dict(Counter(server.operations()))}", flush=True)


def kills(server: S3Server, folder: Path, side: int, count: int) -> None:
    """Kill the client at random moments of its run, and let the last one end."""
    source, local, scratch = folder / f"in{side}.tif", folder / "local.tif", folder / "scratch"
    if not source.exists():
        write_scene(source, side)
    local.unlink(missing_ok=True)
    began = time.perf_counter()
    took = spent(client(source, str(local)), began).wall
    server.client().delete_object(Bucket=BUCKET, Key=KEY)
    rng, seen = random.Random(side), Counter[str]()
    server.spoil = lambda asked, before: time.sleep(0.4) if "partNumber" in asked.query else None  # type: ignore[func-returns-value]
    for number in range(count):
        server.asked.clear()
        process = client(source, TARGET, "--scratch", str(scratch))
        while number % 2 and process.poll() is None and "PUT partNumber" not in server.operations():
            time.sleep(0.02)
        moment = rng.uniform(0, 1) if number % 2 else rng.uniform(0.3, 1.3) * took
        timer = threading.Timer(moment, process.send_signal, [signal.SIGKILL])
        timer.start()
        ended = process.wait() == 0
        timer.cancel()
        stored = server.stored()
        if stored and server.read(KEY) != local.read_bytes():
            raise SystemExit("an object that is not whole")
        seen["ended" if ended else "open upload" if server.open_uploads() else "killed, nothing open"] += 1
        if stored:
            server.client().delete_object(Bucket=BUCKET, Key=KEY)
    server.spoil = None
    client(source, TARGET, "--scratch", str(scratch)).wait()
    same, left = server.read(KEY) == local.read_bytes(), server.open_uploads()
    print(
        f"{count} kills: {dict(seen)}; then {'same bytes' if same else 'OTHER BYTES'}, {len(left)} open uploads"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--sides", type=int, nargs="+", default=[500, 1000])
    parser.add_argument("--kills", type=int, default=0)
    asked = parser.parse_args()
    asked.workdir.mkdir(parents=True, exist_ok=True)
    print(f"{date.today()}, {commit()}, {machine()}")
    with s3_server() as server:
        if asked.kills:
            kills(server, asked.workdir, asked.sides[0], asked.kills)
        else:
            for side in asked.sides:
                one(server, asked.workdir, side)
    shutil.rmtree(asked.workdir)


if __name__ == "__main__":
    main()
