"""On a cluster nothing is lost: workers that come, go, cannot help or never come, and a scheduler that dies."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import pytest
import scene_factory as factory
from cluster_lab import Lab, assert_each_once, work_through
from command_line import PATIENCE_S, assert_refused, run_here
from distributed import Client, get_worker

from geosegsr.context import check_stop
from geosegsr.errors import Cancelled, CheckpointError, ConfigError, GeoSegSRWarning, JobError, SceneError
from geosegsr.workers import cluster, engine, worker
from geosegsr.workers.dispatch import WAIT_KEY
from geosegsr.workers.members import Members
from geosegsr.workers.worker import Capacity, Rejected

GRID = ("--model", "bicubic", "--tile", 24, "--overlap", 8, "--block", 64)
"""42 blocks of the scene below."""


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
    assert "has only workers that cannot help now: waiting" in str(told[-1].message)


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
        deadline = time.monotonic() + 60
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


def test_workers_that_still_load_are_not_called_busy() -> None:
    members = Members(None, "run", ())
    assert members.why_idle() == "no workers now"
    members._found = {"a": None}
    assert (
        members.why_idle()
        == "1 worker that has not answered yet, still loading the model or busy with other work"
    )
    members._found = {"a": None, "b": Rejected("no"), "c": None}
    assert members.why_idle().startswith("2 workers that have not answered yet")
    members._found = {"b": Rejected("no")}
    assert members.why_idle() == "only workers that cannot help now"
