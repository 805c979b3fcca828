"""A cluster whose workers share no folder with the command: blocks go through an object store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
import scene_factory as factory
from cluster_lab import Lab
from distributed import get_worker
from s3_server import BUCKET, KEY, SECRET, TOKEN, S3Server

from geosegsr import upscale
from geosegsr.errors import GeoSegSRWarning, JobError, StoreError
from geosegsr.pipeline import store_lock
from geosegsr.pipeline.prefix_state import PrefixKeeper
from geosegsr.stores.address import Address
from geosegsr.stores.opening import open_store
from geosegsr.workers import cluster

OPTIONS: dict[str, Any] = {"tile": 32, "overlap": 4, "block": 128}
RESULT = f"s3://{BUCKET}/results/out.tif"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> str:
    values = np.random.default_rng(0).integers(1, 60_000, (1, 160, 160)).astype(np.uint16)
    return str(factory.write_scene(tmp_path_factory.mktemp("scene") / "in.tif", values))


@pytest.fixture
def expected(source: str, tmp_path: Path) -> bytes:
    upscale(source, tmp_path / "local.tif", 2, "bicubic", **OPTIONS)
    return (tmp_path / "local.tif").read_bytes()


@pytest.mark.parametrize("target", ["in the store", "local"])
def test_workers_need_no_folder_of_the_command(
    target: str, lab: Lab, server: S3Server, source: str, expected: bytes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sent: list[bytes] = []

    def noted(work: Any) -> bytes:
        sent.append(cloudpickle.dumps(work))
        return sent[-1]

    monkeypatch.setattr(cluster, "pack", noted)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("one", "two"):
        lab.add(name)
    out = tmp_path / "out.tif"
    if target == "local":
        upscale(source, out, 2, "bicubic", scheduler=lab.address, scratch=f"s3://{BUCKET}/scratch", **OPTIONS)
        assert out.read_bytes() == expected
        assert server.stored() == []
    else:
        upscale(source, RESULT, 2, "bicubic", scheduler=lab.address, **OPTIONS)
        assert server.read("results/out.tif") == expected
        assert server.stored() == ["results/out.tif"]
    written = [asked.path for asked in server.asked if asked.method == "PUT" and "/blocks/" in asked.path]
    assert len(written) == 9
    assert sent and not any(str(tmp_path).encode() in work for work in sent), (
        "where the result is made is nobody else's business"
    )
    assert not any(secret.encode() in work for work in sent for secret in (SECRET, KEY, TOKEN))


def test_a_worker_that_cannot_write_to_the_store_gets_no_work(
    lab: Lab, server: S3Server, source: str, expected: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    honest: Callable[[PrefixKeeper], None] = PrefixKeeper.check

    def check(keeper: PrefixKeeper) -> None:
        if get_worker().name == "bad":
            raise StoreError("Cannot write 's3://bucket/x': the credentials do not allow it.")
        honest(keeper)

    monkeypatch.setattr(PrefixKeeper, "check", check)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in ("good", "bad"):
        lab.add(name)
    with pytest.warns(GeoSegSRWarning, match="no work for worker .*the credentials do not allow it"):
        upscale(source, RESULT, 2, "bicubic", scheduler=lab.address, **OPTIONS)
    assert server.read("results/out.tif") == expected


def test_another_command_is_refused_while_one_is_at_work(
    lab: Lab, server: S3Server, source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As two commands on two machines that share nothing but the store."""
    monkeypatch.setattr(store_lock, "RENEW_S", 0.05)
    monkeypatch.setattr(store_lock, "_POLL_S", 0.02)
    held = store_lock.StoreLock(open_store(Address.parse(RESULT)), "results/out.tif.geosegsr/lock.json")
    held.acquire()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lab.add("one")
    with pytest.raises(JobError, match="another run of this target is using it now"):
        upscale(source, RESULT, 2, "bicubic", scheduler=lab.address, **OPTIONS)
    held.release()
    assert server.stored() == []
