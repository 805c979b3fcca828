"""What a run loads before its first block: each import delays it."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = "scipy.ndimage", "scipy.sparse", "rio_cogeo", "pydantic", "distributed", "torch"


@pytest.mark.parametrize("module", LATE)
def test_an_interpolated_block_needs_no_slow_import(module: str, modules_of_a_block: set[str]) -> None:
    assert "geosegsr.pipeline.block" in modules_of_a_block
    assert module not in modules_of_a_block


@pytest.fixture(scope="module")
def modules_of_a_block(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Modules that a fresh process has loaded after it planned a scene and computed a block."""
    code = f"""
import sys
from pathlib import Path
import numpy as np
from geosegsr.pipeline.block import compute_block
from geosegsr.pipeline.folder_state import FolderKeeper
from geosegsr.pipeline.plan import plan
from geosegsr.pipeline import scene_list, upscale
from geosegsr.raster.cog_block import block_bytes

folder = Path({str(tmp_path_factory.mktemp("start"))!r})
(folder / "blocks").mkdir()
(folder / "scene.tif").write_bytes(block_bytes(np.full((3, 64, 64), 7, np.uint8), None, packed=False))
compute_block(plan(folder / "scene.tif", 2, "bicubic"), {{}}, FolderKeeper(folder), "run", 0)
print(*sys.modules)
"""
    paths = {"PYTHONPATH": ":".join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], env=paths, check=True, capture_output=True
    )
    return set(done.stdout.decode().split())
