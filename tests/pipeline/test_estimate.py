"""What `--dry-run` foretells: the disk that a run takes, and its time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import scene_factory as factory

from geosegsr.pipeline import estimate as module
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.estimate import estimate
from geosegsr.pipeline.folder_state import FolderKeeper
from geosegsr.pipeline.plan import Plan, plan
from geosegsr.raster.bands import BandGroup
from geosegsr.raster.cog import write_cog
from geosegsr.raster.cog_block import BlockFile
from geosegsr.raster.cog_options import creation_options


@pytest.fixture
def planned(tmp_path: Path) -> Plan:
    """Of 4 x 4 blocks of about one size, whose pixels are noise: all take about the same space."""
    values = np.random.default_rng(0).integers(0, 60_000, (3, 480, 480)).astype(np.uint16)
    source = factory.write_scene(tmp_path / "in.tif", values)
    made = plan(source, 2, "bicubic", tile=64, overlap=4, block=256)
    assert made.grid.block_shape == (4, 4)
    return made


def test_the_disk_is_that_of_blocks_and_result_side_by_side(planned: Plan, tmp_path: Path) -> None:
    (tmp_path / "blocks").mkdir()
    files = []
    for block in planned.grid.blocks:
        record = compute_block(planned, {}, FolderKeeper(tmp_path), "run", block.index).files["image"]
        path = tmp_path / "blocks" / f"{block.index:06d}.tif"
        files.append(BlockFile(path, block.window.scaled(2), record.checksum, record.valid))
    result = tmp_path / "result.tif"
    write_cog(
        result, planned.metadata, planned.scene.dtype, files, creation_options({}), None, has_mask=False
    )
    taken = sum(file.path.stat().st_size for file in files) + result.stat().st_size
    assert 0.95 * taken < estimate(planned).disk_bytes < 1.4 * taken


def test_the_time_is_that_of_all_blocks_and_of_the_cog(
    planned: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Plan, "threads", 2)
    monkeypatch.setattr(module, "_COG_BYTES_PER_S", 1e6)
    clock = iter([100.0, 103.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    # Each band is a group of its own, and one of them is measured.
    blocks, cog = len(planned.rendering.groups) * 3.0 * 16 / 2, 960 * 960 * 3 * 2 / 1e6
    assert estimate(planned).seconds == pytest.approx(blocks + cog, abs=0.1)


def test_a_dry_run_is_short_whatever_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forty groups of one kind are measured once, and a block of many tiles in part."""
    source = factory.write_plain(tmp_path / "in.tif", count=40, size=(200, 200))
    made = plan(source, 2, "bicubic", tile=16, overlap=4, block=400)
    groups = tuple(BandGroup((band,), "model") for band in range(40))
    made = replace(made, rendering=replace(made.rendering, groups=groups))
    assert made.grid.blocks[0].tiles > 200
    tiles = []

    def counted(planned: Plan, *args: Any) -> Any:
        record = compute_block(planned, *args)
        tiles.append(record.tiles)
        return record

    monkeypatch.setattr(Plan, "threads", 2)
    monkeypatch.setattr(module, "compute_block", counted)
    clock = iter([100.0, 101.0])
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(module, "_COG_BYTES_PER_S", 1e30)
    expected = estimate(made)
    assert sum(tiles) < 100
    assert expected.tiles == made.grid.tiles
    assert 40 * 200 * 200 / (2 * 48 * 48) < expected.seconds < 40 * 200 * 200 / (2 * 24 * 24)


def test_groups_of_different_size_share_no_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block of the second kind must not find the tiles of three bands that the first kind has left."""
    source = factory.write_plain(tmp_path / "in.tif", count=4, size=(200, 200))
    made = plan(source, 2, "bicubic", tile=32, overlap=8, block=100)
    groups = (BandGroup((0, 1, 2), "model"), BandGroup((3,), "model"))
    made = replace(made, rendering=replace(made.rendering, groups=groups))
    monkeypatch.setattr(Plan, "threads", 4)
    assert estimate(made).tiles == made.grid.tiles
