"""Several resolutions through the pipeline: blocks, workers and interruptions change no pixel, and leave no seams."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from guided_scenes import GuidedScene, write

import geosegsr
from geosegsr.evaluation.seams import seam_ratio
from geosegsr.pipeline.report import Progress
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import degraded
from geosegsr.sharpening.blur import sampling_of_mtf
from geosegsr.sharpening.sharpener import _places

Run = tuple[Path, dict[str, Any]]
SIDE = 192
SMALL = {"block": 48, "tile": 48, "overlap": 0}


def save(
    path: Path, band: np.ndarray, pixel: float, corner: tuple[float, float] = (600000.0, 5900040.0)
) -> None:
    write(path, np.rint(band[None]).astype(np.uint16), pixel, (), 0, corner)


def sentinel_2(top: Path) -> Run:
    """Bands of 10, 20 and 60 m."""
    made, folder = GuidedScene.make(side=SIDE // 2), top / "scene"
    folder.mkdir()
    for band, name in zip(made.guide, ("B03", "B04", "B08"), strict=True):
        save(folder / f"scene_{name}.tif", band, 10)
    for band, name in zip(made.coarse, ("B11", "B12"), strict=True):
        save(folder / f"scene_{name}.tif", band, 20)
    save(folder / "scene_B01.tif", degraded(made.truth[0], sampling_of_mtf(6, 0.3)), 60)
    return folder, {"groups": ["10m", "20m", "60m"]}


def landsat(top: Path) -> Run:
    """30 m bands that lie half a pixel of the panchromatic band off."""
    made, folder = (
        GuidedScene.make(side=SIDE // 2, half=True),
        top / "LC09_L1TP_195028_20240501_20240502_02_T1",
    )
    folder.mkdir()
    save(folder / f"{folder.name}_B8.TIF", made.guide[2], 15)
    for band, name in zip(made.coarse, ("B5", "B4"), strict=True):
        save(folder / f"{folder.name}_{name}.TIF", band, 30, (600000.0 - 7.5, 5900040.0 + 7.5))
    return folder, {"bands": ["B4", "B5"]}


def guided(top: Path) -> Run:
    """Two files."""
    coarse, guide = GuidedScene.make(side=SIDE // 2).write(top, nodata=0)
    return coarse, {"guide": guide}


@pytest.fixture(params=[sentinel_2, landsat, guided], ids=lambda make: make.__name__)
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    make: Callable[[Path], Run] = request.param
    return make(tmp_path)


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def test_blocks_change_no_pixel(run: Run, tmp_path: Path) -> None:
    source, options = run
    assert geosegsr.upscale(source, tmp_path / "whole.tif", 1, **options).blocks == 1
    assert geosegsr.upscale(source, tmp_path / "blocks.tif", 1, **SMALL, **options).blocks == 16
    np.testing.assert_array_equal(pixels(tmp_path / "blocks.tif"), pixels(tmp_path / "whole.tif"))
    geosegsr.upscale(source, tmp_path / "finer.tif", 2, "bicubic", block=58, tile=21, overlap=8, **options)
    geosegsr.upscale(source, tmp_path / "at_once.tif", 2, "bicubic", **options)
    np.testing.assert_array_equal(pixels(tmp_path / "finer.tif"), pixels(tmp_path / "at_once.tif"))


def test_blocks_leave_no_seams(tmp_path: Path) -> None:
    """The ground is as rough at the borders of blocks as the truth is there."""
    made = GuidedScene.make(side=SIDE // 2)
    coarse, guide = made.write(tmp_path, nodata=0)
    geosegsr.upscale(coarse, tmp_path / "out.tif", 1, guide=guide, block=31, tile=31, overlap=0)
    borders = range(31, SIDE, 31)
    for found, truth in zip(pixels(tmp_path / "out.tif"), made.truth, strict=True):
        ratios = [seam_ratio(band[None].astype(np.float64), borders, borders) for band in (found, truth)]
        assert ratios[0] / ratios[1] <= 1.05


def test_another_process_reads_the_same_pixels(run: Run) -> None:
    source, options = run
    planned = geosegsr.plan(source, 1, **options)
    sent = pickle.loads(pickle.dumps(planned))
    assert sent.identity() == planned.identity()
    for window in (Window(50, 61, 40, 30), Window(0, 0, 7, 9)):
        np.testing.assert_array_equal(sent.scene.read(window)[0], planned.scene.read(window)[0])


def test_an_interrupted_run_is_resumed(run: Run, tmp_path: Path) -> None:
    source, options = run

    def stop(event: Progress) -> None:
        if event.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        geosegsr.upscale(source, tmp_path / "out.tif", 1, progress=stop, **SMALL, **options)
    report = geosegsr.upscale(source, tmp_path / "out.tif", 1, **SMALL, **options)
    assert 2 <= report.blocks_resumed < report.blocks
    geosegsr.upscale(source, tmp_path / "whole.tif", 1, **options)
    np.testing.assert_array_equal(pixels(tmp_path / "out.tif"), pixels(tmp_path / "whole.tif"))


@pytest.mark.parametrize(("ratio", "side"), [(2, 96), (4, 96), (6, 72)])
def test_a_granule_is_fitted_on_nine_parts_of_limited_size(ratio: int, side: int) -> None:
    length = 10980 // ratio
    places = list(_places(length, length, ratio))
    assert len(places) == 9 and {(place.height, place.width) for place in places} == {(side, side)}
    assert max(place.row + place.height for place in places) == length
