"""What a Dask cluster gains, and what a block costs beside its computation.

    python benchmarks/speed/cluster.py throughput                 1 and 2 workers; --workers 1 2 4 for more
    python benchmarks/speed/cluster.py overhead                   CPU time a block of client, scheduler and worker

Scheduler and workers are processes of `dask scheduler` and `dask worker`, on this machine, one thread each, with the settings that
docs/clusters.md advises. A worker keeps what a tile gives to the blocks beside and below, and another worker cannot have
it: the first row of blocks of a worker's stretch takes the tiles of the row above as well. So tiles are counted too, and
blocks are counted from the end of the first rows on, until the time is up. Throughput is that of a compact network with
random weights, held to one thread. Numbers of workers take turns, so that whatever else the machine does meets all; rates
are over the sum of turns. The last column is what as many processes of the network alone get on this machine against
one, without Dask, files or blocks: two threads of one core are not two cores. Overhead is CPU time, not wall time, so
other work on the machine changes it little.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import rasterio
import torch
from distributed import Client
from rasterio.transform import from_origin

from geosegsr.errors import Cancelled
from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import load_upscaler
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.folder_state import FolderKeeper
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.plan import Plan, plan
from geosegsr.pipeline.worker_check import Preflight
from geosegsr.workers.engine import open_engine
from geosegsr.workers.worker import pack

ROOT = Path(__file__).resolve().parents[2]
TILE, OVERLAP, SCALE = 256, 32, 4
SIDE = 4096


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=["throughput", "overhead"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument(
        "--seconds", type=float, default=50, help="of counting, for each number of workers and turn"
    )
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--tasks", type=int, default=2000, help="of which the overhead is the mean")
    parser.add_argument("--precision", default="fp32")
    options = parser.parse_args()
    print(f"{len(os.sched_getaffinity(0))} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory(prefix="geosegsr-") as name:
        folder = Path(name)
        if options.part == "throughput":
            throughput(folder, options.workers, options.turns, options.seconds, options.precision)
        else:
            overhead(folder, options.tasks)


def throughput(folder: Path, numbers: list[int], turns: int, seconds: float, precision: str) -> None:
    """Blocks a minute of a network on the CPU, by the number of workers."""
    planned = a_plan(folder, precision)
    print(f"compact x{SCALE}, {precision}, one tile of {TILE} a block, {len(planned.grid.blocks)} blocks\n")
    print(
        "| workers | blocks counted | blocks/min | tiles/min | blocks, tiles against the first | the network alone |"
    )
    print("|---|---|---|---|---|---|")
    sums = {number: np.zeros(4) for number in numbers}
    for number in numbers * turns:
        with cluster(number, folder) as (address, _):
            blocks_tiles_minutes = counted(address, planned, folder, number, seconds)
        sums[number] += (
            *blocks_tiles_minutes,
            calls(folder / "model.safetensors", precision, number, seconds / 3),
        )
    rates = {
        number: np.array([blocks / minutes, tiles / minutes, alone])
        for number, (blocks, tiles, minutes, alone) in sums.items()
    }
    for number, rate in rates.items():
        gains = rate / rates[numbers[0]]
        print(
            f"| {number} | {sums[number][0]:.0f} | {rate[0]:.1f} | {rate[1]:.1f} | {gains[0]:.2f}, {gains[1]:.2f} "
            f"| {gains[2]:.2f} |"
        )


def calls(model: Path, precision: str, processes: int, seconds: float) -> int:
    """Calls of the network in a time by that many processes of one thread, without anything else."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(processes) as pool:
        return sum(pool.starmap(_call_for, [(model, precision, seconds)] * processes, chunksize=1))


def _call_for(model: Path, precision: str, seconds: float) -> int:
    torch.set_num_threads(1)
    upscaler = load_upscaler(model, device="cpu", precision=precision)
    tile = np.random.default_rng(0).random((1, 3, TILE, TILE), np.float32)
    upscaler(tile)
    count, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        upscaler(tile)
        count += 1
    return count


def counted(
    address: str, planned: Plan, folder: Path, workers: int, seconds: float
) -> tuple[int, int, float]:
    """Blocks in a time that begins once every worker has had a row of them, tiles computed for them, and the minutes."""
    times: list[float] = []
    tiles: list[int] = []
    warm = workers * (len({block.window.col for block in planned.grid.blocks}) + 1)
    (folder / "blocks").mkdir(exist_ok=True)
    with open_engine(scheduler=address) as engine:

        def on_done(record: Any) -> None:
            times.append(time.perf_counter())
            tiles.append(record.tiles)
            if len(times) > warm and times[-1] - times[warm] > seconds:
                engine.cancel()

        with suppress(Cancelled):
            engine.run(
                partial(compute_block, planned, {}, FolderKeeper(folder), f"{workers}"),
                range(len(planned.grid.blocks)),
                on_done,
                together=len(planned.grid.blocks),
                shared_folder=folder,
                check=partial(Preflight.of, planned),
            )
    kept = times[warm:]
    return len(kept) - 1, sum(tiles[warm + 1 :]), (kept[-1] - kept[0]) / 60


def overhead(folder: Path, tasks: int) -> None:
    """CPU time that each process spends on a block in which nothing is computed, and what travels."""
    with cluster(2, folder) as (address, processes):
        through_engine(address, folder, 50)  # everybody imports what is needed
        rows = {
            "nothing, through this package": partial(through_engine, address, folder, tasks),
            "nothing, plain client.submit": partial(submitted, address, tasks),
        }
        print("| CPU ms a block | client | scheduler | workers | wall |\n|---|---|---|---|---|")
        for label, run in rows.items():
            cells = " | ".join(f"{1000 * seconds:.2f}" for seconds in spent(run, processes))
            print(f"| {label} | {cells} |", flush=True)
        print(f"\nasking who is there: {1000 * asking(address):.1f} ms for 2 workers")
    planned = a_plan(folder, "fp32")
    (folder / "blocks").mkdir(exist_ok=True)
    arrived: Plan = pickle.loads(pickle.dumps(planned))  # with its network, as on a worker
    record = compute_block(arrived, {}, FolderKeeper(folder), "record", 0)
    work = pack(partial(compute_block, planned, {}, FolderKeeper(folder), "run"), Preflight.of(planned))
    print(f"the work, sent once to each worker: {len(work) / 1000:.1f} kB")
    print(f"a record, sent back: {len(pickle.dumps(record))} bytes; ", end="")
    print(f"noting it: {1000 * noting(folder, record, 500):.2f} ms")


def spent(
    run: Callable[[], int], processes: dict[str, list[psutil.Process]]
) -> tuple[float, float, float, float]:
    """Seconds a block: of this process, the scheduler and the workers by CPU, and by the clock."""

    def cpu() -> dict[str, float]:
        return {
            kind: sum(sum(one.cpu_times()[:2]) for one in members)
            for kind, members in {"client": [psutil.Process()], **processes}.items()
        }

    before, began = cpu(), time.perf_counter()
    blocks = run()
    wall, after = time.perf_counter() - began, cpu()
    client, scheduler, workers = ((after[k] - before[k]) / blocks for k in ("client", "scheduler", "workers"))
    return client, scheduler, workers, wall / blocks


def through_engine(address: str, folder: Path, blocks: int) -> int:
    with open_engine(scheduler=address) as engine:
        engine.run(abs, range(blocks), lambda _: None, together=blocks, shared_folder=folder)
    return blocks


def submitted(address: str, blocks: int) -> int:
    """One block at a time, so that nothing is saved by sending many together."""
    with Client(address, set_as_default=False) as client:
        for index in range(blocks):
            client.submit(abs, index, pure=False).result()
    return blocks


def asking(address: str) -> float:
    with Client(address, set_as_default=False) as client:
        began = time.perf_counter()
        for _ in range(100):
            client.nthreads()
        return (time.perf_counter() - began) / 100


def noting(folder: Path, record: Any, times: int) -> float:
    with Job(folder / "noted.tif") as job:
        job.start({"of": "a benchmark"}, resume=False)
        began = time.perf_counter()
        for _ in range(times):
            job.record(record)
        return (time.perf_counter() - began) / times


def a_plan(folder: Path, precision: str) -> Plan:
    """A scene of noise and a network of random weights, with one tile a block."""
    source, model = folder / "scene.tif", folder / "model.safetensors"
    if not model.exists():
        torch.manual_seed(0)
        network = SeGSR(preset("compact", scale=SCALE))
        save_checkpoint(
            model, network, ModelCard.of(network.config, "compact", tile=TILE, overlap=OVERLAP, halo=8)
        )
        noise = np.random.default_rng(0).integers(200, 4000, (3, SIDE, SIDE), np.uint16)
        profile = {
            "driver": "GTiff",
            "count": 3,
            "height": SIDE,
            "width": SIDE,
            "dtype": "uint16",
            "tiled": True,
        }
        with rasterio.open(
            source, "w", crs="EPSG:32633", transform=from_origin(463200, 5426400, 10, 10), **profile
        ) as target:
            target.write(noise)
    block = (TILE - OVERLAP) * SCALE
    return plan(
        source,
        SCALE,
        model,
        block=block,
        value_range=(0, 4000),
        device="cpu",
        precision=precision,
        elsewhere=True,
    )


@contextmanager
def cluster(workers: int, folder: Path) -> Iterator[tuple[str, dict[str, list[psutil.Process]]]]:
    """A scheduler and workers as they are started by hand: the address, and the processes by what they are."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    started = [
        dask("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", file)
    ]
    try:
        wait_until(file.exists)
        address = json.loads(file.read_text())["address"]
        options = (
            "--nthreads",
            1,
            "--no-nanny",
            "--no-dashboard",
            "--memory-limit",
            0,
            "--local-directory",
            folder,
        )
        started += [dask("worker", address, *options) for _ in range(workers)]
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)
        watched = [psutil.Process(process.pid) for process in started]
        yield address, {"scheduler": watched[:1], "workers": watched[1:]}
    finally:
        for process in reversed(started):
            process.terminate()
            process.wait()


def dask(*words: object) -> subprocess.Popen[bytes]:
    settings = {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}  # as Dask's nannies set it
    settings["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"
    settings["DASK_DISTRIBUTED__ADMIN__TICK__INTERVAL"] = "500ms"
    paths = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, words)],
        env={**os.environ, **settings, "PYTHONPATH": paths},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def wait_until(there: Callable[[], bool]) -> None:
    tried = threading.Event()
    for _ in range(600):
        if there():
            return
        tried.wait(0.2)
    raise SystemExit("the scheduler did not start")


if __name__ == "__main__":
    main()
