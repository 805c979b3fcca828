"""Networks of other projects have the guarantees of our own: seams, odd sizes, 16 bits, nodata, resume, batches."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from command_line import run_here
from foreign_networks import NETWORKS, SEES_ALL, grey_network, saved, saved_foreign
from scene_factory import write_many_bands, write_nodata, write_plain

import geosegsr
from geosegsr.errors import BandError, ConfigError
from geosegsr.models.catalogue import load_foreign
from geosegsr.pipeline import batch
from geosegsr.pipeline.report import Progress

pytest.importorskip("spandrel")
SCALES = dict.fromkeys(NETWORKS, 4) | dict.fromkeys(("SwinIR", "Swin2SR", "HAT", "DAT"), 2)
HOW = {"value_range": (0, 1), "sensor": "bicubic", "consistency": False}


def each(*quick):
    """All architectures; those that take long only with `-m slow`."""
    return [pytest.param(kind, marks=() if kind in quick else pytest.mark.slow) for kind in NETWORKS]


def read(path):
    with rasterio.open(path) as file:
        return file.read(), file.read_masks(1), file.nodata


@pytest.mark.parametrize(
    "scale", [None, pytest.param(2, marks=pytest.mark.slow), pytest.param(4, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("kind", each("SwinIR", "SPAN"))
def test_tiles_leave_no_trace(kind, scale, tmp_path):
    model, scale = saved_foreign(kind, tmp_path, scale), scale or SCALES[kind]
    scene = write_plain(tmp_path / "scene.tif", count=3, dtype="float32", size=(192, 160))
    geosegsr.upscale(scene, tmp_path / "tiled.tif", scale, model, tile=96, block=128, **HOW)
    geosegsr.upscale(scene, tmp_path / "whole.tif", scale, model, tile=192, **HOW)
    tiled, whole = read(tmp_path / "tiled.tif")[0], read(tmp_path / "whole.tif")[0]
    said = 1e-5 if kind != SEES_ALL else load_foreign(model, device="cpu").findings.unsettled
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=said * max(1, np.abs(whole).max()))


@pytest.mark.parametrize("kind", each("SwinIR", "ESRGAN"))
def test_odd_sizes_and_nodata_of_16_bits(kind, tmp_path):
    scale = SCALES[kind]
    scene = write_nodata(tmp_path / "scene.tif", dtype="uint16", count=3, size=(37, 53), nodata=0)
    geosegsr.upscale(scene, tmp_path / "out.tif", scale, saved_foreign(kind, tmp_path))
    pixels, mask, nodata = read(tmp_path / "out.tif")
    before = read(scene)[1]
    assert pixels.shape == (3, 37 * scale, 53 * scale)
    assert (nodata, pixels.dtype) == (0, np.uint16)
    np.testing.assert_array_equal(mask, before.repeat(scale, 0).repeat(scale, 1))


def test_a_scene_smaller_than_the_network_accepts(tmp_path):
    scene = write_plain(tmp_path / "scene.tif", count=3, dtype="uint8", size=(3, 5))
    geosegsr.upscale(scene, tmp_path / "out.tif", 2, saved_foreign("SwinIR", tmp_path))
    assert read(tmp_path / "out.tif")[0].shape == (3, 6, 10)


def test_bands_beyond_the_networks_are_interpolated_and_a_grey_network_takes_all(tmp_path):
    scene = write_many_bands(tmp_path / "scene.tif", 5)
    grey = saved(grey_network(), tmp_path / "grey.pth")
    report = geosegsr.upscale(scene, tmp_path / "grey.tif", 4, grey)
    assert report.bands == 5
    assert "grey (RealESRGAN Compact)" in report.model


def test_other_bands_go_through_as_grey_where_that_is_asked_for(tmp_path):
    """Red, green and blue are found by their names: B04, B03, B02."""
    scene = write_many_bands(tmp_path / "scene.tif", 5)
    model = saved_foreign("SPAN", tmp_path)
    with pytest.raises(BandError, match=r"--other-bands model\|bicubic\|drop"):
        geosegsr.upscale(scene, tmp_path / "none.tif", 4, model, **HOW)
    for other in ("model", "bicubic"):
        report = geosegsr.upscale(scene, tmp_path / f"{other}.tif", 4, model, other_bands=other, **HOW)
        assert report.bands == 5
    grey, smooth = (read(tmp_path / f"{other}.tif")[0] for other in ("model", "bicubic"))
    np.testing.assert_array_equal(grey[1:4], smooth[1:4])
    assert (grey[0] != smooth[0]).any() and (grey[4] != smooth[4]).any()


@pytest.mark.parametrize("kind", each("SPAN"))
def test_a_run_that_was_stopped_resumes_and_gives_the_same_pixels(kind, tmp_path):
    model, scale = saved_foreign(kind, tmp_path), SCALES[kind]
    scene = write_plain(tmp_path / "scene.tif", count=3, dtype="uint8", size=(200, 200))
    small = {"tile": 64 if kind == "SPAN" else 96, "block": 256}
    geosegsr.upscale(scene, tmp_path / "whole.tif", scale, model, **small)

    def stop(event: Progress) -> None:
        if event.done >= 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        geosegsr.upscale(scene, tmp_path / "out.tif", scale, model, **small, progress=stop)
    report = geosegsr.upscale(scene, tmp_path / "out.tif", scale, model, **small)
    assert report.blocks_resumed > 0
    np.testing.assert_array_equal(read(tmp_path / "out.tif")[0], read(tmp_path / "whole.tif")[0])


def test_a_batch_and_another_scale(tmp_path):
    model = saved_foreign("SPAN", tmp_path)
    pairs = []
    for i in range(2):
        scene = write_plain(tmp_path / f"scene{i}.tif", count=3, dtype="uint8", size=(20, 20 + i))
        pairs.append((str(scene), tmp_path / "out" / f"{i}.tif"))
    assert [done.status for done in batch.upscale_batch(pairs, 4, model)] == ["done", "done"]
    with pytest.raises(ConfigError, match="--scale 4"):
        geosegsr.upscale(scene, tmp_path / "other.tif", 2, model)


def test_the_commands_take_it(tmp_path, capfd):
    model = saved_foreign("SPAN", tmp_path)
    scene = write_plain(tmp_path / "scene.tif", count=3, dtype="uint8", size=(40, 48))
    card = tmp_path / "theirs.safetensors"
    done = run_here(capfd, "convert", model, "-o", card, "--licence", "MIT", "--trained-on", "DF2K")
    assert (done.code, "x4, 3 bands" in done.out) == (0, True), done
    shown = run_here(capfd, "models", card)
    assert all(word in shown.out for word in ("SPAN", "MIT", "DF2K"))
    for name in (model, card):
        out = tmp_path / f"{name.suffix[1:]}.tif"
        assert run_here(capfd, "upscale", scene, "-o", out, "-m", name).code == 0
    np.testing.assert_array_equal(read(tmp_path / "pth.tif")[0], read(tmp_path / "safetensors.tif")[0])
    scored = run_here(capfd, "evaluate", "-m", model, "--hr", scene, "-q")
    assert (scored.code, "SPAN" in scored.out) == (0, True), scored
    ranged = run_here(capfd, "upscale", scene, "-o", tmp_path / "r.tif", "-m", model, "--model-range", 0, 255)
    assert ranged.code == 0, ranged
    refused = run_here(capfd, "upscale", scene, "-o", tmp_path / "b.tif", "-m", "bicubic", "--trust-model")
    assert (refused.code, "for a network of another project" in refused.err) == (2, True)
