"""A sharpened scene: any window gives the same pixels, and reduced again they are the input."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from guided_scenes import GuidedScene, write
from hypothesis import given, settings
from hypothesis import strategies as st

from geosegsr.errors import GeoSegSRWarning
from geosegsr.raster.scene import Scene
from geosegsr.raster.window import Window
from geosegsr.sensor.consistency import degraded
from geosegsr.sharpening.scene import SharpenedScene
from geosegsr.sharpening.sharpen import _filled


def opened(coarse: Path, guide: Path) -> SharpenedScene:
    return SharpenedScene.of(Scene.open(coarse), Scene.open(guide))


@pytest.fixture(scope="module", params=[2, 3, 6])
def scene(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> SharpenedScene:
    """With a hole in the coarse bands, another in the guide, and a guide that ends early."""
    ratio = request.param
    made = GuidedScene.make(side=90, ratio=ratio)
    made.coarse[0, 40:50, 20:33] = 0
    made.coarse[:, 80:, 70:] = 0
    made.guide[:, 10 * ratio : 14 * ratio + 1, 60 * ratio : 75 * ratio] = 0
    folder = tmp_path_factory.mktemp("scene")
    coarse, _ = made.write(folder, nodata=0)
    short = np.rint(made.guide[:, :, : 85 * ratio - 1]).astype(np.uint16)
    return opened(coarse, write(folder / "short.tif", short, 10.0, nodata=0))


def test_a_guide_is_named_by_its_file_wherever_it_lies(scene: SharpenedScene) -> None:
    far = replace(
        scene,
        coarse=replace(scene.coarse, path="https://host/coarse.tif"),
        guide=replace(scene.guide, path="https://host/sharp.tif?sig=1"),
    )
    assert far.guide_name.startswith("sharp.tif") and "sig" not in far.guide_name
    assert scene.describe().startswith("short.tif: ")


def test_metadata_is_that_of_the_coarse_raster_on_the_finer_grid(scene: SharpenedScene) -> None:
    ratio = scene.sharpener.nesting.ratio
    assert (scene.height, scene.width) == (90 * ratio, 90 * ratio)
    assert scene.descriptions == ("B11", "B12") and scene.nodata == 0 and scene.dtype == np.uint16
    assert scene.metadata.bands[0].tags["GEOSEGSR_DETAIL_EXPLAINED"] > "0.9"


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_window_has_the_pixels_of_the_whole(scene: SharpenedScene, data: st.DataObject) -> None:
    values, valid = scene.read(scene.window)
    top, left = (data.draw(st.integers(0, side - 1)) for side in (scene.height, scene.width))
    height = data.draw(st.integers(1, scene.height - top))
    width = data.draw(st.integers(1, scene.width - left))
    window = Window(top, left, height, width)
    part, known = scene.read(window)
    np.testing.assert_array_equal(part, values[(slice(None), *window.slices)])
    np.testing.assert_array_equal(known, valid[(slice(None), *window.slices)])


def test_reduced_again_it_is_the_input_where_all_is_valid(scene: SharpenedScene) -> None:
    values, valid = scene.read(scene.window)
    lr, lr_valid = scene.coarse.read(scene.coarse.window)
    ratio = scene.sharpener.nesting.ratio
    np.testing.assert_array_equal(valid, np.repeat(np.repeat(lr_valid, ratio, 1), ratio, 2))
    assert (values[~valid] == 0).all() and (values[valid] != 0).all()
    seen = np.stack([degraded(band.astype(float), scene.sharpener.fit.sampling) for band in values])
    whole = slice(4, 36), slice(36, 80)  # away from what is invalid
    assert np.abs(seen - lr)[(slice(None), *whole)].max() < 1.1


def test_beside_invalid_pixels_no_values_go_astray(scene: SharpenedScene) -> None:
    values, valid = scene.read(scene.window)
    lr, lr_valid = scene.coarse.read(scene.coarse.window)
    for band, mask, low, low_valid in zip(values, valid, lr, lr_valid, strict=True):
        inside = low[low_valid].astype(float)
        room = 0.6 * (inside.max() - inside.min())
        assert inside.min() - room < band[mask].min() and band[mask].max() < inside.max() + room


def test_no_data_at_all(tmp_path: Path) -> None:
    made = GuidedScene.make(side=40)
    made.coarse[:] = 0
    with pytest.warns(GeoSegSRWarning, match="too few valid, unsaturated pixels .* B11, B12 enlarged"):
        empty = opened(*made.write(tmp_path, nodata=0))
    values, valid = empty.read(empty.window)
    assert not valid.any() and not values.any()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("share", [0.02, 0.6, 0.999])
def test_invalid_pixels_are_filled_step_by_step_from_their_sides(dtype: str, share: float) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(1000, 300, (2, 40, 50)).astype(dtype)
    valid = rng.random(values.shape) >= share
    valid[:, 10:30, 5:25], valid[1, :, 25:] = False, False
    found = _filled(values, valid, 5, (7.0, 9.0), np.dtype(dtype))
    for band, known, level, ours in zip(values.copy(), valid.copy(), (7.0, 9.0), found, strict=True):
        band[~known] = 0
        for _ in range(5):
            total, count = (np.zeros_like(band) for _ in range(2))
            for plane, into in ((band, total), (known.astype(dtype), count)):
                into[1:] += plane[:-1]
                into[:-1] += plane[1:]
                into[:, 1:] += plane[:, :-1]
                into[:, :-1] += plane[:, 1:]
            new = ~known & (count > 0)
            band[new] = total[new] / count[new]
            known |= new
        band[~known] = level
        np.testing.assert_array_equal(ours, band)


def test_a_band_without_valid_pixels_has_its_usual_level() -> None:
    found = _filled(np.ones((1, 4, 5)), np.zeros((1, 4, 5), bool), 3, (7.0,), np.dtype(np.float64))
    assert (found == 7).all()
