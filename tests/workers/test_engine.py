"""Threads, worker processes and a scheduler compute the same pixels, and lose none when a worker dies."""

from __future__ import annotations

import os
import pickle
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import scene_factory as factory
from command_line import assert_refused, run_here
from distributed import LocalCluster

import geosegsr
from geosegsr.context import cores_of_a_block
from geosegsr.cpu import KEPT_MEMORY, _controller, single_threaded_blas
from geosegsr.errors import JobError, SceneError
from geosegsr.pipeline.job import BlockRecord
from geosegsr.workers import engine

RUN = import_module("geosegsr.pipeline.run")
"""Where tests replace the steps of a run."""
GRID = {"tile": 24, "overlap": 8, "block": 64}
"""42 blocks of the scene below."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_nodata(tmp_path_factory.mktemp("scene") / "scene.tif", size=(96, 112))


@pytest.fixture(scope="module")
def by_threads(scene: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    return pixels_of(scene, tmp_path_factory.mktemp("threads") / "out.tif")


def pixels_of(scene: Path, target: Path, **engine_options: Any) -> np.ndarray:
    geosegsr.upscale(scene, target, 4, "bicubic", **GRID, **engine_options)
    with rasterio.open(target) as result:
        values: np.ndarray = result.read()
    return values


def local_cluster(workers: int) -> LocalCluster:
    return LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs="CRITICAL"
    )


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    """Two workers, as someone else might have started them."""
    with local_cluster(2) as running:
        yield running


def test_threads_compute_the_same_pixels_every_time(
    scene: Path, by_threads: np.ndarray, tmp_path: Path
) -> None:
    for number in range(5):
        assert np.array_equal(pixels_of(scene, tmp_path / f"{number}.tif"), by_threads)


def test_worker_processes_compute_the_same_pixels_and_leave_the_environment(
    scene: Path, by_threads: np.ndarray, tmp_path: Path
) -> None:
    names = dask.config.get("distributed.nanny.pre-spawn-environ").keys() | KEPT_MEMORY.keys()
    before = [os.environ.get(name) for name in names]
    assert np.array_equal(pixels_of(scene, tmp_path / "out.tif", workers=2), by_threads)
    assert [os.environ.get(name) for name in names] == before


def test_a_scheduler_computes_the_same_pixels(
    scene: Path, by_threads: np.ndarray, cluster: LocalCluster, tmp_path: Path
) -> None:
    found = pixels_of(scene, tmp_path / "out.tif", scheduler=cluster.scheduler_address)
    assert np.array_equal(found, by_threads)


def test_workers_of_another_folder_find_relative_paths(
    scene: Path,
    by_threads: np.ndarray,
    cluster: LocalCluster,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("scene.tif").write_bytes(scene.read_bytes())
    found = pixels_of(Path("scene.tif"), Path("out.tif"), scheduler=cluster.scheduler_address)
    assert np.array_equal(found, by_threads)


def test_a_worker_killed_in_mid_run_is_survived(
    scene: Path, by_threads: np.ndarray, cluster: LocalCluster, tmp_path: Path
) -> None:
    killed: list[int] = []

    def kill_a_worker(progress: Any) -> None:
        if progress.done >= 3 and not killed:
            killed.append(next(iter(cluster.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

    target = tmp_path / "out.tif"
    found = pixels_of(scene, target, scheduler=cluster.scheduler_address, progress=kill_a_worker)
    assert killed
    assert np.array_equal(found, by_threads)


def end_own_process(index: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return index


def test_a_block_that_ends_every_worker_is_named(tmp_path: Path) -> None:
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        local_cluster(1) as cluster,
        pytest.raises(
            JobError,
            match=r"Cannot finish block 7: .*fewer --workers .* or with --no-resume and a smaller --block\.$",
        ),
    ):
        work_through(end_own_process, [7], tmp_path, cluster.scheduler_address)


def work_through(
    work: Callable[[int], Any], indices: list[int], folder: Path, scheduler: str | None = None
) -> list[Any]:
    results: list[Any] = []
    with engine.open_engine(scheduler=scheduler) as opened:
        opened.run(work, indices, results.append, together=len(indices), shared_folder=folder)
    return results


def test_results_are_small_records(
    scene: Path, cluster: LocalCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records: list[BlockRecord] = []
    honest = RUN.Job.record

    def keep(job: Any, record: BlockRecord) -> None:
        records.append(record)
        honest(job, record)

    monkeypatch.setattr(RUN.Job, "record", keep)
    pixels_of(scene, tmp_path / "out.tif", scheduler=cluster.scheduler_address)
    assert sorted(record.index for record in records) == list(range(len(records)))
    assert max(len(pickle.dumps(record)) for record in records) < 1000


def test_few_blocks_are_in_flight_in_threads(tmp_path: Path) -> None:
    inside = most = 0
    lock = threading.Lock()

    def work(index: int) -> int:
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
        time.sleep(0.001)
        with lock:
            inside -= 1
        return index

    assert sorted(work_through(work, list(range(40)), tmp_path)) == list(range(40))
    assert most <= engine.default_threads()


def test_blocks_of_one_core_each_run_in_as_many_threads_as_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CPU_COUNT", 7)
    assert (engine.default_threads(), engine.single_core_threads()) == (4, 7)
    everybody, cores = threading.Barrier(7, timeout=120), list[int | None]()

    def work(index: int) -> int:
        everybody.wait()  # passes once seven blocks are at work together
        cores.append(cores_of_a_block.get())
        return index

    done: list[int] = []
    with engine.open_engine() as opened:
        opened.run(work, range(14), done.append, together=14, shared_folder=tmp_path, at_a_time=7)
    assert sorted(done) == list(range(14)) and cores == [1] * 14


def test_blocks_in_threads_wait_for_those_before_them(tmp_path: Path) -> None:
    done: set[int] = set()

    def work(index: int) -> bool:
        time.sleep(0.001)
        done.add(index)
        return {other for other in before(index) if other > 2} <= done

    def before(index: int) -> list[int]:
        return [index - 1] * (index % 5 > 0) + [index - 5] * (index >= 5)

    results: list[bool] = []
    with engine.open_engine() as opened:
        todo = range(3, 40)  # the others were done before
        opened.run(work, todo, results.append, before=before, together=40, shared_folder=tmp_path)
    assert results == [True] * 37


def test_the_cores_are_shared_out_among_the_blocks_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "CPU_COUNT", 9)

    def cores(index: int) -> int | None:
        return cores_of_a_block.get()

    assert work_through(cores, [0], tmp_path) == [9]
    assert work_through(cores, [0, 1], tmp_path) == [4, 4]
    assert set(work_through(cores, list(range(40)), tmp_path)) == {9 // engine.default_threads()}
    assert cores_of_a_block.get() is None


def refuse_every_third(index: int) -> int:
    if index % 3 == 2:
        try:
            raise UnpicklableError(index, "why")
        except UnpicklableError as error:
            raise SceneError(f"Cannot read block {index}.") from error
    return index


class UnpicklableError(Exception):
    """As GDAL's errors are: made of two arguments, but kept with one."""

    def __init__(self, number: int, why: str) -> None:
        super().__init__(why)


@pytest.mark.parametrize("remote", [False, True], ids=["threads", "scheduler"])
def test_errors_in_blocks_come_home_as_they_are(remote: bool, cluster: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"^Cannot read block \d+\.$"):
        work_through(
            refuse_every_third, list(range(10)), tmp_path, cluster.scheduler_address if remote else None
        )


def test_a_broken_source_is_one_line_with_workers_too(
    cluster: LocalCluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    source = factory.write_truncated(tmp_path / "source.tif")
    target = tmp_path / "out.tif"
    outcome = run_here(
        capfd, "upscale", source, "-o", target, "--model", "bicubic", "--scheduler", cluster.scheduler_address
    )
    assert_refused(outcome, 1, f"'{source}'", "damaged")
    assert sorted(tmp_path.iterdir()) == [source]


def test_blas_has_one_thread_in_every_thread() -> None:
    def threads() -> list[int]:
        # torch's OpenMP may be loaded as well, and is left alone
        return [
            library.num_threads for library in _controller().lib_controllers if library.user_api == "blas"
        ]

    def threads_inside() -> list[int]:
        with single_threaded_blas():
            return threads()

    before = threads()
    assert set(threads_inside()) == {1}
    with ThreadPoolExecutor(1) as pool:
        assert set(pool.submit(threads_inside).result()) == {1}
    assert threads() == before


def _faults(_: int) -> int:
    """Page faults of this process while arrays of 64 MiB come and go."""
    for _ in range(2):
        np.ones(1 << 23)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        np.ones(1 << 23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="glibc only")
def test_worker_processes_keep_freed_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in KEPT_MEMORY:
        monkeypatch.delenv(name, raising=False)
    found: list[int] = []
    with engine.open_engine(workers=1) as running:
        running.run(_faults, [0], found.append, together=1, shared_folder=tmp_path)
    assert found[0] < (64 << 20) // resource.getpagesize()
