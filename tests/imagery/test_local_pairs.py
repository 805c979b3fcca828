"""Pairs whose shift, levels and state differ from place to place."""

import numpy as np
import pytest
from scipy import ndimage
from training_kit import as_dtype, ground, write

from geosegsr.errors import SceneError
from geosegsr.imagery.levels import local_levels
from geosegsr.imagery.matching import match_images
from geosegsr.imagery.pair_blur import pair_degradation
from geosegsr.imagery.pairs import align
from geosegsr.imagery.registration import ShiftField, shift_field, warped
from geosegsr.raster.scene import Scene
from geosegsr.sensor.degradation import Degradation, imresize_down

ALL = np.ones((96, 96), bool)


def fields(seed=0, size=192, bands=2):
    """hr and lr of the same ground, scale 2."""
    hr = (0.2 + 0.6 * ground(bands, size, size, seed)).astype(np.float32)
    return hr, imresize_down(hr, 2)


def test_shifts_that_change_over_the_image_are_found_and_undone():
    hr, lr = fields(size=384)
    rows, cols = np.indices((192, 192)) / 192
    truth = np.stack([0.8 * (rows - 0.5), -0.9 * (cols - 0.5)])
    bent = warped(hr, ShiftField(-truth, 1.0), 2)
    small = imresize_down(bent, 2)
    found = shift_field(lr.mean(axis=0), small.mean(axis=0), np.ones((192, 192), bool))
    inner = (slice(None), slice(20, -20), slice(20, -20))
    assert found.good > 0.9
    assert np.abs(found.shifts - truth)[inner].max() < 0.15
    mended = imresize_down(warped(bent, found, 2), 2)
    before, after = (np.abs(image - lr)[inner].mean() for image in (small, mended))
    assert after < 0.4 * before


def test_tiles_of_other_ground_are_left_out_and_do_not_bend_their_neighbours():
    _, lr = fields(size=384)
    other = lr.copy()
    other[:, 60:140, 60:140] = fields(9, size=384)[1][:, 60:140, 60:140]
    found = shift_field(lr.mean(axis=0), other.mean(axis=0), np.ones((192, 192), bool))
    assert 0.3 < found.good < 0.9
    assert found.largest < 0.1


def test_levels_that_drift_over_the_image_become_those_of_lr():
    hr, lr = fields()
    ramp = np.linspace(0.6, 1.4, 96)[None, None, :].astype(np.float32)
    seen = lr * ramp + 0.1 * (2 - ramp)  # another sun, and haze
    levels = local_levels(seen, lr, ALL)
    inner = (slice(None), slice(16, -16), slice(16, -16))
    expected = hr * np.repeat(ramp, 2, axis=2) + 0.1 * (2 - np.repeat(ramp, 2, axis=2))
    outer = (slice(None), slice(32, -32), slice(32, -32))
    assert np.abs(levels.apply(hr, 2) - expected)[outer].mean() < 0.01
    assert np.abs(hr - expected)[outer].mean() > 0.03
    assert levels.same[inner[1:]].mean() > 0.95


def test_a_cloud_and_a_new_building_are_left_out():
    _, lr = fields()
    spoilt = lr.copy()
    spoilt[:, 20:40, 30:55] = 0.95
    levels = local_levels(spoilt, lr, ALL)
    assert not levels.same[22:38, 32:53].any()
    far = ALL.copy()
    far[8:52, 18:67] = False
    assert levels.same[far].mean() > 0.9


@pytest.mark.parametrize("mtf", [0.1, 0.25, 0.45])
def test_the_blur_between_both_is_measured(mtf):
    hr, _ = fields()
    lr = Degradation(kernel=("mtf",), mtf=(mtf, mtf)).sample(hr, 2, np.random.default_rng(0))
    found = pair_degradation(lr, hr, ALL, 2)
    assert found.kernel == ("mtf",)
    assert found.mtf[0] == pytest.approx(mtf, abs=0.05)


def test_strangers_show_no_blur():
    assert pair_degradation(fields(1)[1], fields(2)[0], ALL, 2) is None


def scenes_of(folder, hr, lr):
    hr_path = write(folder / "hr" / "a.tif", as_dtype(np.clip(hr, 0, 1), "uint8"), pixel=5.0)
    lr_path = write(folder / "lr" / "a.tif", as_dtype(np.clip(lr, 0, 1), "uint8"), pixel=10.0)
    return Scene.open(hr_path), Scene.open(lr_path)


def test_a_pair_says_what_was_found(tmp_path):
    hr, lr = fields()
    lr = lr * np.linspace(0.8, 1.2, 96)[:, None].astype(np.float32)
    lr[:, 20:40, 30:55] = 0.95
    pair = align(*scenes_of(tmp_path, hr, lr), 2, {"kind": "dtype"}, max_shift=3.0, match_levels=True)
    assert pair.overlap == 1.0
    assert 0.03 < pair.left_out < 0.3
    assert 0.2 < pair.correlation < 0.9
    assert pair.valid.all()
    assert not pair.same[22:38, 32:53].any()
    inner = ndimage.binary_erosion(pair.same, iterations=6)
    assert np.abs(imresize_down(pair.hr, 2) - pair.lr)[:, inner].mean() < 0.012


def test_an_image_that_is_upside_down_is_told(tmp_path):
    hr, lr = fields()
    for turned, how in (
        (lr[:, ::-1, ::-1], "turned by 180 degrees"),
        (lr[:, ::-1], "mirrored top to bottom"),
    ):
        with pytest.raises(SceneError, match=f"one of them is {how}"):
            align(*scenes_of(tmp_path, hr, turned), 2, {"kind": "dtype"}, max_shift=3.0, match_levels=True)


def test_all_dates_of_one_place_make_pairs(tmp_path):
    field = as_dtype(ground(1, 40, 40), "uint8")
    hr = [write(tmp_path / "hr" / "town.tif", field)]
    names = ("s2_20240501_10m", "s2_20240610_10m", "s2_2024-07-02_10m", "other_10m")
    lr = [write(tmp_path / "lr" / f"{name}.tif", field) for name in names]
    pairs, alone = match_images([Scene.open(p) for p in hr], [Scene.open(p) for p in lr])
    assert pairs in ([(0, 0), (0, 1), (0, 2)], [(0, 3)])
    assert not alone
    same_name = [write(tmp_path / year / "town.tif", field) for year in ("2020", "2021")]
    pairs, _ = match_images([Scene.open(p) for p in hr], [Scene.open(p) for p in same_name])
    assert pairs == [(0, 0), (0, 1)]
    both = [write(tmp_path / "hr" / f"x_t{n}_B08.tif", field) for n in (1, 2)]
    other = [write(tmp_path / "lr" / f"x_t{n}_B8A.tif", field) for n in (2, 1)]
    pairs, _ = match_images([Scene.open(p) for p in both], [Scene.open(p) for p in other])
    assert pairs == [(0, 1), (1, 0)]
