"""On a cluster nothing is lost: workers that come, go, cannot help or never come, and a scheduler that dies."""

from __future__ import annotations

import math
import pickle
import subprocess
import sys
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import numpy as np
import psutil
import pytest
import rasterio
import scene_factory as factory
import torch
from command_line import PATIENCE_S, assert_refused, environment, finish, run, run_here, start
from distributed import Client, LocalCluster, Worker, get_worker

from geosegsr.context import check_stop
from geosegsr.errors import Cancelled, CheckpointError, ConfigError, GeoSegSRWarning, JobError, SceneError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.plan import plan
from geosegsr.pipeline.worker_check import Preflight
from geosegsr.workers import cluster, dispatch, engine, worker
from geosegsr.workers.dispatch import WAIT_KEY
from geosegsr.workers.worker import Capacity

GRID = ("--model", "bicubic", "--tile", 24, "--overlap", 8, "--block", 64)
"""42 blocks of the scene below."""


class Lab:
    """A cluster in this process, whose workers come and go by name."""

    def __init__(self, inner: LocalCluster) -> None:
        self._inner = inner
        self._workers: dict[str, Worker] = {}
        self.scheduler = inner.scheduler

    @property
    def address(self) -> str:
        return str(self._inner.scheduler_address)

    def add(self, name: str, **options: Any) -> None:
        async def begin() -> Worker:
            return await Worker(
                self.address, name=name, dashboard=False, **{"nthreads": 1, "memory_limit": 0, **options}
            )

        self._workers[name] = self._inner.sync(begin)

    def remove(self, name: str) -> None:
        """The worker ends what it is at, and leaves."""
        self._inner.sync(self._workers.pop(name).close)

    def retire_all(self) -> None:
        for name in list(self._workers):
            self.remove(name)


@pytest.fixture
def lab(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    monkeypatch.setattr(dispatch, "_UPDATE_S", 0.05)
    with LocalCluster(n_workers=0, processes=False, dashboard_address=None, silence_logs="CRITICAL") as inner:
        opened = Lab(inner)
        yield opened
        opened.retire_all()


def where(index: int) -> tuple[int, str]:
    time.sleep(0.01)
    return index, str(get_worker().name)


def work_through(
    lab: Lab,
    folder: Path,
    *,
    blocks: int = 40,
    work: Callable[[int], Any] = where,
    check: Callable[[Capacity], str] | None = None,
    then: Callable[[int], None] = lambda done: None,
) -> list[Any]:
    """Run on the lab; `then` hears after each block how many are done."""
    results: list[Any] = []

    def on_done(result: Any) -> None:
        results.append(result)
        then(len(results))

    with engine.open_engine(scheduler=lab.address) as opened:
        opened.run(
            work, range(blocks), on_done, together=blocks, shared_folder=folder,
            check=None if check is None else lambda: check,
        )  # fmt: skip
    return results


def assert_each_once(results: list[tuple[int, str]], blocks: int = 40) -> None:
    assert sorted(index for index, _ in results) == list(range(blocks))


def refuse_bad(capacity: Capacity) -> str:
    if get_worker().name.startswith("bad"):
        raise SceneError("Cannot read 'scene.tif': it is not there.")
    return ""


_other_helps = threading.Event()


def where_with_help(index: int) -> tuple[int, str]:
    """The worker called first gets no further than some blocks before another one computes any."""
    name = str(get_worker().name)
    if name != "first":
        _other_helps.set()
    elif index >= 25:
        assert _other_helps.wait(PATIENCE_S)
    return index, name


def test_a_worker_that_joins_late_helps(lab: Lab, tmp_path: Path) -> None:
    _other_helps.clear()
    lab.add("first")
    results = work_through(
        lab, tmp_path, work=where_with_help, then=lambda done: lab.add("late") if done == 5 else None
    )
    assert_each_once(results)
    assert {name for _, name in results} == {"first", "late"}


def test_a_worker_that_joins_late_and_cannot_help_gets_nothing(lab: Lab, tmp_path: Path) -> None:
    lab.add("first")
    with pytest.warns(GeoSegSRWarning, match=r"^no work for worker \S+: Cannot read 'scene.tif'") as told:
        results = work_through(
            lab, tmp_path, check=refuse_bad, then=lambda done: lab.add("bad") if done == 5 else None
        )
    assert_each_once(results)
    assert {name for _, name in results} == {"first"}
    assert len(told) == 1


def test_workers_that_cannot_help_are_named_together_and_left_out(lab: Lab, tmp_path: Path) -> None:
    for name in ("good", "bad 1", "bad 2"):
        lab.add(name)
    with pytest.warns(GeoSegSRWarning, match=r"^no work for worker inproc\S+, inproc\S+: Cannot") as told:
        results = work_through(lab, tmp_path, check=refuse_bad)
    assert_each_once(results)
    assert {name for _, name in results} == {"good"}
    assert len(told) == 1


def test_beside_one_that_cannot_help_the_others_keep_to_neighbouring_blocks(lab: Lab, tmp_path: Path) -> None:
    for name in ("good 1", "good 2", "bad"):
        lab.add(name)
    with pytest.warns(GeoSegSRWarning, match="no work for worker"):
        results = work_through(lab, tmp_path, check=refuse_bad)
    assert_each_once(results)
    names = [name for _, name in sorted(results)]
    assert set(names) == {"good 1", "good 2"}
    assert sum(name != other for name, other in pairwise(names)) <= 12


def test_no_worker_that_can_help(lab: Lab, tmp_path: Path) -> None:
    lab.add("bad")
    with pytest.raises(
        JobError, match=r"^Cannot use worker inproc\S+: Cannot read 'scene.tif': it is not there\.$"
    ):
        work_through(lab, tmp_path, check=refuse_bad)
    assert not list(tmp_path.iterdir())


def test_a_worker_that_leaves_takes_nothing_with_it(lab: Lab, tmp_path: Path) -> None:
    lab.add("stays")
    lab.add("leaves")
    results = work_through(lab, tmp_path, then=lambda done: lab.remove("leaves") if done == 10 else None)
    assert_each_once(results)


def test_the_only_good_worker_leaves_and_another_comes(lab: Lab, tmp_path: Path) -> None:
    """Blocks that may go to the good worker only must not wait for it for ever."""
    lab.add("good 1")
    lab.add("bad")

    def change(done: int) -> None:
        if done == 10:
            lab.add("good 2")
            lab.remove("good 1")

    with pytest.warns(GeoSegSRWarning, match="no work for worker"):
        results = work_through(lab, tmp_path, check=refuse_bad, then=change)
    assert_each_once(results)
    assert {name for _, name in results} == {"good 1", "good 2"}


def test_the_only_good_worker_comes_back(lab: Lab, tmp_path: Path) -> None:
    """Meanwhile there is one that cannot help, which is no reason to give up."""
    lab.add("good 1")
    lab.add("bad")
    later = threading.Timer(0.3, lab.add, ["good 2"])

    def change(done: int) -> None:
        if done == 10:
            lab.remove("good 1")
            later.start()

    with pytest.warns(GeoSegSRWarning) as told:
        results = work_through(lab, tmp_path, check=refuse_bad, then=change)
    later.join()
    assert_each_once(results)
    assert "has only workers that cannot help or are busy now: waiting" in str(told[-1].message)


def test_scaled_to_zero_and_back(lab: Lab, tmp_path: Path) -> None:
    lab.add("before")
    later = threading.Timer(0.5, lab.add, ["after"])

    def change(done: int) -> None:
        if done == 10:
            lab.remove("before")
            later.start()

    with pytest.warns(
        GeoSegSRWarning, match=r"^the scheduler at inproc\S+ has no workers now: waiting, up to"
    ):
        results = work_through(lab, tmp_path, then=change)
    later.join()
    assert_each_once(results)
    assert {name for _, name in results} == {"before", "after"}


def test_demand_starts_the_first_worker(lab: Lab, tmp_path: Path) -> None:
    """As an adaptive cluster does, that begins with none and asks how many there should be."""
    watching = threading.Event()

    def start_on_demand() -> None:
        while not watching.wait(0.02):
            if lab.scheduler.adaptive_target() > 0:
                lab.add("on demand")
                return

    starter = threading.Thread(target=start_on_demand)
    starter.start()
    try:
        with pytest.warns(GeoSegSRWarning, match="has no workers now"):
            results = work_through(lab, tmp_path)
    finally:
        watching.set()
        starter.join()
    assert_each_once(results)


def test_waiting_for_workers_has_an_end(lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = factory.write_plain(tmp_path / "in.tif")
    target = tmp_path / "out.tif"
    with dask.config.set({WAIT_KEY: "0.3s"}):
        outcome = run_here(capfd, "upscale", source, "-o", target, *GRID, "--scheduler", lab.address)
    assert_refused(outcome, 1, lab.address, "no workers", "dask worker", "DASK_GEOSEGSR__WAIT_FOR_WORKERS")
    assert len(outcome.warned) == 1
    assert "has no workers now: waiting, up to 0.3 s" in outcome.warned[0]
    assert sorted(tmp_path.iterdir()) == [source]


def test_a_time_to_wait_that_is_none(lab: Lab, tmp_path: Path) -> None:
    with (
        dask.config.set({WAIT_KEY: "a while"}),
        pytest.raises(ConfigError, match=r"'a while' .*DASK_GEOSEGSR__WAIT_FOR_WORKERS=2h"),
    ):
        work_through(lab, tmp_path)


def test_the_window_follows_the_workers(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks sent and not delivered: two for each thread of the workers that are there."""
    most: Counter[bool] = Counter()
    sent = delivered = 0
    honest = Client.submit

    def submit(self: Client, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        nonlocal sent
        if function is worker.compute:
            sent += 1
            most[delivered > 20] = max(most[delivered > 20], sent - delivered)
        return honest(self, function, *args, **options)

    def count(done: int) -> None:
        nonlocal delivered
        delivered = done
        if done == 20:
            lab.add("second", nthreads=4)

    monkeypatch.setattr(Client, "submit", submit)
    _other_helps.clear()
    lab.add("first", nthreads=2)
    assert_each_once(work_through(lab, tmp_path, blocks=150, work=where_with_help, then=count), 150)
    assert most == {False: 2 * 2, True: 2 * 6}


def on_a_gpu(capacity: Capacity) -> str:
    return "cpu" if get_worker().name.startswith("cpu") else "cuda"


_at_work: Counter[str] = Counter()
_most_at_work: Counter[str] = Counter()
_counting = threading.Lock()


def where_and_how_many(index: int) -> tuple[int, str]:
    name = str(get_worker().name)
    with _counting:
        _at_work[name] += 1
        _most_at_work[name] = max(_most_at_work[name], _at_work[name])
    time.sleep(0.02)
    with _counting:
        _at_work[name] -= 1
    return index, name


def test_blocks_ask_for_a_gpu_where_workers_declare_them(lab: Lab, tmp_path: Path) -> None:
    lab.add("one gpu", nthreads=3, resources={"GPU": 1})
    lab.add("two at a time", nthreads=3, resources={"GPU": 2})
    lab.add("undeclared", nthreads=3)
    _most_at_work.clear()
    with pytest.warns(GeoSegSRWarning, match=r"declare.*--resources GPU=1"):
        results = work_through(lab, tmp_path, work=where_and_how_many, check=on_a_gpu)
    assert_each_once(results)
    assert _most_at_work == {"one gpu": 1, "two at a time": 2}


def test_without_declared_gpus_blocks_ask_for_none(lab: Lab, tmp_path: Path) -> None:
    lab.add("gpu", nthreads=3)
    _most_at_work.clear()
    assert_each_once(work_through(lab, tmp_path, work=where_and_how_many, check=on_a_gpu))
    assert _most_at_work == {"gpu": 3}


def test_blocks_of_a_result_come_from_one_kind_of_device(lab: Lab, tmp_path: Path) -> None:
    lab.add("cpu 1")
    lab.add("gpu")
    with pytest.warns(GeoSegSRWarning, match=r"would compute on 'cpu', .*Pass --device cpu") as told:
        results = work_through(
            lab, tmp_path, check=on_a_gpu, then=lambda done: lab.add("cpu 2") if done == 5 else None
        )
    assert_each_once(results)
    assert {name for _, name in results} == {"gpu"}
    assert len(told) == 2


def test_a_process_that_lost_the_work_is_prepared_again(lab: Lab, tmp_path: Path) -> None:
    """As one that was restarted under its old address has."""
    lab.add("forgetful")
    results = work_through(lab, tmp_path, then=lambda done: worker._prepared.clear() if done == 10 else None)
    assert_each_once(results)


def wait_for_the_end(index: int) -> int:
    while True:
        check_stop()
        time.sleep(0.01)


def test_blocks_at_work_end_with_their_run(lab: Lab, tmp_path: Path) -> None:
    lab.add("busy", nthreads=2)
    with engine.open_engine(scheduler=lab.address) as opened:
        threading.Timer(0.5, opened.cancel).start()
        with pytest.raises(Cancelled):
            opened.run(wait_for_the_end, range(9), lambda _: None, together=9, shared_folder=tmp_path)
        busy = lab._workers["busy"]
        deadline = time.monotonic() + 10
        while busy.state.executing_count:
            assert time.monotonic() < deadline, "a block of a run that was cancelled is still at work"
            time.sleep(0.02)


def refuse_to_arrive() -> None:
    raise CheckpointError("Cannot use 'm.safetensors': it is not the file that this run was planned with.")


class OfAnotherModel:
    """Work that cannot be unpickled, as that with another model's file is."""

    def __call__(self, index: int) -> int:
        return index

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse_to_arrive, ()


def test_a_worker_with_another_model(lab: Lab, tmp_path: Path) -> None:
    lab.add("other")
    with pytest.raises(
        JobError, match=r"^Cannot use worker inproc\S+: Cannot use 'm.safetensors': it is not"
    ):
        work_through(lab, tmp_path, work=OfAnotherModel())


def raise_a_bug(index: int) -> int:
    raise ZeroDivisionError(f"block {index}")


def test_a_bug_keeps_its_traceback(lab: Lab, tmp_path: Path) -> None:
    lab.add("any")
    with pytest.raises(ZeroDivisionError, match="block") as caught:
        work_through(lab, tmp_path, work=raise_a_bug)
    assert "raise_a_bug" in [entry.name for entry in caught.traceback]


def test_another_version_of_the_package(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "__version__", "9.9.9")
    lab.add("old")
    with pytest.raises(JobError, match=r"runs geosegsr \S+, this is 9\.9\.9\. Install the same version"):
        work_through(lab, tmp_path)


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


def save_model(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    small = {
        "width": 16, "depths": (1,), "tower_width": 32, "tower_layers": 1, "tower_heads": 2, "tower_grid": 2,
        "tower_output": 16, "prompt_heads": 2,
    }  # fmt: skip
    model = SeGSR(preset("compact", scale=2, **small))
    save_checkpoint(path, model, ModelCard.of(model.config, "small", tile=32, overlap=8, halo=4))


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


# The check of one worker for a plan.


@pytest.fixture
def wide(tmp_path: Path) -> Path:
    return factory.write_plain(tmp_path / "wide.tif", size=(400, 400))


def test_memory_for_the_blocks_of_a_worker(wide: Path) -> None:
    planned = plan(wide, 4, "bicubic", tile=32, overlap=8, block=1600)
    resident = psutil.Process().memory_info().rss
    plenty = (resident + 4 * planned.block_bytes(planned.grid)) * 2
    capacity = Capacity(threads=4, cores=1, gpus=0, memory_bytes=plenty)
    check = Preflight.of(planned)
    check(capacity)
    check(replace(capacity, memory_bytes=0))  # no limit
    scarce = replace(capacity, memory_bytes=int((resident + 1.5 * planned.block_bytes(planned.grid)) / 0.95))
    with pytest.raises(
        ConfigError, match=r"^Cannot compute 4 blocks .*Pass --block (\d+), or give"
    ) as refused:
        check(scarce)
    side = int(str(refused.value).split("--block ")[1].split(",")[0])
    smaller = plan(wide, 4, "bicubic", tile=32, overlap=8, block=side)
    Preflight.of(smaller)(replace(scarce, memory_bytes=scarce.memory_bytes + 5_000_000))
    with pytest.raises(ConfigError, match="Give the workers more memory or fewer threads"):
        check(replace(capacity, memory_bytes=resident // 2))


@pytest.mark.parametrize("threads", [1, 4])
def test_a_worker_keeps_a_twentieth_of_its_memory_free(
    threads: int, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dask ends a worker that uses more than 95 % of its limit."""
    planned = plan(wide, 4, "bicubic", tile=32, overlap=8, block=800)
    process = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=700_000_000))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    needed = 700_000_000 + threads * planned.block_bytes(planned.grid)
    check = Preflight.of(planned)
    capacity = Capacity(threads=threads, cores=1, gpus=0, memory_bytes=0)
    check(replace(capacity, memory_bytes=math.ceil(needed / 0.95) + 1))
    with pytest.raises(ConfigError, match=rf"^Cannot compute {threads} block"):
        check(replace(capacity, memory_bytes=math.floor(needed / 0.95) - 1))


def test_a_block_takes_no_more_memory_than_the_bound_says(wide: Path, tmp_path: Path) -> None:
    planned = plan(wide, 4, "bicubic", tile=32, overlap=8, block=800)
    (tmp_path / "blocks").mkdir()
    compute_block(planned, tmp_path, "run", 0)  # what is loaded once is not a block's
    tracemalloc.start()
    try:
        compute_block(planned, tmp_path, "other run", 0)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    bound = planned.block_bytes(planned.grid)
    assert bound / 6 < peak <= bound


def test_a_device_that_workers_do_not_have(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is CUDA here")
    source = factory.write_plain(tmp_path / "in.tif")
    save_model(tmp_path / "m.safetensors", seed=0)
    lab.add("cpu")
    outcome = run_here(
        capfd, "upscale", source, "-o", tmp_path / "out.tif", "--scale", 2, "--model", tmp_path / "m.safetensors",
        "--scheduler", lab.address, "--device", "cuda",
    )  # fmt: skip
    assert_refused(
        outcome, 1, "Cannot use worker inproc", "Cannot run on device 'cuda': this machine has cpu"
    )


def test_blocks_share_the_cores_of_their_worker(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cores_at_hand(index: int) -> int | None:
        from geosegsr.context import cores_of_a_block

        return cores_of_a_block.get()

    lab.add("three", nthreads=3)
    assert set(work_through(lab, tmp_path, work=cores_at_hand)) == {1}
    monkeypatch.setattr(engine, "CPU_COUNT", 6)
    results: list[Any] = []
    with engine.open_engine(workers=2) as opened:
        opened.run(cores_at_hand, range(4), results.append, together=4, shared_folder=tmp_path)
    assert results == [3] * 4


def test_planning_for_a_cluster_loads_no_network(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", seed=0)
    source = factory.write_plain(tmp_path / "in.tif")
    here = plan(source, 2, tmp_path / "m.safetensors", device="cpu")
    distant = plan(source, 2, tmp_path / "m.safetensors", device="cpu", elsewhere=True)
    assert distant.identity() == here.identity()
    assert distant.tags() == here.tags()
    arrived = pickle.loads(pickle.dumps(distant))
    lr = np.random.default_rng(0).random((1, 3, 32, 32), dtype=np.float32)
    assert np.array_equal(arrived.rendering.upscaler(lr), here.rendering.upscaler(lr))
    assert plan(source, 2, tmp_path / "m.safetensors", device="cuda", elsewhere=True).device == "cuda"
    sent = pickle.dumps(distant)
    save_model(tmp_path / "m.safetensors", seed=7)
    with pytest.raises(CheckpointError, match="it is not the file that this run was planned with"):
        pickle.loads(sent)
