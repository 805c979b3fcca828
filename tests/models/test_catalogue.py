"""The models that come with the package: that they are there, small, described, and as good as when they were made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio.windows import Window

import geosegsr
from geosegsr.errors import ConfigError
from geosegsr.evaluation.evaluate import evaluate_model
from geosegsr.models.catalogue import bundled_checkpoint, bundled_checkpoints, load_upscaler, resolve_upscaler
from geosegsr.models.checkpoint import read_card
from geosegsr.models.segsr.config import SCALES

ROOT = Path(__file__).resolve().parents[2]

# dB over bicubic on the painted ground; when the files were made: 5.42, 3.14, 2.22 and 1.66.
GAINS = {2: 5.3, 3: 3.05, 4: 2.15, 8: 1.6}


@pytest.fixture(scope="module")
def painted(tmp_path_factory):
    """The middle of the sample scene's ground, four times as fine."""
    folder = tmp_path_factory.mktemp("painted")
    command = [sys.executable, ROOT / "sample_data/paint_scene.py", "--out", folder / "scene.tif"]
    command += ["--truth", folder / "truth.tif"]
    subprocess.run(command, check=True, cwd=folder, capture_output=True)
    with rasterio.open(folder / "truth.tif") as truth:
        middle = Window(480, 480, 768, 768)
        profile = {**truth.profile, "width": 768, "height": 768, "transform": truth.window_transform(middle)}
        with rasterio.open(folder / "middle.tif", "w", **profile) as out:
            out.write(truth.read(window=middle))
    return folder / "middle.tif"


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_a_small_model_that_says_what_it_is(scale):
    path = bundled_checkpoint(scale)
    card = read_card(path)
    assert path.stat().st_size < 8_000_000
    assert (card.scale, card.bands, card.grey, card.radiometry) == (scale, 3, True, {"kind": "auto"})
    assert card.degradation is not None
    for text in (card.trained_on, card.licence, card.notes):
        assert len(text) > 40
    assert "NAIP towns, 0.6 m" in card.metrics


def test_there_is_no_other_file():
    assert len(bundled_checkpoints()) == len(SCALES)


@pytest.mark.parametrize("scale", SCALES)
def test_every_scale_has_a_model_that_is_told_the_sensor_and_one_for_clean_scenes(scale):
    path = bundled_checkpoint(scale)
    told, clean = read_card(path), read_card(path.with_stem(f"{path.stem}-clean"))
    assert told.config["sensor_width"]
    assert not clean.config.get("sensor_width")
    same = (
        "scale",
        "bands",
        "band_names",
        "radiometry",
        "tile",
        "overlap",
        "halo",
        "multiple_of",
        "min_size",
        "grey",
    )
    assert all(getattr(told, name) == getattr(clean, name) for name in same)


@pytest.mark.parametrize("scale", SCALES)
def test_a_model_keeps_its_number(scale, painted):
    total = evaluate_model("bundled", [str(painted)], scale=scale, sensor="bicubic").total
    assert total.model["psnr_y"] - total.bicubic["psnr_y"] > GAINS[scale]
    assert total.model["ssim"] > total.bicubic["ssim"]


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_all_edges_of_a_scene_of_any_size_fare_alike(scale, painted):
    """The trunk commutes with turns of the image; what is made up beyond one side alone does not."""
    with rasterio.open(painted) as source:
        lr = source.read(window=Window(0, 0, 53, 50))[None] / np.float32(255)
    upscaler = load_upscaler(bundled_checkpoint(scale), device="cpu")
    half_turn = upscaler(np.ascontiguousarray(lr[..., ::-1, ::-1]))[..., ::-1, ::-1]
    assert np.abs(half_turn - upscaler(lr)).max() < 1.5 / 255


def test_it_is_what_upscale_takes(tmp_path):
    report = geosegsr.upscale(
        ROOT / "sample_data/scene.tif", tmp_path / "out.tif", 2, window=(100, 100, 64, 48)
    )
    assert report.model == "compact-x2"
    assert all(abs(band["mean"]) < 0.02 for band in report.consistency)  # DN


def test_a_scale_without_one_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr("geosegsr.models.catalogue._FOLDER", tmp_path)
    bundled_checkpoint.cache_clear()
    with pytest.raises(ConfigError, match=r"scale of 4.*none.*--model bicubic"):
        bundled_checkpoint(4)
    bundled_checkpoint.cache_clear()


def test_an_object_that_is_no_upscaler_is_refused():
    class Old:
        name, scale = "old", 2

        def __call__(self, lr, guide=None):
            return lr

    with pytest.raises(ConfigError, match="type 'Old' as a model: it has no 'facts'"):
        resolve_upscaler(Old(), 2)
