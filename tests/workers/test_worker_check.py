"""The check of one worker for a plan."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import scene_factory as factory
import torch
from cluster_lab import Lab, work_through
from command_line import assert_refused, run_here

from geosegsr.errors import CheckpointError, ConfigError
from geosegsr.models.card import ModelCard
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.folder_state import FolderKeeper
from geosegsr.pipeline.plan import plan
from geosegsr.pipeline.worker_check import Preflight
from geosegsr.workers import engine
from geosegsr.workers.worker import Capacity


def save_model(path: Path, seed: int) -> None:
    torch.manual_seed(seed)
    small = {
        "width": 16, "depths": (1,), "tower_width": 32, "tower_layers": 1, "tower_heads": 2, "tower_grid": 2,
        "tower_output": 16, "prompt_heads": 2,
    }  # fmt: skip
    model = SeGSR(preset("compact", scale=2, **small))
    save_checkpoint(path, model, ModelCard.of(model.config, "small", tile=32, overlap=8, halo=4))


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
    compute_block(planned, {}, FolderKeeper(tmp_path), "run", 0)  # what is loaded once is not a block's
    tracemalloc.start()
    try:
        compute_block(planned, {}, FolderKeeper(tmp_path), "other run", 0)
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
