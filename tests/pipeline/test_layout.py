"""What a plan decides where nothing was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import scene_factory as factory
from fakes import FAKE, Fake

from geosegsr.pipeline.plan import plan


@pytest.mark.parametrize(
    ("side", "scale", "blocks"),
    [
        (250, 8, 1),  # two of 1024 along each side would leave nothing to work on side by side
        (1000, 2, 1),
        (750, 4, 9),
        (1000, 4, 16),
        (1536, 4, 16),  # of 2048 again, rounded down to whole tiles
    ],
)
def test_a_result_has_several_blocks_or_one(side: int, scale: int, blocks: int, tmp_path: Path) -> None:
    scene = factory.write_plain(tmp_path / "scene.tif", size=(side, side))
    assert len(plan(scene, scale, "nearest", tile=64, overlap=8).rendering.grid.blocks) == blocks


def test_blocks_of_an_interpolation_run_in_as_many_threads_as_there_are_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geosegsr.workers.engine.CPU_COUNT", 12)
    source = factory.write_plain(tmp_path / "in.tif", size=(32, 32))
    assert plan(source, 2, "bicubic").threads == 12
    assert plan(source, 2, Fake(replace(FAKE, device="cuda"))).threads == 12
    assert plan(source, 2, Fake()).threads == 4


@pytest.mark.parametrize(("side", "scale", "blocks"), [(1000, 4, 16), (1600, 4, 16), (2400, 3, 9)])
def test_blocks_of_an_interpolation_are_multiples_of_the_tiles_of_the_cog(
    side: int, scale: int, blocks: int, tmp_path: Path
) -> None:
    """So that it can be made of theirs, with an overview inside each block; tiles of the interpolation end there, too."""
    grid = plan(
        factory.write_plain(tmp_path / "scene.tif", size=(side, side)), scale, "bicubic"
    ).rendering.grid
    assert len(grid.blocks) == blocks
    assert all(edge * scale % 1024 == 0 for b in grid.blocks for edge in (b.window.row, b.window.col))
    assert grid.tiles_computed == grid.tiles
