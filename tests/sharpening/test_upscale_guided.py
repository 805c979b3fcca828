"""--guide through the pipeline: files, arrays, resume and the command line."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray
import xarray as xr
from command_line import assert_refused, run_here
from fakes import Fake
from guided_scenes import GuidedScene, rmse, write
from metadata_oracle import metadata_differences
from rio_cogeo.cogeo import cog_validate

import geosegsr
from geosegsr.errors import BandError, ConfigError, GeoSegSRWarning, JobError, SceneError
from geosegsr.pipeline.report import Progress
from geosegsr.pipeline.worker_check import probe
from geosegsr.raster.window import Window
from geosegsr.sharpening.scene import SharpenedScene
from geosegsr.sharpening.stack import rasters_of

MADE = GuidedScene.make(side=100)
MODELS = {1: "bundled", 2: "bicubic"}
"""By scale; at 1 the model has no work."""


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return MADE.write(tmp_path)


def opened(path: Path) -> xr.DataArray:
    array = rioxarray.open_rasterio(path)
    assert isinstance(array, xr.DataArray)
    return array


def pixels(path: Path) -> np.ndarray:
    with rasterio.open(path) as source:
        return source.read()


def test_a_scale_of_1_stops_at_the_guides_grid(files: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    report = geosegsr.upscale(files[0], target, 1, guide=files[1])
    assert metadata_differences(files[0], target, 2) == []
    assert cog_validate(str(target), strict=True, quiet=True)[0]
    alone = geosegsr.upscale(files[0], tmp_path / "alone.tif", 2, "bicubic")
    assert (rmse(pixels(target), MADE.truth) < 0.3 * rmse(pixels(Path(alone.path)), MADE.truth)).all()
    assert [band["band"] for band in report.sharpened] == ["B11", "B12"]
    assert all(band["explained"] > 0.9 and band["rmse"] < band["rmse_alone"] for band in report.sharpened)  # type: ignore[operator]
    assert all(band["consistency"] < 0.5 for band in report.sharpened)  # type: ignore[operator]
    with rasterio.open(target) as out:
        assert out.tags()["GEOSEGSR_GUIDE"].startswith("guide.tif: 2 x 2")
        assert float(out.tags(1)["GEOSEGSR_DETAIL_EXPLAINED"]) > 0.9


def test_any_block_and_tile_give_the_same_pixels(files: tuple[Path, Path], tmp_path: Path) -> None:
    for number, options in enumerate([{}, {"block": 60, "tile": 32, "overlap": 8}, {"block": 97}]):
        geosegsr.upscale(files[0], tmp_path / f"{number}.tif", 2, "bicubic", guide=files[1], **options)
        np.testing.assert_array_equal(pixels(tmp_path / f"{number}.tif"), pixels(tmp_path / "0.tif"))


def test_another_process_reads_the_same_pixels(files: tuple[Path, Path]) -> None:
    planned = geosegsr.plan(files[0], 2, "bicubic", guide=files[1])
    sent = pickle.loads(pickle.dumps(planned))
    assert sent.identity() == planned.identity() and sent.memory_bytes > 0
    assert planned.block_bytes(planned.grid) > geosegsr.plan(files[0], 2, "bicubic").block_bytes(planned.grid)
    window = Window(50, 60, 40, 30)
    np.testing.assert_array_equal(sent.scene.read(window)[0], planned.scene.read(window)[0])


def test_a_worker_is_checked_for_all_rasters(files: tuple[Path, Path]) -> None:
    planned = geosegsr.plan(files[0], 2, "bicubic", guide=files[1])
    before = probe(planned.scene, planned.region)
    assert [Path(raster.path).name for raster in rasters_of(planned.scene)] == ["guide.tif", "coarse.tif"]
    with rasterio.open(files[1], "r+") as guide:
        guide.write(guide.read() + 1)
    assert probe(planned.scene, planned.region) != before


def test_a_signed_address_stays_out_of_tags_and_report(files: tuple[Path, Path]) -> None:
    scene = geosegsr.plan(files[0], 1, guide=files[1]).scene
    assert isinstance(scene, SharpenedScene)
    signed = replace(scene, guide=replace(scene.guide, path="https://server/guide.tif?sig=SECRET"))
    assert "SECRET" not in f"{signed.describe()} {signed.key} {signed.quality}"


def test_an_interrupted_run_is_resumed(files: tuple[Path, Path], tmp_path: Path) -> None:
    class StoppedError(Exception):
        pass

    def stop(event: Progress) -> None:
        if event.done >= 2:
            raise StoppedError

    options = {"guide": files[1], "block": 64, "tile": 64, "overlap": 16}
    with pytest.raises(StoppedError):
        geosegsr.upscale(files[0], tmp_path / "out.tif", 2, "bicubic", progress=stop, **options)
    report = geosegsr.upscale(files[0], tmp_path / "out.tif", 2, "bicubic", **options)
    assert 2 <= report.blocks_resumed < report.blocks
    geosegsr.upscale(files[0], tmp_path / "whole.tif", 2, "bicubic", **options)
    np.testing.assert_array_equal(pixels(tmp_path / "out.tif"), pixels(tmp_path / "whole.tif"))


def test_then_it_is_upscaled_like_any_other_scene(files: tuple[Path, Path], tmp_path: Path) -> None:
    geosegsr.upscale(files[0], tmp_path / "fine.tif", 1, guide=files[1])
    geosegsr.upscale(tmp_path / "fine.tif", tmp_path / "two_steps.tif", 2, "bicubic")
    geosegsr.upscale(files[0], tmp_path / "one_step.tif", 2, "bicubic", guide=files[1])
    np.testing.assert_array_equal(pixels(tmp_path / "one_step.tif"), pixels(tmp_path / "two_steps.tif"))


def test_an_area_has_the_pixels_of_the_whole(files: tuple[Path, Path], tmp_path: Path) -> None:
    geosegsr.upscale(files[0], tmp_path / "whole.tif", 1, guide=files[1])
    geosegsr.upscale(files[0], tmp_path / "part.tif", 1, guide=files[1], window=(31, 17, 50, 41))
    np.testing.assert_array_equal(
        pixels(tmp_path / "part.tif"), pixels(tmp_path / "whole.tif")[:, 17:58, 31:81]
    )


@pytest.mark.parametrize("chunks", [None, {"x": 33, "y": 47}], ids=["numpy", "dask"])
@pytest.mark.parametrize("scale", [1, 2])
def test_arrays_have_the_pixels_of_files(
    chunks: dict[str, int] | None, scale: int, files: tuple[Path, Path], tmp_path: Path
) -> None:
    model = MODELS[scale]
    geosegsr.upscale(files[0], tmp_path / "out.tif", scale, model, guide=files[1])
    coarse, guide = (rioxarray.open_rasterio(path, chunks=chunks) for path in files)
    assert isinstance(coarse, xr.DataArray) and isinstance(guide, xr.DataArray)
    fine = geosegsr.super_resolve(coarse, scale, model, guide=guide)
    np.testing.assert_array_equal(fine.values, pixels(tmp_path / "out.tif"))
    with rasterio.open(tmp_path / "out.tif") as out:
        assert fine.rio.transform() == out.transform and fine.rio.crs == out.crs


def test_another_guide_is_another_result(files: tuple[Path, Path], tmp_path: Path) -> None:
    target = tmp_path / "out.tif"
    geosegsr.upscale(files[0], target, 1, guide=files[1])
    assert geosegsr.upscale(files[0], target, 1, guide=files[1]).status == "skipped"
    (tmp_path / "other").mkdir()
    _, other = GuidedScene.make(side=100, seed=3).write(tmp_path / "other")
    with pytest.raises(JobError, match="another source"), pytest.warns(match="same ground"):
        geosegsr.upscale(files[0], target, 1, guide=other)


CLASSES = (np.indices((100, 100)).sum(0) // 20 % 5 + 4).astype(np.uint16)


@pytest.mark.parametrize("name", ["SCL", "unnamed"])
def test_classes_beside_the_bands_are_repeated(name: str, files: tuple[Path, Path], tmp_path: Path) -> None:
    mixed, target = tmp_path / "mixed.tif", tmp_path / "out.tif"
    write(mixed, np.stack([CLASSES, *pixels(files[0])]), 20.0, (name, "B11", "B12"))
    report = geosegsr.upscale(mixed, target, 1, guide=files[1])
    geosegsr.upscale(files[0], tmp_path / "bands.tif", 1, guide=files[1])
    np.testing.assert_array_equal(pixels(target)[0], CLASSES.repeat(2, 0).repeat(2, 1))
    np.testing.assert_array_equal(pixels(target)[1:], pixels(tmp_path / "bands.tif"))
    assert [band["band"] for band in report.sharpened] == ["B11", "B12"]
    with rasterio.open(target) as out:
        assert "GEOSEGSR_DETAIL_RMSE" in out.tags(2) and "GEOSEGSR_DETAIL_RMSE" not in out.tags(1)
    coarse, guide = (rioxarray.open_rasterio(path) for path in (mixed, files[1]))
    assert isinstance(coarse, xr.DataArray) and isinstance(guide, xr.DataArray)
    np.testing.assert_array_equal(geosegsr.super_resolve(coarse, 1, guide=guide).values, pixels(target))


def test_classes_of_a_guide_are_left_out(files: tuple[Path, Path], tmp_path: Path) -> None:
    fine, only = CLASSES.repeat(2, 0).repeat(2, 1), tmp_path / "only.tif"
    write(tmp_path / "more.tif", np.stack([fine, *pixels(files[1])]), 10.0, ("SCL", "B04", "B03", "B08"))
    write(only, fine[None], 10.0, ("SCL",))
    with pytest.warns(match=r"band 1 \(SCL\) of the guide"):
        geosegsr.upscale(files[0], tmp_path / "more_out.tif", 1, guide=tmp_path / "more.tif")
    geosegsr.upscale(files[0], tmp_path / "out.tif", 1, guide=files[1])
    np.testing.assert_array_equal(pixels(tmp_path / "more_out.tif"), pixels(tmp_path / "out.tif"))
    coarse, guide, classes = map(opened, (files[0], tmp_path / "more.tif", only))
    with pytest.warns(match=r"band 1 \(SCL\) of the guide"):
        fine = geosegsr.super_resolve(coarse, 1, guide=guide)
    np.testing.assert_array_equal(fine.values, pixels(tmp_path / "out.tif"))
    with pytest.raises(BandError, match="another --guide"):
        geosegsr.upscale(files[0], tmp_path / "none.tif", 1, guide=only)
    with pytest.raises(BandError, match="another --guide"):
        geosegsr.super_resolve(coarse, 1, guide=classes)
    write(tmp_path / "coarse_only.tif", CLASSES[None], 20.0, ("SCL",))
    with pytest.raises(BandError, match="--model nearest"):
        geosegsr.upscale(tmp_path / "coarse_only.tif", tmp_path / "none.tif", 1, guide=files[1])


def test_an_undeclared_collar_of_a_guide_is_warned_of_and_found(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    bands = pixels(files[1])
    bands[:, :, 120:] = 0
    names = ("B04", "B03", "B08")
    plain = write(tmp_path / "plain.tif", bands, 10.0, names)
    declared = write(tmp_path / "declared.tif", bands, 10.0, names, 0)
    with pytest.warns(match=r"the guide .*40% of the pixels are 0 .*-a_nodata 0"):
        geosegsr.upscale(files[0], tmp_path / "warned.tif", 1, guide=plain)
    geosegsr.upscale(files[0], tmp_path / "found.tif", 1, guide=plain, nodata="auto")
    geosegsr.upscale(files[0], tmp_path / "declared_out.tif", 1, guide=declared)
    np.testing.assert_array_equal(pixels(tmp_path / "found.tif"), pixels(tmp_path / "declared_out.tif"))
    with pytest.warns(match=r"the guide .*40% of the pixels are 0 .*write_nodata\(0\)"):
        warned = geosegsr.super_resolve(opened(files[0]), 1, guide=opened(plain))
    np.testing.assert_array_equal(warned.values, pixels(tmp_path / "warned.tif"))
    found = geosegsr.super_resolve(opened(files[0]), 1, guide=opened(plain), nodata="auto")
    np.testing.assert_array_equal(found.values, pixels(tmp_path / "found.tif"))


@pytest.mark.parametrize("scale", [1, 2])
def test_an_arrays_own_undeclared_collar_is_found_before_it_is_sharpened(
    scale: int, files: tuple[Path, Path], tmp_path: Path
) -> None:
    bands, target = pixels(files[0]), tmp_path / "out.tif"
    bands[:, :, 60:] = 0
    collared = write(tmp_path / "collared.tif", bands, 20.0, ("B11", "B12"))
    geosegsr.upscale(collared, target, scale, MODELS[scale], guide=files[1], nodata="auto")
    coarse, guide = opened(collared), opened(files[1])
    found = geosegsr.super_resolve(coarse, scale, MODELS[scale], guide=guide, nodata="auto")
    np.testing.assert_array_equal(found.values, pixels(target))
    assert found.rio.nodata == 0
    with pytest.warns(GeoSegSRWarning, match="declares no nodata") as warned:
        geosegsr.super_resolve(coarse, scale, MODELS[scale], guide=guide)
    assert sum(issubclass(warning.category, GeoSegSRWarning) for warning in warned) == 1


def test_what_cannot_be_done_is_said(files: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--guide FILE"):
        geosegsr.upscale(files[0], tmp_path / "out.tif", 1)
    with pytest.raises(ConfigError, match="no model runs there"):
        geosegsr.upscale(files[0], tmp_path / "out.tif", 1, guide=files[1], ensemble=True)
    with pytest.raises(ConfigError, match="Cannot find a model 'bicubik'"):
        geosegsr.upscale(files[0], tmp_path / "out.tif", 1, "bicubik", guide=files[1])
    for model, named in (("bicubic", "'bicubic'"), (Fake(), "'fake'")):
        with pytest.raises(ConfigError, match=f"model {named} at --scale 1.*Leave --model out"):
            geosegsr.upscale(files[0], tmp_path / "out.tif", 1, model, guide=files[1])
        with pytest.raises(ConfigError, match=f"model {named} at --scale 1.*Leave --model out"):
            geosegsr.super_resolve(opened(files[0]), 1, model, guide=opened(files[1]))
    with pytest.raises(ConfigError, match="no model runs there"):
        geosegsr.super_resolve(opened(files[0]), 1, guide=opened(files[1]), ensemble=True)
    with pytest.raises(ConfigError, match="Cannot find a model 'bicubik'"):
        geosegsr.super_resolve(opened(files[0]), 1, "bicubik", guide=opened(files[1]))
    with pytest.raises(SceneError, match="Cannot sharpen"):
        geosegsr.upscale(files[1], tmp_path / "out.tif", 1, guide=files[0])
    with pytest.raises(JobError, match="this run reads it"):
        geosegsr.upscale(files[0], files[1], 1, guide=files[1], overwrite=True)
    with pytest.raises(ConfigError, match="--guide FILE"):
        geosegsr.super_resolve(xr.DataArray(np.zeros((4, 4)), dims=("y", "x")), 1)


def test_command(files: tuple[Path, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "out.tif"
    done = run_here(capfd, "upscale", files[0], "-o", target, "-s", "1", "--guide", files[1], "--json")
    assert done.code == 0, done
    assert len(json.loads(done.out)["sharpened"]) == 2
    assert_refused(
        run_here(capfd, "upscale", files[0], "-o", tmp_path / "b.tif", "-s", "1"), 1, "--guide FILE"
    )
    assert_refused(run_here(capfd, "evaluate", "bundled", files[0], "-s", "1"), 2, "cannot upscale by 1")


def test_a_guide_of_another_date_is_warned_of(files: tuple[Path, Path], tmp_path: Path) -> None:
    coarse, guide = files
    for path, day in ((coarse, "2024-06-10"), (guide, "2024-05-01")):
        with rasterio.open(path, "r+") as raster:
            raster.update_tags(ACQUISITION_DATE=day)
    expected = rf"2024-05-01 \({guide.name}\), 2024-06-10 \({coarse.name}\).* --guide of the same date"
    with pytest.warns(GeoSegSRWarning, match=expected):
        geosegsr.upscale(coarse, tmp_path / "out.tif", 1, guide=guide)
