"""The state of a run under a prefix of an object store, against moto's server."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scene_factory as factory
from s3_server import BUCKET, KEY, SECRET, TOKEN, Asked, S3Server

from geosegsr.errors import GeoSegSRWarning, JobError, StoreError
from geosegsr.pipeline import publish, store_lock
from geosegsr.pipeline.job import Job
from geosegsr.pipeline.prefix_state import PrefixKeeper, prefix_of
from geosegsr.pipeline.report import Progress, Report
from geosegsr.pipeline.run import carry_out
from geosegsr.pipeline.staging import Staging
from geosegsr.pipeline.targets import staged
from geosegsr.pipeline.task import Request
from geosegsr.stores import patience
from geosegsr.stores.address import Address
from geosegsr.stores.opening import open_store
from geosegsr.workers.engine import open_engine

SCRATCH = Address("s3", BUCKET, "scratch/")
BLOCKS = 9


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "_FIRST_S", 0.001)
    monkeypatch.setattr(patience, "_LONGEST_S", 0.01)
    monkeypatch.setattr(store_lock, "RENEW_S", 0.05)
    monkeypatch.setattr(store_lock, "EXPIRES_S", 0.6)
    monkeypatch.setattr(store_lock, "_POLL_S", 0.02)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(0).integers(1, 60_000, (1, 160, 160)).astype(np.uint16)
    return factory.write_scene(tmp_path_factory.mktemp("scene") / "in.tif", values)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "out.tif"


@pytest.fixture(scope="module")
def expected(source: Path) -> bytes:
    """The result of a run that keeps everything beside its target."""
    run(source, source.with_name("local.tif"), None)
    return source.with_name("local.tif").read_bytes()


def run(
    source: Path | str,
    target: Path | str,
    scratch: str | None = str(SCRATCH),
    tell: Callable[[Progress], None] | None = None,
    **how: Any,
) -> Report:
    request = Request(
        2, "bicubic", {"tile": 32, "overlap": 4, "block": 128}, staging=Staging.at(scratch), **how
    )
    with open_engine() as engine:
        task = request.prepare(str(source), staged(target, request.staging))
        assert len(task.planned.grid.blocks) == BLOCKS
        return carry_out(task, engine, tell)


class Stopped(Exception):  # noqa: N818 - no fault
    """What ends a run in a test."""


def stop_after(blocks: int) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.stage == "blocks" and progress.done >= blocks:
            raise Stopped

    return tell


def keys_of(server: S3Server, target: Path) -> dict[str, str]:
    """All keys of the bucket, by what follows the job's prefix."""
    base = prefix_of(SCRATCH, str(target)).key
    return {key.removeprefix(base): key for key in server.stored()}


def interrupted(source: Path, target: Path, blocks: int = 4) -> None:
    with pytest.raises(Stopped):
        run(source, target, tell=stop_after(blocks))
    assert not target.exists()


def test_a_result_is_that_of_a_local_run_and_nothing_is_left(
    server: S3Server, source: Path, target: Path, expected: bytes
) -> None:
    server.client().put_object(Bucket=BUCKET, Key="scratch/mine.txt", Body=b"precious")
    report = run(source, target)
    assert report.status == "done"
    assert target.read_bytes() == expected
    assert server.stored() == ["scratch/mine.txt"]
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    assert run(source, target).status == "skipped"


def test_a_run_that_was_interrupted_is_resumed(
    server: S3Server, source: Path, target: Path, expected: bytes
) -> None:
    interrupted(source, target)
    assert list(target.parent.iterdir()) == [], "all that can be resumed is in the store"
    kept = sum(name.startswith("done/") for name in keys_of(server, target))
    assert kept >= 4
    report = run(source, target)
    assert report.blocks_resumed == kept
    assert target.read_bytes() == expected
    assert server.stored() == []


def test_no_credential_is_in_what_a_run_leaves(server: S3Server, source: Path, target: Path) -> None:
    interrupted(source, target)
    left = {key: server.read(key) for key in server.stored()}
    assert {key.rpartition("/")[2] for key in left} >= {"manifest.json", "000000.json", "000000.tif"}
    for secret in (SECRET, KEY, TOKEN):
        assert not any(secret.encode() in content for content in left.values())


@pytest.mark.parametrize("damage", ["other bytes", "gone", "torn journal", "journal gone"])
def test_what_is_damaged_is_computed_again(
    damage: str, server: S3Server, source: Path, target: Path, expected: bytes
) -> None:
    interrupted(source, target)
    names, client = keys_of(server, target), server.client()
    number = next(name[5:11] for name in names if name.startswith("done/"))
    victim = names[f"done/{number}.json" if "journal" in damage else f"blocks/{number}.tif"]
    if damage in ("gone", "journal gone"):
        client.delete_object(Bucket=BUCKET, Key=victim)
    else:
        content = server.read(victim)
        client.put_object(Bucket=BUCKET, Key=victim, Body=content[:-9] + bytes(9))
    kept = sum(name.startswith("done/") for name in names)
    if "journal" in damage:
        report = run(source, target)
    else:
        with pytest.warns(GeoSegSRWarning, match=f"block {int(number)} of the earlier run is missing"):
            report = run(source, target)
    assert report.blocks_resumed == kept - 1
    assert target.read_bytes() == expected
    assert server.stored() == []


def test_a_block_that_is_damaged_before_it_is_fetched_is_computed_again(
    server: S3Server, source: Path, target: Path, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, spoilt = Job.fetch, []

    def fetch(job: Job) -> bool:
        if not spoilt:
            spoilt.append(keys_of(server, target)["blocks/000003.tif"])
            server.client().put_object(Bucket=BUCKET, Key=spoilt[0], Body=b"another block")
        return honest(job)

    monkeypatch.setattr(Job, "fetch", fetch)
    with pytest.warns(GeoSegSRWarning, match="block 3 is missing or damaged in 's3://"):
        run(source, target)
    assert target.read_bytes() == expected
    assert server.stored() == []


def test_a_run_of_other_options_is_refused_until_it_is_to_be_discarded(
    server: S3Server, source: Path, target: Path, expected: bytes
) -> None:
    interrupted(source, target)
    before = server.stored()
    other = Request(2, "nearest", {"tile": 32, "overlap": 4, "block": 128}, staging=Staging.at(str(SCRATCH)))
    with (
        open_engine() as engine,
        pytest.raises(
            JobError, match=r"Cannot resume the unfinished run in 's3://bucket/scratch/.*model was"
        ),
    ):
        carry_out(other.prepare(str(source), target), engine)
    assert server.stored() == before
    assert run(source, target, resume=False).blocks_resumed == 0
    assert target.read_bytes() == expected
    assert server.stored() == []


def test_an_object_that_no_run_wrote_is_kept_and_the_prefix_refused(
    server: S3Server, source: Path, target: Path
) -> None:
    place = prefix_of(SCRATCH, str(target))
    mine = {(place / "blocks/000001.tif").key: b"no block", (place / "notes.txt").key: b"precious"}
    for key, body in mine.items():
        server.client().put_object(Bucket=BUCKET, Key=key, Body=body)
    for shown in ("notes.txt", "blocks/000001.tif"):
        with pytest.raises(JobError, match=f"it holds '{shown}', which no run wrote"):
            run(source, target)
        assert all(server.read(key) == mine[key] for key in server.stored())
        server.client().delete_object(Bucket=BUCKET, Key=(place / "notes.txt").key)
    assert list(target.parent.iterdir()) == []


def test_a_local_run_is_not_discarded_for_one_in_a_store(
    server: S3Server, source: Path, target: Path, expected: bytes
) -> None:
    with pytest.raises(Stopped):
        run(source, target, None, tell=stop_after(4))
    with pytest.raises(JobError, match='scratch was null, now "s3://bucket/scratch/'):
        run(source, target)
    assert run(source, target, None).blocks_resumed >= 4
    assert target.read_bytes() == expected


def test_of_two_runs_at_once_one_is_refused(server: S3Server, source: Path, target: Path) -> None:
    refused: list[str] = []

    def tell(progress: Progress) -> None:
        if progress.stage == "blocks" and progress.done == 2 and not refused:
            other = Job(target.with_name("elsewhere.tif"), None, prefix_of(SCRATCH, str(target)))
            with pytest.raises(JobError, match="another run of this target is using it now") as caught, other:
                pass
            refused.append(str(caught.value))

    run(source, target, tell=tell)
    assert refused


# A result that goes to a store, too.

RESULT = f"s3://{BUCKET}/results/out.tif"


@pytest.fixture
def _own_staging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine that has never seen the run."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


@pytest.mark.usefixtures("_own_staging")
@pytest.mark.parametrize("where", [{"elsewhere": True, "scratch": None}, {}], ids=["beside it", "scratch"])
def test_a_result_in_a_store_is_resumed_on_another_machine(
    where: dict[str, Any], server: S3Server, source: Path, expected: bytes, tmp_path: Path
) -> None:
    with pytest.raises(Stopped):
        run(source, RESULT, tell=stop_after(4), **where)
    assert "results/out.tif" not in server.stored()
    beside = any(key.startswith("results/out.tif.geosegsr/blocks/") for key in server.stored())
    assert beside == bool(where)
    shutil.rmtree(tmp_path / f"geosegsr-{os.getuid()}")
    assert run(source, RESULT, **where).blocks_resumed >= 4
    assert server.read("results/out.tif") == expected
    assert server.stored() == ["results/out.tif"]


@pytest.mark.usefixtures("_own_staging")
@pytest.mark.parametrize("lost", ["before the upload", "after it"])
def test_blocks_in_a_store_are_kept_until_the_result_is_there(
    lost: str,
    server: S3Server,
    source: Path,
    expected: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = publish.publish

    def interrupted(task: Any) -> None:
        if lost == "after it":
            honest(task)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(publish, "publish", interrupted)
        with pytest.raises(Stopped):
            run(source, RESULT)
    blocks = sum("/blocks/" in key for key in server.stored())
    assert blocks == BLOCKS
    shutil.rmtree(tmp_path / f"geosegsr-{os.getuid()}")
    assert run(source, RESULT).status == ("done" if lost == "before the upload" else "skipped")
    assert server.read("results/out.tif") == expected
    assert server.stored() == ["results/out.tif"]


# The lock.


def a_lock(server: S3Server) -> store_lock.StoreLock:
    return store_lock.StoreLock(open_store(SCRATCH), "lock.json")


def leave_lock(server: S3Server, key: str = "lock.json", **owner: Any) -> None:
    body = json.dumps({"owner": "another", "expires_after_s": 0.3, **owner})
    server.client().put_object(Bucket=BUCKET, Key=key, Body=body.encode())


def test_a_lock_is_renewed_and_leaves_nothing(server: S3Server) -> None:
    lock = a_lock(server)
    lock.acquire()
    before = server.client().head_object(Bucket=BUCKET, Key="lock.json")["ETag"]
    deadline = time.monotonic() + 30
    while server.client().head_object(Bucket=BUCKET, Key="lock.json")["ETag"] == before:
        assert time.monotonic() < deadline, "it is not renewed"
        time.sleep(0.02)
    lock.confirm()
    with pytest.raises(BlockingIOError):
        a_lock(server).acquire()
    lock.release()
    assert server.stored() == []


def test_a_lock_that_is_not_renewed_is_taken_over_whatever_the_clocks_say(server: S3Server) -> None:
    leave_lock(server, host="another machine", born=4e9)
    lock = a_lock(server)
    lock.acquire()
    lock.release()
    assert server.stored() == []


def test_the_lock_of_a_process_that_ended_here_is_no_obstacle(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = store_lock.this_process()
    if "processes" not in here:
        pytest.skip("this system does not tell its processes apart")
    monkeypatch.setattr(store_lock, "EXPIRES_S", 1e6)
    leave_lock(server, **{**here, "expires_after_s": 1e6, "pid": here["pid"], "born": here["born"] - 1})
    lock = a_lock(server)
    lock.acquire()
    lock.release()
    assert not store_lock.has_ended(here)
    assert not store_lock.has_ended({**here, "boot": "another", "pid": 0})
    assert not store_lock.has_ended({})


def test_a_run_whose_lock_was_taken_over_ends_without_a_result(
    server: S3Server, source: Path, target: Path
) -> None:
    def tell(progress: Progress) -> None:
        if progress.stage == "verify":
            key = keys_of(server, target)["lock.json"]
            server.client().put_object(Bucket=BUCKET, Key=key, Body=b'{"owner": "another"}')

    with pytest.raises(JobError, match="another run has taken over the lock"):
        run(source, target, tell=tell)
    assert not target.exists()
    assert "lock.json" in keys_of(server, target), "it is the other run's"


def test_a_store_that_ignores_conditions_is_refused(
    server: S3Server, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(SCRATCH)
    honest = store.put
    monkeypatch.setattr(
        store, "put", lambda key, data, *, new=False, replaces=None, kind="": honest(key, data, kind=kind)
    )
    with pytest.raises(JobError, match="it cannot keep two runs apart"):
        run(source, target)
    assert server.stored() == []


def test_an_owner_whose_answers_get_lost_keeps_its_lock(server: S3Server) -> None:
    lost = iter(range(10_000))
    server.lost = lambda asked: asked.method == "PUT" and next(lost) % 2 == 0
    lock = a_lock(server)
    lock.acquire()
    for _ in range(5):
        lock.confirm()
    lock.release()
    assert server.stored() == []


# Faults of the store.


def test_two_in_five_requests_may_be_throttled(
    server: S3Server, source: Path, target: Path, expected: bytes
) -> None:
    server.spoil = lambda asked, before: (503, "SlowDown") if before % 5 < 2 else None
    run(source, target)
    server.spoil = None
    assert target.read_bytes() == expected
    assert server.stored() == []


@pytest.mark.parametrize(
    "methods", [("PUT", "POST", "DELETE"), ("GET", "HEAD"), ("PUT", "POST", "DELETE", "GET", "HEAD")]
)
def test_rights_that_are_lost_end_the_run_and_what_is_finished_is_resumed(
    server: S3Server, source: Path, target: Path, expected: bytes, methods: tuple[str, ...]
) -> None:
    lost = threading.Event()

    def spoil(asked: Asked, before: int) -> tuple[int, str] | None:
        return (403, "AccessDenied") if lost.is_set() and asked.method in methods else None

    def tell(progress: Progress) -> None:
        if progress.stage == "blocks" and progress.done == 3:
            lost.set()

    server.spoil = spoil
    with pytest.raises(StoreError, match="the credentials do not allow it"):
        run(source, target, tell=tell)
    assert not target.exists()
    server.spoil = None
    assert run(source, target).blocks_resumed >= 3
    assert target.read_bytes() == expected
    assert server.stored() == []


@pytest.mark.parametrize("hours", [-5, 5])
def test_a_store_whose_clock_is_wrong_is_no_obstacle(
    server: S3Server, source: Path, target: Path, expected: bytes, hours: float
) -> None:
    """Neither for the lock of a run that was killed, nor for its blocks."""
    server.ahead = 3600 * hours
    interrupted(source, target)
    leave_lock(server, f"{prefix_of(SCRATCH, str(target)).key}lock.json", host="another machine")
    assert run(source, target).blocks_resumed >= 3
    assert target.read_bytes() == expected
    assert server.stored() == []


def test_a_worker_that_cannot_write_is_told_so(server: S3Server) -> None:
    keeper = PrefixKeeper(SCRATCH, "key")
    keeper.check()
    assert server.stored() == []
    server.spoil = lambda asked, before: (403, "AccessDenied") if asked.method == "PUT" else None
    with pytest.raises(StoreError, match="Cannot write 's3://bucket/scratch/run-"):
        keeper.check()


def test_requests_are_few(server: S3Server, source: Path, target: Path) -> None:
    """Of a block: it and its record are put, it is fetched, and both are deleted; all else does not depend on blocks."""
    run(source, target)
    renewals = sum(asked.path.endswith("lock.json") for asked in server.asked)
    assert len(server.asked) - renewals <= 5 * BLOCKS + 20
    sent = sum(asked.sent for asked in server.asked)
    assert sent < 1.3 * target.stat().st_size + 4000 * BLOCKS
