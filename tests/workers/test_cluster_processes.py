"""Workers and a scheduler in processes of their own."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import PATIENCE_S, assert_refused, environment, finish, run, run_here, start
from distributed import Client

GRID = ("--model", "bicubic", "--tile", 24, "--overlap", 8, "--block", 64)
"""42 blocks of the scene below."""


# Workers in processes of their own. Paths begin with /proc/self/cwd, so that each sees its own folder under one name.

OWN = Path("/proc/self/cwd")
linux_only = pytest.mark.skipif(not OWN.is_dir(), reason="needs /proc")


def dask_process(*words: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "dask", *map(str, words)],
        cwd=cwd, env=environment(), text=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


@contextmanager
def scheduler_process(cwd: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    process = dask_process("scheduler", "--host", "127.0.0.1", "--port", 0, "--no-dashboard", cwd=cwd)
    try:
        assert process.stderr is not None
        for line in process.stderr:
            if "Scheduler at:" in line:
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield process, line.split()[-1]
                return
        raise AssertionError("no scheduler came up")
    finally:
        process.kill()
        process.wait()


@contextmanager
def worker_processes(address: str, *folders: Path) -> Iterator[None]:
    """Workers named after their folders, once all have come."""
    options = ("--nthreads", 1, "--no-dashboard", "--no-nanny", "--memory-limit", 0)
    processes = [
        dask_process("worker", address, "--name", folder.name, *options, cwd=folder) for folder in folders
    ]
    for process in processes:
        assert process.stderr is not None
        threading.Thread(target=process.stderr.read, daemon=True).start()
    try:
        with Client(address, set_as_default=False) as client:
            client.wait_for_workers(len(folders), timeout=PATIENCE_S)
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


@linux_only
def test_workers_that_see_another_source_are_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    good, _, other = folders = [tmp_path / name for name in ("good", "without", "other")]
    for folder in folders:
        folder.mkdir()
    source = factory.write_nodata(good / "in.tif", size=(96, 112))
    factory.write_nodata(other / "in.tif", size=(96, 112), seed=7)
    command = ("upscale", OWN / "in.tif", *GRID)
    monkeypatch.chdir(good)
    with scheduler_process(tmp_path) as (_, address), worker_processes(address, *folders):
        outcome = run_here(capfd, *command, "-o", tmp_path / "out.tif", "--scheduler", address)
    assert outcome.code == 0, outcome.err
    assert len(outcome.warned) == 2
    for part in (f"Cannot read '{OWN / 'in.tif'}'", "its pixels differ from those of the file"):
        assert "no work for worker tcp://127.0.0.1:" in outcome.err and part in outcome.err
    assert run_here(capfd, "upscale", source, *GRID, "-o", tmp_path / "alone.tif").code == 0
    with rasterio.open(tmp_path / "out.tif") as found, rasterio.open(tmp_path / "alone.tif") as wanted:
        assert np.array_equal(found.read(), wanted.read())


@linux_only
def test_a_scheduler_that_is_killed_is_one_error_and_the_run_goes_on_later(tmp_path: Path) -> None:
    source = factory.write_nodata(tmp_path / "in.tif", size=(96, 112))
    target, folder = tmp_path / "out.tif", tmp_path / "w"
    folder.mkdir()
    command = ("upscale", source, "-o", target, *GRID)
    journal = target.with_name("out.tif.geosegsr") / "done.jsonl"
    with scheduler_process(tmp_path) as (scheduler, address), worker_processes(address, folder):
        process = start(*command, "--scheduler", address)
        deadline = time.monotonic() + PATIENCE_S
        while not journal.exists() or journal.read_bytes().count(b"\n") < 5:
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.005)
        scheduler.kill()
        outcome = finish(process)
    assert_refused(outcome, 1, address, "was lost", "Finished blocks are kept", "same command")
    assert not target.exists()
    done = journal.read_bytes().count(b"\n")
    with scheduler_process(tmp_path) as (_, address), worker_processes(address, folder):
        outcome = run(*command, "--scheduler", address, "--json")
    assert outcome.code == 0, outcome.err
    assert f'"blocks_resumed": {done}' in outcome.out
