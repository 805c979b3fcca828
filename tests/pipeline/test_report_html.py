"""What a notebook shows of a report."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import numpy as np
import rasterio
import scene_factory as factory
from rasterio.io import MemoryFile

import geosegsr
from geosegsr.pipeline.report_html import LONGEST
from geosegsr.raster.preview import drawn
from geosegsr.raster.scene import Scene


def test_a_notebook_shows_what_was_done_and_the_result(tmp_path: Path) -> None:
    scene = factory.write_nodata(tmp_path / "a<b>.tif")
    report = geosegsr.upscale(scene, tmp_path / "out<b>.tif", 2, "bicubic")
    page = report._repr_html_()
    assert "out&lt;b&gt;.tif" in page and "<b>" not in page and f"{report.width} x {report.height}" in page
    (data,) = re.findall(r"base64,([A-Za-z0-9+/=]+)'", page)
    with (
        MemoryFile(base64.b64decode(data)) as memory,
        memory.open() as picture,
        rasterio.open(report.path) as result,
    ):
        assert max(picture.shape) <= LONGEST and picture.count == 4
        alpha = picture.read(4)
        assert 0 < np.count_nonzero(alpha) < alpha.size
        assert abs(np.count_nonzero(alpha) / alpha.size - (result.read_masks(1) > 0).mean()) < 0.1
    Path(report.path).unlink()
    assert "<img" not in report._repr_html_() and "<table>" in report._repr_html_()


def test_a_picture_of_one_value_or_no_value_can_be_made(tmp_path: Path) -> None:
    path = tmp_path / "flat.tif"
    for value in (7.0, np.nan):
        with rasterio.open(
            path, "w", driver="GTiff", count=2, height=300, width=20, dtype="float32"
        ) as target:
            target.write(np.full((2, 300, 20), value, np.float32))
        assert drawn(Scene.open(path), LONGEST).startswith(b"\x89PNG")
