"""Requests, bytes, time and memory of a result in an object store, beside a local run.

    python benchmarks/speed/stores.py --workdir FOLDER                      500 and 1000 pixels a side, x4
    python benchmarks/speed/stores.py --workdir FOLDER --sides 500 1000 2000 --cluster
    python benchmarks/speed/stores.py --workdir FOLDER --sides 1500 --model bundled --cluster
    python benchmarks/speed/stores.py --workdir FOLDER --cluster --endpoint http://127.0.0.1:4566
    python benchmarks/speed/stores.py --workdir FOLDER --kills 20

The store is moto's server on this machine, in the process of the benchmark, or another one that is running. The client is
a process of its own, whose memory is what is printed. With --cluster two workers with temporary folders of their own, which
share nothing with the client but the store, compute the blocks. Requests and bytes are those of all of them and of GDAL in
them. With --kills the client is killed at random moments, every second time while it sends parts; then the object is
compared with a local file.
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
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path

from cog import SCALE, Spent, write_scene
from memory import GEOSEGSR, ROOT, commit, machine, own_peak

sys.path.insert(0, str(ROOT / "tests" / "kits"))
from command_line import environment
from lonely_workers import lonely_workers
from s3_server import BUCKET, S3Server, s3_server

KEY = "out.tif"
TARGET = f"s3://{BUCKET}/{KEY}"


def client(source: Path, target: str, *more: str, model: str = "bicubic") -> subprocess.Popen[bytes]:
    command = [*GEOSEGSR, "upscale", str(source), "-o", target, "--scale", str(SCALE), "--quiet"]
    # On a cluster, "auto" is what the tags of a result say of its device.
    how = ("--device", "cpu") if model == "bundled" else ("--model", model, "--sensor", "bicubic")
    return subprocess.Popen([*command, *how, *more], env=environment())


def spent(process: subprocess.Popen[bytes], began: float) -> Spent:
    peak = own_peak(process.pid)
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit("the client failed")
    return Spent(used.ru_utime + used.ru_stime, time.perf_counter() - began, peak / 1e6)


def one(server: S3Server, folder: Path, side: int, model: str, *, cluster: bool) -> None:
    source, local, scratch = folder / f"in{side}.tif", folder / "local.tif", folder / "scratch"
    write_scene(source, side)
    local.unlink(missing_ok=True)
    began = time.perf_counter()
    at_home = spent(client(source, str(local), model=model), began)
    size = local.stat().st_size / 1e6
    print(f"{side * SCALE} x {side * SCALE} pixels by {model}, {size:.1f} MB")
    print(f"  local {at_home.wall:.1f} s, {at_home.cpu:.1f} s CPU, peak {at_home.peak:.0f} MB", flush=True)
    there(server, source, local, "store", model, "--scratch", str(scratch))
    if cluster:
        with lonely_workers(folder / "workers") as (address, _):
            there(server, source, local, "cluster", model, "--scheduler", address)


def there(server: S3Server, source: Path, local: Path, name: str, model: str, *more: str) -> None:
    """A run into the store, and what it asked of it."""
    server.client().delete_object(Bucket=BUCKET, Key=KEY)
    server.asked.clear()
    server.answered = 0
    began = time.perf_counter()
    run = spent(client(source, TARGET, *more, model=model), began)
    size = local.stat().st_size / 1e6
    same = server.read(KEY) == local.read_bytes() and server.stored() == [KEY] and not server.open_uploads()
    told = "same bytes, nothing else" if same else "OTHER BYTES, OR SOMETHING LEFT"
    print(f"  {name} {run.wall:.1f} s, {run.cpu:.1f} s CPU of the client, peak {run.peak:.0f} MB; {told}")
    if not server.asked:
        return  # another server's requests are not seen
    sent = sum(asked.sent for asked in server.asked) / 1e6
    by_gdal = sum("GDAL" in asked.headers.get("HTTP_USER_AGENT", "") for asked in server.asked)
    print(
        f"    {len(server.asked)} requests, {by_gdal} of them by GDAL; {len(server.asked) / size:.2f} per MB of result"
    )
    print(f"    sent {sent / size:.3f} MB, received {server.answered / 1e6 / size:.3f} MB per MB of result")
    print(f"    {dict(Counter(server.operations()))}", flush=True)


@contextmanager
def running(url: str) -> Iterator[S3Server]:
    """A server that is running already, whose bucket is emptied; credentials are of no matter to it."""
    server = S3Server(url)
    with suppress(server.client().exceptions.BucketAlreadyOwnedByYou):
        server.client().create_bucket(Bucket=BUCKET)
    for key in server.stored():
        server.client().delete_object(Bucket=BUCKET, Key=key)
    os.environ.update(server.environment)
    yield server


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
    parser.add_argument("--model", default="bicubic", help='"bundled" for the network that ships')
    parser.add_argument("--cluster", action="store_true")
    parser.add_argument("--endpoint", help="of a server that is running")
    parser.add_argument("--kills", type=int, default=0)
    asked = parser.parse_args()
    asked.workdir.mkdir(parents=True, exist_ok=True)
    print(f"{date.today()}, {commit()}, {machine()}")
    with running(asked.endpoint) if asked.endpoint else s3_server() as server:
        if asked.kills:
            kills(server, asked.workdir, asked.sides[0], asked.kills)
        else:
            for side in asked.sides:
                one(server, asked.workdir, side, asked.model, cluster=asked.cluster)
    shutil.rmtree(asked.workdir)


if __name__ == "__main__":
    main()
