"""What a network's call is said to take, against what a process grows by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import scene_factory as factory
import torch

from geosegsr.models.card import ModelCard
from geosegsr.models.catalogue import load_upscaler
from geosegsr.models.checkpoint import save_checkpoint
from geosegsr.models.segsr.network import SeGSR, preset
from geosegsr.models.segsr.workspace import workspace_bytes
from geosegsr.pipeline.plan import plan

CONFIG = preset("compact", scale=2, width=32, depths=(1, 1))
GROWTH = """
import ctypes, pathlib, sys, torch
from geosegsr.models.segsr.network import SeGSR, preset
network = SeGSR(preset("compact", scale=2, width=32, depths=(1, 1))).eval().requires_grad_(False)
network.to(getattr(torch, sys.argv[1])).to(memory_format=torch.channels_last)
lr = torch.rand(1, 3, 768, 768)
def resident(entry):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(entry))
ctypes.CDLL("libc.so.6").malloc_trim(0)
pathlib.Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS")
with torch.inference_mode():
    network(lr)
print(resident("VmHWM") - before)
"""


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_call_takes_what_was_said_and_not_much_less(dtype: str) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    run = subprocess.run(
        [sys.executable, "-c", GROWTH, dtype], capture_output=True, text=True, check=True, env=plain
    )
    taken = int(run.stdout)
    said, anyhow = (workspace_bytes(CONFIG, side, side, getattr(torch, dtype)) for side in (768, 16))
    assert 0.6 * (said - anyhow) < taken < said


def test_it_grows_with_the_tile_and_with_the_dtype() -> None:
    def steps(dtype: torch.dtype) -> tuple[int, int]:
        small, middle, large = (workspace_bytes(CONFIG, side, side, dtype) for side in (128, 256, 512))
        return middle - small, large - middle

    (first, second), (_, half) = steps(torch.float32), steps(torch.bfloat16)
    assert second / first == pytest.approx(4, rel=0.1)
    assert half < second  # by little: what units hand on stays in float32, and what is added to the base


def test_adapters_are_folded_away_before_a_call() -> None:
    shapes = {"scale": 2, "width": 16, "depths": (1,), "tower_layers": 1}
    with_adapters, without = (preset("compact", lora_rank=rank, **shapes) for rank in (8, 0))
    assert workspace_bytes(with_adapters, 64, 64, torch.float32) == workspace_bytes(
        without, 64, 64, torch.float32
    )


def test_a_block_is_planned_with_the_networks_memory(tmp_path: Path) -> None:
    scene = factory.write_plain(tmp_path / "scene.tif", size=(200, 200))
    network = SeGSR(CONFIG)
    file = tmp_path / "m.safetensors"
    save_checkpoint(file, network, ModelCard.of(CONFIG, "m", tile=128))
    upscaler = load_upscaler(file, device="cpu", precision="fp32")
    by_network, by_bicubic = (plan(scene, 2, model, tile=128, overlap=32) for model in (upscaler, "bicubic"))
    more = by_network.block_bytes(by_network.grid) - by_bicubic.block_bytes(by_bicubic.grid)
    rows, cols = by_network.grid.rows.tile, by_network.grid.cols.tile
    assert more >= workspace_bytes(CONFIG, rows, cols, torch.float32)
    ensemble = plan(scene, 2, upscaler, tile=128, overlap=32, ensemble=True)
    assert ensemble.block_bytes(ensemble.grid) == by_network.block_bytes(by_network.grid)
