"""A finished file is read back and compared with what was computed, its overviews included."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scene_factory as factory

from geosegsr.errors import VerificationError
from geosegsr.raster.cog import write_cog
from geosegsr.raster.cog_block import BlockFile, block_bytes, pixel_checksum
from geosegsr.raster.cog_options import creation_options
from geosegsr.raster.cog_verify import verify_cog
from geosegsr.raster.metadata import Metadata
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window

SIDE = 640
"""More than a block of the COG, so that it has an overview."""


@pytest.fixture
def made(tmp_path: Path) -> tuple[Metadata, np.dtype, list[BlockFile]]:
    """A result of one block, whose neighbouring pixels differ."""
    values = np.random.default_rng(0).integers(0, 1000, (2, SIDE, SIDE)).astype(np.uint16)
    metadata = Scene.open(factory.write_scene(tmp_path / "in.tif", values)).metadata
    path = tmp_path / "000000.tif"
    path.write_bytes(block_bytes(values, None, packed=True))
    block = BlockFile(path, Window(0, 0, SIDE, SIDE), pixel_checksum(values, None), (SIDE**2,) * 2)
    return metadata, values.dtype, [block]


def written(made: tuple[Metadata, np.dtype, list[BlockFile]], target: Path, **options: str) -> None:
    """Write with some options, and verify as if with the default ones."""
    write_cog(target, *made, creation_options(options), None, has_mask=False)
    verify_cog(target, *made, creation_options({}), alpha="auto", threads=1)


def test_a_whole_file_is_accepted(made: tuple[Metadata, np.dtype, list[BlockFile]], tmp_path: Path) -> None:
    written(made, tmp_path / "out.tif")


@pytest.mark.parametrize("method", ["NEAREST", "BILINEAR", "MODE"])
def test_an_overview_that_does_not_show_the_means_of_its_pixels_is_refused(
    method: str, made: tuple[Metadata, np.dtype, list[BlockFile]], tmp_path: Path
) -> None:
    with pytest.raises(VerificationError, match=r"its overview does not show its pixels \(off by \d+"):
        written(made, tmp_path / "out.tif", OVERVIEW_RESAMPLING=method)
